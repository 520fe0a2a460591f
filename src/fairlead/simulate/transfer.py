"""A hand-off in virtual time: what `worker/handoff.py` does over sockets, between two machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fairlead.instance.handoff import Command, Commit, Copy, Freeze, Outgoing, Reserve
from fairlead.model import HandedOff, Handoff, RefuseWhy
from fairlead.simulate.heap import MESSAGE

if TYPE_CHECKING:
    from fairlead.simulate.machine import Machine, World

PATIENCE_S = 10.0
"""An answer that has not come by then does not come; live ends notice that a connection broke."""


class _Answer(NamedTuple):
    """What the target says to the source's latest command."""

    turn: int
    n_cached: int | None
    """None: it will not have it."""


class Transfer:
    """One hand-off under way. Messages of either end find nobody where that end has died."""

    def __init__(self, world: World, source: Machine, order: Handoff) -> None:
        self.order = order
        self._world = world
        self._source = source
        self._node = source.node
        """As it was when the hand-off began: a machine that came back knows nothing of it."""
        self._target = world.machines[order.target]
        self._outgoing = Outgoing(source.node.instance, order)
        self._turn = 0
        """Counts commands; an answer to an earlier one is not heard."""
        self._commits = False
        self._frozen_s = 0.0

    def begin(self) -> None:
        self._carry_out(self._outgoing.begin(self._node.done()))

    # ---------------------------------------------------------------- the source

    def _carry_out(self, command: Command | None) -> None:
        self._turn += 1
        if command is None:
            self._give_up()
            return
        if isinstance(command, Freeze):
            self._node.between_steps(self._freeze)
            return
        n_bytes = 0.0
        if isinstance(command, Copy):
            n_bytes = float((command.end - command.start) * self._bytes_per_token)
        elif isinstance(command, Commit):
            self._commits = True
            n_tokens = command.exported.n_computed - command.start
            n_bytes = float(n_tokens * self._bytes_per_token)
        self._source.to_peers.carry(self._arrive, (self._turn, command), n_bytes)
        heap = self._world.heap
        late_s = heap.now + self._source.to_peers.busy_s() + PATIENCE_S
        heap.at(late_s, MESSAGE, self._late, self._turn)

    @property
    def _bytes_per_token(self) -> int:
        return self._source.spec.kv_bytes_per_token

    @property
    def _is_over(self) -> bool:
        """Nobody is here any more who could go on."""
        return self._source.node is not self._node or not self._source.alive

    def _freeze(self) -> None:
        if self._is_over:
            return
        now = self._world.heap.now
        command = self._outgoing.frozen(now)
        if command is not None:
            self._frozen_s = now
            self._node.tell_all()
        self._carry_out(command)

    def _late(self, turn: int) -> None:
        if turn == self._turn and not self._is_over:
            self._give_up()

    def _hear(self, answer: _Answer) -> None:
        if self._is_over or answer.turn != self._turn:
            return
        now = self._world.heap.now
        if answer.n_cached is None:
            self._give_up()
        elif self._commits:
            self._turn += 1
            self._outgoing.committed(now)
            self._end(done=True)
        elif self._turn == 1:
            self._carry_out(self._outgoing.reserved(answer.n_cached, self._node.done()))
        else:
            self._carry_out(self._outgoing.copied(self._node.done()))

    def _give_up(self) -> None:
        self._turn += 1
        self._outgoing.failed(self._world.heap.now)
        self._source.to_peers.carry(self._forget, None, 0.0)
        self._end(done=False)

    def _end(self, *, done: bool) -> None:
        order = self.order
        self._node.transfers.pop(order.request, None)
        self._node.tell([HandedOff(order.instance, order.request, order.attempt, done)])
        self._node.go_on()

    # ---------------------------------------------------------------- the target

    def _arrive(self, sent: tuple[int, Command]) -> None:
        turn, command = sent
        if not self._target.hears_peers:
            return
        answer = self._answer(command)
        if self._target.resting:
            self._world.wake(self._target)
        self._target.to_peers.carry(self._hear, _Answer(turn, answer), 0.0)

    def _answer(self, command: Command) -> int | None:
        node, now = self._target.node, self._world.heap.now
        node.keep_up()
        instance, order = node.instance, self.order
        if isinstance(command, Commit):
            if not instance.adopt(command.exported, order.to_attempt, now):
                return None
            self._world.pauses.add(now - self._frozen_s)
            node.go_on()
            return 0
        if isinstance(command, Reserve):
            n_tokens = command.n_tokens
        else:
            assert isinstance(command, Copy)
            if instance.incoming_blocks(order.request, order.to_attempt) is None:
                return None
            n_tokens = command.end
        reserved: Any = instance.reserve(command.request, order.to_attempt, n_tokens, now)
        node.go_on()
        return None if isinstance(reserved, RefuseWhy) else reserved

    def _forget(self, _: None) -> None:
        if self._target.hears_peers:
            node, order = self._target.node, self.order
            node.keep_up()
            node.instance.abort(order.request, self._world.heap.now, order.to_attempt)
            node.go_on()
