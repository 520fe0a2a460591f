"""What an engine that tells little is doing: reports made of its token streams, and of its
`/metrics` page where it has one."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fairlead.instance.pace import Slowdown
from fairlead.latency.model import LatencyModel, StepShape
from fairlead.model import BlockHash, InstanceSpec, Report, RequestId
from fairlead.worker.opaque.answer import Answer
from fairlead.worker.opaque.metrics import ServerLoad


class Prefixes:
    """Whether prompts have lately been computed here: the last of their blocks that fit."""

    def __init__(self, n_blocks: int) -> None:
        self._n_blocks = n_blocks
        self._latest: dict[BlockHash, None] = {}

    def computed(self, names: Iterable[BlockHash]) -> None:
        latest = self._latest
        for name in names:
            latest.pop(name, None)
            latest[name] = None
        while len(latest) > self._n_blocks:
            del latest[next(iter(latest))]

    def n_leading(self, names: Collection[BlockHash]) -> int:
        n = 0
        for name in names:
            if name not in self._latest:
                break
            n += 1
        return n


class CacheNews:
    """Blocks that the server said it stored or evicted, kept until the next report."""

    def __init__(self) -> None:
        self.here: dict[BlockHash, None] = {}
        self.n_told = 0
        """Blocks told as stored or evicted, all in all."""
        self._stored: dict[BlockHash, None] = {}
        self._evicted: dict[BlockHash, None] = {}

    def stored(self, names: Iterable[BlockHash]) -> None:
        fresh = [name for name in names if name not in self.here]
        self.here.update(dict.fromkeys(fresh))
        self._stored.update(dict.fromkeys(fresh))

    def evicted(self, names: Iterable[BlockHash]) -> None:
        gone = [name for name in names if name in self.here]
        for name in gone:
            del self.here[name]
        self._evicted.update(dict.fromkeys(gone))

    def clear(self) -> None:
        self.evicted(list(self.here))

    def drain(self, whole: bool) -> tuple[tuple[BlockHash, ...], tuple[BlockHash, ...]]:
        """(stored, evicted) since the last time; all that is here where `whole` is asked for."""
        # One that came and went in between is told as what it is now.
        stored = tuple(name for name in self._stored if name in self.here)
        evicted = tuple(name for name in self._evicted if name not in self.here)
        self._stored, self._evicted = {}, {}
        self.n_told += len(stored) + len(evicted)
        return (tuple(self.here), ()) if whole else (stored, evicted)


class Load:
    """The picture of one server that its worker keeps."""

    def __init__(self, spec: InstanceSpec, latency: LatencyModel, tells_cache: bool) -> None:
        self._spec = spec
        self._latency = latency
        self.prefixes = Prefixes(spec.n_blocks)
        self.cache = CacheNews() if tells_cache else None
        """None where the server publishes no events of its cache."""
        self.server = ServerLoad()
        """What its page said last."""
        self.own_running = self.own_waiting = 0
        """Ours at the time of that page."""
        self._pace = Slowdown()
        self._busy_s = 0.0
        self._busy_since_s: float | None = None
        self._prompt_tokens = self._hit_tokens = 0

    # ---------------------------------------------------------------- what happens

    def asked(self, answer: Answer, now: float) -> None:
        self._prompt_tokens += answer.request.prompt_tokens
        if self._busy_since_s is None:
            self._busy_since_s = now

    def began(self, answer: Answer) -> None:
        """A first token has come: its prompt is computed."""
        self.prefixes.computed(answer.request.block_hashes)

    def ended(self, answer: Answer) -> None:
        self._hit_tokens += answer.cached_tokens

    def rests(self, now: float) -> None:
        """Nothing is inside any more."""
        if self._busy_since_s is not None:
            self._busy_s += now - self._busy_since_s
            self._busy_since_s = None

    def gap(self, seconds: float, n_tokens: int, running: int, context_tokens: int) -> None:
        """So long did `n_tokens` of one stream take beside so many others of ours."""
        batch = min(running + self._others_running, self._spec.max_sequences)
        shape = StepShape(batch, context_tokens, 0, 0.0, 0, batch)
        self._pace.add(seconds / n_tokens, self._latency.step_s(shape))

    def hear(self, server: ServerLoad, running: int, waiting: int) -> None:
        """Its page has come; `running` and `waiting` are ours now."""
        self.server, self.own_running, self.own_waiting = server, running, waiting

    # ---------------------------------------------------------------- the report

    def report(self, answers: Collection[Answer], now: float, whole_cache: bool) -> Report:
        spec, cache = self._spec, self.cache
        running = [answer for answer in answers if answer.begun]
        waiting = [answer for answer in answers if not answer.begun]
        context = sum(answer.context_tokens for answer in running)
        stored, evicted = cache.drain(whole_cache) if cache is not None else ((), ())
        return Report(
            instance=spec.id,
            as_of_s=now,
            free_blocks=self._free_blocks(context),
            cached_blocks=0,
            running=len(running) + self._others_running,
            waiting=len(waiting) + self._others_waiting,
            queued_tokens=self._queued_tokens(waiting),
            context_tokens=context,
            requests=tuple((RequestId(a.id), a.attempt) for a in answers),
            stored=stored,
            evicted=evicted,
            cache_events=cache.n_told if cache is not None else None,
            whole_cache=whole_cache and cache is not None,
            slowdown=self._pace.ratio,
            busy_s=self._busy_s + (now - self._busy_since_s if self._busy_since_s else 0.0),
            preemptions=self.server.preemptions or 0,
            prompt_tokens=self._prompt_tokens,
            hit_tokens=self._hit_tokens,
        )

    @property
    def _others_running(self) -> int:
        """Of clients that ask the server without us."""
        return max((self.server.running or 0) - self.own_running, 0)

    @property
    def _others_waiting(self) -> int:
        return max((self.server.waiting or 0) - self.own_waiting, 0)

    def _free_blocks(self, context_tokens: int) -> int:
        """By the server's word, else by what of ours is inside."""
        fraction = self.server.kv_fraction
        used = -(-context_tokens // self._spec.block_tokens)
        if fraction is not None:
            used = max(round(fraction * self._spec.n_blocks), 0)
        return max(self._spec.n_blocks - used, 0)

    def _queued_tokens(self, waiting: Collection[Answer]) -> int:
        """Ours by what is not cached; of others' only the number is known."""
        block = self._spec.block_tokens
        ours = [
            max(answer.context_tokens - block * self._n_cached(answer.request.block_hashes), 1)
            for answer in waiting
        ]
        mean = sum(ours) / len(ours) if ours else float(block)
        return sum(ours) + round(self._others_waiting * mean)

    def _n_cached(self, names: Collection[BlockHash]) -> int:
        if self.cache is None:
            return self.prefixes.n_leading(names)
        n = 0
        for name in names:
            if name not in self.cache.here:
                break
            n += 1
        return n
