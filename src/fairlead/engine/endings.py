"""Which token ends a sequence, and why. Stop strings and lengths are found by others."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.engine.grammar import Grammars
from fairlead.instance.sequence import Sequence
from fairlead.model import FinishReason, Sampling


class Endings:
    def __init__(self, eos_token_ids: Iterable[int], grammars: Grammars | None = None) -> None:
        """Without `grammars` no sequence may have a schema."""
        self._eos = frozenset(eos_token_ids)
        self._grammars = grammars

    def ids(self, sampling: Sampling) -> frozenset[int]:
        """Tokens that end a sequence."""
        own = frozenset(sampling.stop_token_ids)
        return own if sampling.ignore_eos else own | self._eos

    def why(self, sequence: Sequence, token: int) -> FinishReason | None:
        """Why the sequence ends with `token`, which comes next; None where it goes on."""
        sampling = sequence.request.sampling
        if sequence.n_produced < sampling.min_tokens or token not in self.ids(sampling):
            return None
        # An output that its schema left unfinished must not look as if it were whole.
        cut = self._grammars is not None and self._grammars.failed(sequence)
        return FinishReason.LENGTH if cut else FinishReason.STOP
