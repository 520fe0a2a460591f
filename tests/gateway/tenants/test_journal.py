"""What a gateway had sent when it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.gateway.tenants.journal import FIRST_SLOTS, Journal
from fairlead.model import ConfigError
from fairlead.store.call_record import CallRecord

NAMES = ("acme", "key", "model", "tier")
DIES = """
import os, signal, sys
from pathlib import Path
from fairlead.gateway.tenants.journal import Journal
from fairlead.store.call_record import CallRecord
journal = Journal(Path(sys.argv[1]))
names = ("acme", "key", "model", "tier")
slots = [journal.begin(f"c{i}", *names, 10 + i, 5.0) for i in range(2000)]
for i, slot in enumerate(slots):
    journal.sent(slot, i)
journal.end(slots[7], CallRecord("c7", *names, "cancelled", 9.0, 17, 16, 8))
journal.free(slots[8])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_loses_no_token(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    assert subprocess.run([sys.executable, "-c", DIES, str(path)], check=False).returncode == -9
    journal = Journal(path)
    left = {call.id: call for call in journal.left}
    # The first has sent nothing, and one was in the ledger already.
    assert set(left) == {f"c{i}" for i in range(1, 2000) if i != 8}
    assert left["c3"] == CallRecord("c3", *NAMES, "lost", 5.0, 13, 0, 3)
    assert left["c7"] == CallRecord("c7", *NAMES, "cancelled", 9.0, 17, 16, 8)
    assert left["c1999"].output_tokens == 1999
    journal.close()
    again = Journal(path)  # It died before the ledger had them.
    assert len(again.left) == 1998
    again.forget_left()
    again.close()
    last = Journal(path)
    assert last.left == []
    last.close()
    assert os.listdir(tmp_path) == []


def test_gateways_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    one, two = Journal(tmp_path / "calls"), Journal(tmp_path / "calls")
    one.sent(one.begin("a", *NAMES, 1, 0.0), 5)
    three = Journal(tmp_path / "calls")
    assert (two.left, three.left) == ([], [])
    for journal in (one, two, three):
        journal.close()
    (left,) = Journal(tmp_path / "calls").left
    assert (left.id, left.output_tokens) == ("a", 5)


def test_slots_are_used_again_and_there_are_always_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "calls")
    for _ in range(3):
        slots = [journal.begin("x", *NAMES, 1, 0.0) for _ in range(FIRST_SLOTS + 1)]
        assert len(set(slots)) == len(slots)
        for slot in slots:
            journal.free(slot)
    assert (tmp_path / "calls.0").stat().st_size == 2 * FIRST_SLOTS * 512
    journal.close()


def test_names_that_are_long_fit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "calls")
    slot = journal.begin("g" * 40, "a" * 64, "k" * 12, "ä" * 5000, "tier", 1, 0.0)
    journal.sent(slot, 1)
    journal.close()
    (left,) = Journal(tmp_path / "calls").left
    assert left.model == "ä" * 128


def test_garbage_in_the_file_is_not_a_call(tmp_path: Path) -> None:
    (tmp_path / "calls.0").write_bytes(b"\x01" * 5000)
    journal = Journal(tmp_path / "calls")
    assert journal.left == []
    journal.close()


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot keep a journal"):
        Journal(tmp_path / "file" / "calls")
