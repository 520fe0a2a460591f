"""Asks PyPI's advisories about everything that is installed: `make audit`.

exit status: 0 nothing is known against what was asked about; 1 something is; 2 nobody could be
asked, as on machines that reach a package index and nothing else. What was left out is always said.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--format", "json"),
    *("--progress-spinner", "off", "--timeout", "5"),
)
LONGEST_S = 180.0
OURS = "fairlead"
SHOWN = 8


def main() -> int:
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        print(f"audit: NOT DONE, no answer after {LONGEST_S:g} s")
        return 2
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        print(f"audit: NOT DONE: {lines[-1][:300]}")
        return 2
    status, words = verdict(found)
    print(words)
    return status


def verdict(found: list[dict[str, Any]]) -> tuple[int, str]:
    """Exit status and words for what pip-audit tells of each package.

    Where PyPI does not answer it says of every package that it is not there, and that nothing is
    known against any: that is no answer.
    """
    asked = [one for one in found if "vulns" in one]
    left_out = [one["name"] for one in found if "vulns" not in one and one["name"] != OURS]
    bad = [line for one in asked for line in _lines(one)]
    if bad:
        return 1, "\n".join([f"audit: {len(bad)} known vulnerabilities", *bad, *_said(left_out)])
    if not asked:
        return 2, f"audit: NOT DONE, the advisories cannot be reached ({len(found)} packages)"
    return 0, "\n".join([f"audit: nothing known against {len(asked)} packages", *_said(left_out)])


def _lines(package: dict[str, Any]) -> list[str]:
    return [
        f"  {package['name']} {package['version']}: {flaw['id']}, "
        f"fixed in {', '.join(flaw['fix_versions']) or 'no release'}"
        for flaw in package["vulns"]
    ]


def _said(left_out: list[str]) -> list[str]:
    if not left_out:
        return []
    more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
    return [f"  NOT asked about, unknown there: {', '.join(left_out[:SHOWN])}{more}"]


if __name__ == "__main__":
    sys.exit(main())
