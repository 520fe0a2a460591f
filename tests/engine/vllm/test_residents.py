"""Rows as changes: what vLLM's runner is told, and when it meets a sequence anew."""

from __future__ import annotations

from fairlead.engine.vllm.residents import Part, Residents, passes
from fairlead.instance.sequence import Sequence
from fairlead.model import Request, RequestId, Row, RowKind


def a_sequence(name: str = "r1", blocks: list[int] | None = None) -> Sequence:
    request = Request(RequestId(name), 0.0, 8, 4, token_ids=list(range(8)))
    sequence = Sequence(request, 1, (), 1)
    sequence.blocks = blocks or [5, 6]
    return sequence


def a_row(sequence: Sequence, start: int = 0, n: int = 8, samples: bool = True) -> Row:
    return Row(sequence.id, RowKind.PREFILL, start, n, samples)


class Runner:
    """Believes what it is told, as vLLM's does."""

    def __init__(self) -> None:
        self.residents = Residents()
        self.blocks: dict[str, list[int]] = {}

    def step(self, *sequences: Sequence) -> list[Part]:
        told = self.residents.tell(
            [a_row(sequence) for sequence in sequences], {s.id: s for s in sequences}
        )
        for name in told.gone:
            del self.blocks[name]
        for part in told.parts:
            name = part.resident.name
            assert part.is_new == (name not in self.blocks)
            self.blocks[name] = [*self.blocks.get(name, ()), *part.blocks]
            assert self.blocks[name] == part.resident.sequence.blocks
        return told.parts


def test_a_sequence_is_met_once_and_then_only_its_new_blocks_are_told() -> None:
    runner, sequence = Runner(), a_sequence(blocks=[5])
    (first,) = runner.step(sequence)
    assert (first.is_new, first.blocks) == (True, [5])
    (second,) = runner.step(sequence)
    assert (second.is_new, second.blocks) == (False, ())
    sequence.blocks += [9, 7]
    (third,) = runner.step(sequence)
    assert (third.resident.name, third.blocks) == (first.resident.name, [9, 7])


def test_who_was_preempted_is_met_under_a_new_name() -> None:
    runner, sequence, other = Runner(), a_sequence(), a_sequence("r2", [1])
    (before, _) = runner.step(sequence, other)
    runner.step(other)
    sequence.n_preemptions += 1
    sequence.blocks = [3]
    (after,) = runner.step(sequence)
    assert after.is_new
    assert after.resident.name != before.resident.name
    assert list(runner.blocks.values()) == [[1], [3]], "the old name has gone"


def test_another_sequence_of_the_same_request_is_somebody_else() -> None:
    runner = Runner()
    runner.step(a_sequence(blocks=[1]))
    runner.residents.forget(RequestId("r1"))
    (part,) = runner.step(a_sequence(blocks=[2]))
    assert part.is_new
    (again,) = runner.step(a_sequence(blocks=[4]))
    assert again.is_new
    assert list(runner.blocks.values()) == [[4]]


def test_who_left_is_gone_with_the_next_step() -> None:
    runner, stays = Runner(), a_sequence("r2")
    runner.step(a_sequence(), stays)
    runner.residents.forget(RequestId("r1"))
    runner.residents.forget(RequestId("never here"))
    runner.step(stays)
    assert len(runner.blocks) == 1


def test_a_step_that_fits_is_one_pass() -> None:
    rows = [a_row(a_sequence("r1")), a_row(a_sequence("r2"), n=2)]
    assert passes(rows, 10) == [rows]


def test_more_tokens_than_fit_are_cut_in_order_and_sample_once() -> None:
    one, two = a_sequence("r1"), a_sequence("r2")
    rows = [a_row(one, 3, 7), a_row(two, 0, 2)]
    assert passes(rows, 4) == [
        [a_row(one, 3, 4, False)],
        [a_row(one, 7, 3, True), a_row(two, 0, 1, False)],
        [a_row(two, 1, 1, True)],
    ]
