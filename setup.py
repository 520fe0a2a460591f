"""Everything about the package stands in pyproject.toml; this adds one choice.

`FAIRLEAD_COMPILE=1 pip install --no-build-isolation .` compiles the core and most of what a request
passes at the gateway with mypyc (part of mypy, which must be installed, with a C compiler): the
same code, faster simulations, and requests that cost less.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import setup

CORE = ("instance", "memory", "fleet", "simulate")
"""Folders that are compiled, and below them single files: those that these call most, and those
that a request passes at the gateway. Not its connections and metrics: a compiled class that
inherits from an interpreted one does not clear its weak references; whoever follows one crashes."""
BESIDE = (
    "gateway/conversation.py",
    "gateway/cors.py",
    "gateway/driver.py",
    "gateway/http.py",
    "gateway/intake.py",
    "gateway/render.py",
    "gateway/sampling.py",
    "gateway/served.py",
    "gateway/tenants/caller.py",
    "gateway/tenants/door.py",
    "latency/forms.py",
    "latency/price.py",
    "model/step.py",
    "observe/digest.py",
    "observe/histogram.py",
    "observe/oscillation.py",
    "observe/prediction.py",
    "observe/window/window.py",
    "policies/admission/predicted.py",
    "policies/admission/sides.py",
    "policies/batching/lengths.py",
    "policies/batching/past_future.py",
    "policies/batching/slack.py",
    "policies/routing/least_load.py",
    "policies/routing/prefix_load.py",
    "workload/draws.py",
    "workload/percentiles.py",
    "workload/records.py",
)
INTERPRETED = (
    "__init__.py",
    "config.py",
    "draw_faults.py",
    "faults.py",
    "fuzz.py",
    "limits.py",
    "pool_config.py",
    "read_faults.py",
    "run.py",
    "scenario.py",
    "settings.py",
    "shrink.py",
    "table.py",
)
"""Read files, fill dataclasses or run once: nothing to gain."""


def sources() -> list[str]:
    root = Path("src/fairlead")
    found = [path for folder in CORE for path in sorted((root / folder).glob("*.py"))]
    return [str(p) for p in found if p.name not in INTERPRETED] + [str(root / p) for p in BESIDE]


extensions = []
if os.environ.get("FAIRLEAD_COMPILE"):
    try:
        from mypyc.build import mypycify
    except ImportError:
        sys.exit("FAIRLEAD_COMPILE=1 needs mypy beside it: pip install mypy setuptools")
    extensions = mypycify(["--config-file=mypyc.ini", *sources()], opt_level="3")

setup(ext_modules=extensions)
