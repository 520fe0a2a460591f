"""Files and batches in the database, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairlead.store.batch import (
    CANCELLING,
    COMPLETED,
    FINALIZING,
    RUNNING,
    VALIDATING,
    Batch,
    Checkpoint,
    StoredFile,
)
from fairlead.store.batches import BatchStore
from fairlead.store.database import Database

BATCH = Batch("batch_1", "acme", "k", "/v1/completions", "file-1", "24h", 10.0, 100.0)


@pytest.fixture
def store(database: Database) -> BatchStore:
    return BatchStore(database)


def test_one_gateway_gets_a_batch(store: BatchStore) -> None:
    store.add_batch(BATCH)
    seen_by_one, seen_by_two = store.claimable(20.0, "h1"), store.claimable(20.0, "h2")
    assert store.claim(seen_by_one[0], "g1", "h1", 35.0) is not None
    assert store.claim(seen_by_two[0], "g2", "h2", 35.0) is None


def test_another_host_waits_for_the_lease_and_the_same_one_need_not(store: BatchStore) -> None:
    store.add_batch(BATCH)
    store.claim(BATCH, "g1", "h1", 35.0)
    assert store.claimable(34.0, "h2") == []
    assert len(store.claimable(36.0, "h2")) == 1
    assert len(store.claimable(34.0, "h1")) == 1, "whose lock on the files decides"
    taken = store.claim(store.claimable(36.0, "h2")[0], "g2", "h2", 51.0)
    assert taken is not None
    assert store.save("batch_1", "g1", Checkpoint(low=5), 60.0) is None
    assert store.save("batch_1", "g2", Checkpoint(low=7, ahead=(9,), completed=8), 60.0)
    found = store.batch("acme", "batch_1")
    assert found is not None
    assert (found.checkpoint.low, found.checkpoint.ahead, found.completed) == (7, (9,), 8)


def test_a_gateway_hears_that_its_batch_was_cancelled(store: BatchStore) -> None:
    store.add_batch(BATCH)
    store.claim(BATCH, "g1", "h1", 35.0)
    assert store.enter("batch_1", "g1", (VALIDATING,), RUNNING, 21.0, {"total": 3})
    assert not store.ask_to_cancel("other", "batch_1", 22.0)
    assert store.ask_to_cancel("acme", "batch_1", 22.0)
    assert store.save("batch_1", "g1", None, 40.0) == CANCELLING
    assert not store.enter("batch_1", "g1", (RUNNING,), FINALIZING, 23.0)
    found = store.batch("acme", "batch_1")
    assert found is not None
    assert found.times == {RUNNING: 21.0, CANCELLING: 22.0}


def test_results_and_the_end_come_together_and_once(store: BatchStore) -> None:
    store.add_batch(BATCH)
    store.claim(BATCH, "g1", "h1", 35.0)
    output, error = (StoredFile(id, "acme", "batch_output", id, 5, 30.0) for id in BATCH.results)
    assert not store.finish("batch_1", "g2", COMPLETED, 30.0, [output])
    assert store.finish("batch_1", "g1", COMPLETED, 30.0, [output, error])
    assert not store.finish("batch_1", "g1", COMPLETED, 31.0, [output, error])
    found = store.batch("acme", "batch_1")
    assert found is not None
    assert (found.output_file, found.error_file) == BATCH.results
    assert not store.ask_to_cancel("acme", "batch_1", 32.0)
    assert store.claimable(1e9, "h1") == []
    assert store.used("acme") == (2, 10)


def test_pages_go_on_behind_the_last(store: BatchStore) -> None:
    for i in range(7):
        store.add_batch(replace(BATCH, id=f"batch_{i}", created_s=float(i // 2)))
    seen: list[str] = []
    while rows := store.batches("acme", seen[-1] if seen else "", 2):
        seen += [row.id for row in rows[:2]]
    assert seen == [f"batch_{i}" for i in (6, 5, 4, 3, 2, 1, 0)]


def test_a_file_that_a_batch_reads_stays(store: BatchStore) -> None:
    store.add_file(StoredFile("file-1", "acme", "batch", "in", 5, 1.0))
    store.add_batch(BATCH)
    assert store.delete_file("acme", "file-1") == "batch_1"
    assert store.file("acme", "file-1") is not None
    store.claim(BATCH, "g1", "h1", 35.0)
    store.finish("batch_1", "g1", COMPLETED, 30.0, [])
    assert store.delete_file("other", "file-1") is None
    assert store.file("acme", "file-1") is not None
    assert store.delete_file("acme", "file-1") is None
    assert store.file("acme", "file-1") is None
