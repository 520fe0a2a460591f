"""The text of one sequence: from tokens to what its client sees, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.text.tokenizer import Tokenizer


class Assembler:
    """Text leaves as soon as it is certain, as a function of the output tokens alone.

    Held back are incomplete characters and whatever may be the beginning of a stop string. One
    that is built with the tokens `produced` elsewhere goes on exactly where the other stopped.
    """

    __slots__ = ("_detokenizer", "_firsts", "_held", "_n_unchecked", "_stop", "stopped_by")

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str],
        produced: Sequence[int] = (),
        *,
        min_tokens: int = 0,
    ) -> None:
        """Stop strings within the first `min_tokens` tokens are text like any other."""
        self._detokenizer = tokenizer.detokenizer()
        self._stop = tuple(text for text in stop if text)
        self._firsts = frozenset(text[0] for text in self._stop)
        self._n_unchecked = min_tokens
        self._held = ""
        self.stopped_by = ""
        """The stop string that was met; from then on there is no more text."""
        self.feed(produced)

    @property
    def stopped(self) -> bool:
        return bool(self.stopped_by)

    def feed(self, token_ids: Sequence[int]) -> tuple[str, bool]:
        """(text that became certain, whether a stop string ended it). The stop string itself and
        everything behind it never leave."""
        if not self._stop:
            return self._detokenizer.text(token_ids), False
        parts: list[str] = []
        for token_id in token_ids:
            if self.stopped:
                break
            parts.append(self._checked(self._detokenizer.text((token_id,))))
        return "".join(parts), self.stopped

    def flush(self) -> str:
        """What was held back, at the end of a sequence that did not meet a stop string."""
        if self.stopped:
            return ""
        rest = self._checked(self._detokenizer.rest())
        held, self._held = self._held, ""
        return rest + ("" if self.stopped else held)

    def _checked(self, new: str) -> str:
        """What may leave, with the text `new` of one more token."""
        if self._n_unchecked > 0:
            self._n_unchecked -= 1
            return new
        if not self._held and self._firsts.isdisjoint(new):
            return new
        text = self._held + new
        met = [(start, stop) for stop in self._stop if (start := text.find(stop)) >= 0]
        if met:
            start, self.stopped_by = min(met)
            self._held = ""
            return text[:start]
        cut = min([possible_start(text, stop) for stop in self._stop])
        self._held = text[cut:]
        return text[:cut]


def possible_start(text: str, stop: str) -> int:
    """Where the longest end of `text` that begins `stop` begins; its length where none does."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(text[start:]):
            return start
        start = text.find(stop[0], start + 1)
    return len(text)
