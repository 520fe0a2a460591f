"""The prefix blocks of one instance, as far as the fleet knows them.

What is *stored* there the instance says itself, in cache events that are numbered: those of a
report follow on those of the one before, or some were lost. Then the fleet goes by what it heard,
and asks for the whole cache, which sets everything right. An engine that sends no cache events is
taken to have stored the prompts that it has computed, the latest of them.

What was dispatched and is not computed yet is *expected*, and counts as if it were there: until the
first token has come, or the request has gone, and the next report has told what became of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from fairlead.fleet.prefix_index import PrefixIndex
from fairlead.model import BlockHash, Report, RequestId, RequestView

ASK_AGAIN_S = 1.0
"""An answer that has not come after this was lost on the way."""
STORED, EXPECTED = 1, 2
"""What a block counts for in `HeldPrefixes._here`: once if it is stored, and for each of those who
are expected to bring it."""


class HeldPrefixes:
    """See the module."""

    __slots__ = (
        "_asked_s",
        "_block_tokens",
        "_coming",
        "_heard",
        "_here",
        "_index",
        "_is_unsure",
        "_n_blocks",
        "_n_stored",
        "_settled",
        "_slot",
    )

    def __init__(self, index: PrefixIndex, n_blocks: int, block_tokens: int) -> None:
        """`n_blocks` are the instance's: it cannot have stored more."""
        self._index = index
        self._slot = index.join()
        self._n_blocks = n_blocks
        self._block_tokens = block_tokens
        self._here: dict[BlockHash, int] = {}
        self._n_stored = 0
        self._coming: dict[RequestId, dict[BlockHash, int]] = {}
        """What dispatched requests are expected to bring."""
        self._settled: list[dict[BlockHash, int]] = []
        """What was expected, until the next report says what came of it."""
        self._heard: int | None = None
        """The number of the last cache event; None as long as none were sent."""
        self._is_unsure = False
        """Cache events were lost."""
        self._asked_s = float("-inf")

    def cached_tokens(self, request: RequestView) -> int:
        """How many leading tokens of its prompt are here, or about to be: not the last one, which
        is computed whatever is here."""
        names, index = request.block_hashes, self._index
        if not names:
            return 0
        if index.leading is not None and names is index.prompt:
            found = index.leading[self._slot] * self._block_tokens
        else:
            found = index.n_leading(self._slot, names, self._here) * self._block_tokens
        most = request.prompt_tokens - 1
        return found if found <= most else max(most, 0)

    # ---------------------------------------------------------------- the fleet's own doing

    def expect(self, request: RequestId, names: Sequence[BlockHash]) -> None:
        """A request with this prompt was sent here."""
        here = self._here
        rest = names if self._heard is None else self._not_stored(names)
        self._coming[request] = coming = dict.fromkeys(rest, EXPECTED)
        if here.keys().isdisjoint(coming):  # Mostly, and then it is quick.
            here.update(coming)
            self._index.add(self._slot, coming)
            return
        fresh = [name for name in coming if name not in here]
        for name in coming:
            here[name] = here.get(name, 0) + EXPECTED
        self._index.add(self._slot, fresh)

    def computed(self, request: RequestId) -> None:
        """Its first token has come."""
        names = self._coming.pop(request, None)
        if names is None:
            return
        if self._heard is None:
            self._store_latest(names)
        else:
            self._settled.append(names)

    def gone(self, request: RequestId) -> None:
        """It is not here any more, whatever was computed of it."""
        names = self._coming.pop(request, None)
        if names is None:
            return
        if self._heard is None:
            self._expect_no_more(names)
        else:
            self._settled.append(names)

    def leave(self) -> None:
        """The instance is gone, and all it held."""
        self._index.leave(self._slot, self._here)
        self._here = {}
        self._coming.clear()
        self._settled.clear()

    # ---------------------------------------------------------------- the instance's word

    def hear(self, report: Report) -> None:
        """Takes in what a report says of the cache."""
        if report.cache_events is not None:
            self._take_in(report, report.cache_events)
        for names in self._settled:
            self._expect_no_more(names)
        self._settled.clear()

    def _take_in(self, report: Report, heard_to: int) -> None:
        """An old report, or one heard before, says nothing new."""
        if self._heard is None:
            # What was taken to be here makes room for what the instance says.
            self._replace(())
            self._heard = 0
        if report.whole_cache:
            if heard_to >= self._heard:
                self._replace(report.stored)
                self._heard, self._is_unsure = heard_to, False
        elif heard_to > self._heard:
            follows = heard_to - len(report.stored) - len(report.evicted) == self._heard
            self._is_unsure = self._is_unsure or not follows
            self._heard = heard_to
            self._store(report.stored)
            self._evict(report.evicted)
        if self._n_stored > self._n_blocks:
            # That cannot be. What was said is not to be trusted, and not to fill our memory.
            self._replace(())
            self._is_unsure = True

    def must_ask(self, now: float) -> bool:
        """Whether the instance is to be asked for its whole cache now. Who hears yes asks."""
        if not self._is_unsure or now < self._asked_s + ASK_AGAIN_S:
            return False
        self._asked_s = now
        return True

    # ---------------------------------------------------------------- blocks

    def _store(self, names: Collection[BlockHash]) -> None:
        here = self._here
        if self._all_count(names, EXPECTED):
            stored = dict.fromkeys(names, STORED + EXPECTED)
            here.update(stored)
            self._n_stored += len(stored)
            return
        fresh = []
        for name in names:
            counts = here.get(name, 0)
            if not counts & STORED:
                here[name] = counts + STORED
                self._n_stored += 1
                if not counts:
                    fresh.append(name)
        if fresh:
            self._index.add(self._slot, fresh)

    def _evict(self, names: Iterable[BlockHash]) -> None:
        """Those that are not here are none the less gone."""
        here, gone = self._here, []
        for name in names:
            counts = here.get(name, 0)
            if not counts & STORED:
                continue
            self._n_stored -= 1
            if counts == STORED:
                del here[name]
                gone.append(name)
            else:
                here[name] = counts - STORED
        if gone:
            self._index.remove(self._slot, gone)

    def _expect_no_more(self, names: Collection[BlockHash]) -> None:
        here = self._here
        if self._all_count(names, STORED + EXPECTED):
            here.update(dict.fromkeys(names, STORED))
            return
        gone = []
        for name in names:
            counts = here[name] - EXPECTED
            if counts:
                here[name] = counts
            else:
                del here[name]
                gone.append(name)
        if gone:
            self._index.remove(self._slot, gone)

    def _all_count(self, names: Collection[BlockHash], counts: int) -> bool:
        """Whether each of them counts for this: the usual case, in which they are quickly changed
        all at once."""
        return [*map(self._here.get, names)].count(counts) == len(names)

    def _replace(self, stored: Iterable[BlockHash]) -> None:
        """Exactly these are stored."""
        now_stored = dict.fromkeys(stored)
        self._evict([name for name in self._here if name not in now_stored])
        self._store(now_stored)

    def _not_stored(self, names: Sequence[BlockHash]) -> Sequence[BlockHash]:
        """Without the leading blocks that are stored."""
        here, n = self._here, 0
        for name in names:
            if not here.get(name, 0) & STORED:
                break
            n += 1
        return names[n:]

    def _store_latest(self, names: dict[BlockHash, int]) -> None:
        """Of an engine that tells nothing: what was computed last is there, and no more than fits.
        Of one prompt the end is forgotten before the beginning, which others may share."""
        here = self._here
        self._store(names)
        self._expect_no_more(names)
        for name in reversed(names):
            here[name] = here.pop(name)
        if self._n_stored > self._n_blocks:
            self._forget_oldest(self._n_stored - self._n_blocks + self._n_blocks // 8)

    def _forget_oldest(self, n: int) -> None:
        """Many at a time: the oldest of a dict are found by walking over all deleted before."""
        stored = (name for name, counts in self._here.items() if counts & STORED)
        self._evict(list(islice(stored, n)))

    # ---------------------------------------------------------------- to be checked

    @property
    def slot(self) -> int:
        return self._slot

    @property
    def names(self) -> Iterable[BlockHash]:
        """All that is stored or expected."""
        return self._here

    def check_invariants(self, pending: Iterable[RequestId]) -> None:
        """Every block is here for a reason, and expected of those who wait for their first token
        here, and nobody else."""
        counts: dict[BlockHash, int] = {}
        for names in (*self._coming.values(), *self._settled):
            for name in names:
                counts[name] = counts.get(name, 0) + EXPECTED
        stored = [name for name, n in self._here.items() if n & STORED]
        for name in stored:
            counts[name] = counts.get(name, 0) + STORED
        assert counts == self._here, "11: a prefix block counts for more or less than it is"
        assert len(stored) == self._n_stored <= self._n_blocks
        assert set(self._coming) <= set(pending), "11: expected of somebody who is not waiting"
