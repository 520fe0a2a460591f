"""The audit of dependencies never takes silence for good news."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from scripts import audit

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}
OURS = {"name": "fairlead", "skip_reason": "not on PyPI"}


def test_nothing_known_is_good():
    assert audit.verdict([GOOD, OURS]) == (0, "audit: nothing known against 1 packages")


def test_what_is_known_is_named_with_its_fix():
    status, words = audit.verdict([GOOD, BAD, SKIPPED])
    assert status == 1
    assert "b 2: PYSEC-1, fixed in 2.1" in words
    assert "NOT asked about, unknown there: c" in words


def test_a_service_that_knows_no_package_at_all_was_not_reached():
    status, words = audit.verdict([SKIPPED, OURS])
    assert status == 2
    assert "NOT DONE" in words


@pytest.mark.parametrize("said", ["", "not JSON", "[]", "{}"])
def test_a_program_that_fails_is_no_answer(said, monkeypatch, capsys):
    done = SimpleNamespace(stdout=said, stderr="boom\nConnectionError")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: done)
    assert audit.main() == 2
    assert "NOT DONE: ConnectionError" in capsys.readouterr().out


def test_one_that_takes_too_long_is_no_answer(monkeypatch, capsys):
    sleep = (sys.executable, "-c", "import time; time.sleep(9)")
    monkeypatch.setattr(audit, "COMMAND", sleep)
    monkeypatch.setattr(audit, "LONGEST_S", 0.1)
    assert audit.main() == 2
    assert "NOT DONE" in capsys.readouterr().out
