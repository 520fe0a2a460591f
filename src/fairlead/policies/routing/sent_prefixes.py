"""Which instance was sent which prefix, as a router knows it that hears nothing from the engines'
caches."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict

from fairlead.model import InstanceId, RequestView


class SentPrefixes:
    """An approximate radix tree over the prompts that were routed. It is flat: the chain hash of a
    block names everything before it too.

    It holds `most_blocks` blocks. Those of the prompts sent longest ago go first, and of one prompt
    the end before the beginning, so that what is left is always a prefix. An instance that is gone
    goes with them."""

    def __init__(self, most_blocks: int) -> None:
        self._most_blocks = most_blocks
        self._holders: OrderedDict[bytes, dict[InstanceId, int]] = OrderedDict()
        """By block: the instances that it was sent to, and how many tokens it counted for."""
        self.tokens: dict[InstanceId, int] = {}
        """How much of the tree is each instance's."""

    def add(self, request: RequestView, instance: InstanceId) -> None:
        """The prompt was sent there."""
        names = blocks_of(request)
        tokens = max(request.prompt_tokens // len(names), 1)
        for name in reversed(names):  # The beginning last: it is what was used last.
            holders = self._holders.setdefault(name, {})
            self._holders.move_to_end(name)
            if instance not in holders:
                holders[instance] = tokens
                self.tokens[instance] = self.tokens.get(instance, 0) + tokens
        while len(self._holders) > self._most_blocks:
            self._forget_oldest()

    def matches(self, request: RequestView) -> dict[InstanceId, int]:
        """Leading blocks of the prompt that each instance was sent, of those that were sent any."""
        names = blocks_of(request)
        return {
            instance: bisect_left(names, True, key=lambda name: not self._has(instance, name))
            for instance in self._holders.get(names[0], {})
        }

    def _has(self, instance: InstanceId, name: bytes) -> bool:
        holders = self._holders.get(name)
        return holders is not None and instance in holders

    def _forget_oldest(self) -> None:
        _, holders = self._holders.popitem(last=False)
        for instance, tokens in holders.items():
            self.tokens[instance] -= tokens
            if not self.tokens[instance]:
                del self.tokens[instance]


def blocks_of(request: RequestView) -> tuple[bytes, ...]:
    """The names of the prompt's blocks; of a prompt without any full block one that nobody else
    has, for all of it."""
    return request.block_hashes or (request.id.encode(),)
