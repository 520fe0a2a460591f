"""From logits to tokens: penalties, masks, and a draw that depends on nothing but the logits, the
request's seed and the token's position.

Order, as in vLLM: mask of stop tokens until `min_tokens`; repetition, frequency and presence
penalties; mask of what the JSON Schema does not allow; temperature; min-p; top-k; top-p among what
is left. All three filters keep a prefix of the candidates in order of probability, so a draw needs
only the first `N_CANDIDATES` of them; the full vocabulary is sorted for the few rows that reach
beyond (measured: 15 times as expensive).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from fairlead.engine.endings import Endings
from fairlead.engine.grammar import Grammars
from fairlead.engine.output import Output, TokenLogprobs
from fairlead.engine.uniform import uniform
from fairlead.instance.sequence import Sequence as Seq
from fairlead.model import RequestId, Sampling

N_CANDIDATES = 1024
GREEDY_BELOW = 1e-5
"""Temperatures below are greedy, as in vLLM: dividing by them would overflow."""


class _Counts:
    """How often each token occurs in a sequence, kept up from call to call."""

    __slots__ = ("n_counted", "produced", "prompt", "sequence")

    def __init__(self, sequence: Seq) -> None:
        self.sequence = sequence
        self.prompt = set(sequence.token_ids[: sequence.prompt_tokens])
        self.produced: Counter[int] = Counter()
        self.n_counted = 0

    def update(self) -> None:
        new = self.sequence.token_ids[self.sequence.prompt_tokens + self.n_counted :]
        self.produced.update(new)
        self.n_counted += len(new)


class Sampler:
    """Draws one token for each row of logits. Its only state are counts it could make anew."""

    def __init__(
        self, eos_token_ids: Iterable[int], vocab_size: int, grammars: Grammars | None = None
    ) -> None:
        """Without `grammars` no sequence may have a schema."""
        self._endings = Endings(eos_token_ids, grammars)
        self._vocab_size = vocab_size
        self._grammars = grammars
        self._counts: dict[RequestId, _Counts] = {}

    def forget(self, request_id: RequestId) -> None:
        self._counts.pop(request_id, None)
        if self._grammars is not None:
            self._grammars.forget(request_id)

    def sample(self, logits: Tensor, sequences: Sequence[Seq]) -> Output:
        """Row i of `logits` [rows, vocabulary] belongs to `sequences[i]`."""
        assert logits.shape[0] == len(sequences)
        if not sequences:
            return Output()
        if all(_only_greedy(sequence) for sequence in sequences):
            return self._output(_likeliest(logits), sequences)
        raw = logits.float()
        tokens = self._draw(self._adjusted(raw, sequences), sequences)
        output = self._output(tokens, sequences)
        _add_logprobs(output, raw, sequences)
        return output

    def _output(self, tokens: list[int], sequences: Sequence[Seq]) -> Output:
        output = Output()
        for token, sequence in zip(tokens, sequences, strict=True):
            output.tokens[sequence.id] = token
            if (why := self._endings.why(sequence, token)) is not None:
                output.stopped[sequence.id] = why
        return output

    def _adjusted(self, raw: Tensor, sequences: Sequence[Seq]) -> Tensor:
        """`raw` after masks and penalties; itself where no sequence has any."""
        if not any(_adjusts(sequence) for sequence in sequences):
            return raw
        logits = raw.clone()
        for row, sequence in zip(logits, sequences, strict=True):
            if sequence.n_produced < sequence.request.sampling.min_tokens:
                self._mask_stops(row, sequence.request.sampling)
            if _penalises(sequence.request.sampling):
                self._penalise(row, sequence)
            if sequence.request.sampling.constrained:
                assert self._grammars is not None
                self._grammars.mask(row, sequence)
        return logits

    def _mask_stops(self, row: Tensor, sampling: Sampling) -> None:
        ids = [token for token in self._endings.ids(sampling) if 0 <= token < self._vocab_size]
        row[ids] = float("-inf")

    def _penalise(self, row: Tensor, sequence: Seq) -> None:
        sampling, counts = sequence.request.sampling, self._counted(sequence)
        if sampling.repetition_penalty != 1.0:
            ids = torch.tensor(list(counts.prompt | counts.produced.keys()), device=row.device)
            kept = row[ids]
            factor = sampling.repetition_penalty
            row[ids] = torch.where(kept > 0, kept / factor, kept * factor)
        if counts.produced and (sampling.frequency_penalty or sampling.presence_penalty):
            ids = torch.tensor(list(counts.produced), device=row.device)
            times = torch.tensor(list(counts.produced.values()), device=row.device)
            row[ids] -= sampling.frequency_penalty * times + sampling.presence_penalty

    def _counted(self, sequence: Seq) -> _Counts:
        counts = self._counts.get(sequence.id)
        if counts is None or counts.sequence is not sequence:
            counts = self._counts[sequence.id] = _Counts(sequence)
        counts.update()
        return counts

    def _draw(self, logits: Tensor, sequences: Sequence[Seq]) -> list[int]:
        tokens = _likeliest(logits)
        drawn = [i for i, sequence in enumerate(sequences) if not _greedy(sequence)]
        if drawn:
            settings = torch.tensor([_settings(sequences[i]) for i in drawn], dtype=torch.float64)
            rows = logits if len(drawn) == len(sequences) else logits[drawn]
            for i, token in zip(drawn, draw(rows, settings.to(logits.device)), strict=True):
                tokens[i] = token
        return tokens


def _likeliest(logits: Tensor) -> list[int]:
    """By `max`, since `argmax` takes four times as long over bfloat16 on a CPU."""
    tokens: list[int] = logits.max(-1).indices.tolist()
    return tokens


def _greedy(sequence: Seq) -> bool:
    return sequence.request.sampling.temperature < GREEDY_BELOW


def _penalises(sampling: Sampling) -> bool:
    return (
        sampling.repetition_penalty != 1.0
        or sampling.frequency_penalty != 0.0
        or sampling.presence_penalty != 0.0
    )


def _adjusts(sequence: Seq) -> bool:
    sampling = sequence.request.sampling
    early = sequence.n_produced < sampling.min_tokens
    return early or _penalises(sampling) or sampling.constrained


def _only_greedy(sequence: Seq) -> bool:
    wants_logprobs = sequence.request.sampling.logprobs is not None
    return _greedy(sequence) and not wants_logprobs and not _adjusts(sequence)


def _settings(sequence: Seq) -> tuple[float, ...]:
    sampling = sequence.request.sampling
    return (
        sampling.temperature,
        sampling.top_p,
        sampling.top_k if sampling.top_k > 0 else float("inf"),
        sampling.min_p,
        uniform(sampling.seed, sequence.n_produced),
    )


def draw(logits: Tensor, settings: Tensor, n_candidates: int = N_CANDIDATES) -> list[int]:
    """One token of each row of `logits` [rows, vocabulary], the same for any `n_candidates`.

    `settings` [rows, 5] are temperature, top_p, top_k (inf keeps all), min_p and a number in
    [0, 1). That number picks from the candidates' cumulative probabilities, the likeliest first
    and equal ones by id.
    """
    vocab_size = logits.shape[1]
    n_candidates = min(n_candidates, vocab_size)
    temperature, top_p, top_k, min_p, target = settings.T[..., None]  # each [rows, 1]
    ids, values = _candidates(logits, n_candidates)
    log_total = (logits / temperature.float()).logsumexp(-1, keepdim=True).double()
    probs = (values / temperature - log_total).exp()

    ranks = torch.arange(n_candidates, device=logits.device)
    kept = probs * ((ranks < top_k) & (probs >= min_p * probs[:, :1]))
    complete = (kept[:, -1:] == 0) | (n_candidates == vocab_size)
    total = torch.where(complete, kept.sum(-1, keepdim=True), 1.0)
    cumulative = kept.cumsum(-1)
    # The nucleus is the shortest prefix that reaches top_p: a token is in if those before are not
    # enough.
    nucleus = kept * ((top_p >= 1.0) | (cumulative - kept < top_p * total))
    whole = complete | (nucleus[:, -1:] == 0)
    open_end = (top_k == float("inf")) & (min_p == 0.0) & (top_p >= 1.0)
    threshold = target * torch.where(whole, nucleus.sum(-1, keepdim=True), total)
    # Unfiltered, the total is 1, and candidates suffice unless the draw falls behind them.
    settled = whole | (open_end & (threshold < cumulative[:, -1:]))

    last = (nucleus > 0).sum(-1, keepdim=True) - 1
    index = (cumulative <= threshold).sum(-1, keepdim=True).minimum(last).clamp_min(0)
    tokens: list[int] = ids.gather(1, index).squeeze(1).tolist()
    unsettled = (~settled).squeeze(1).nonzero().squeeze(1)
    if len(unsettled):
        again = draw(logits[unsettled], settings[unsettled], vocab_size)
        for row, token in zip(unsettled.tolist(), again, strict=True):
            tokens[row] = token
    return tokens


def _candidates(logits: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Ids and logits (in double precision) of the `n` likeliest tokens, equal ones by id."""
    values, ids = logits.topk(n, dim=-1)
    ids, by_id = ids.sort(dim=-1)
    values, by_value = values.gather(1, by_id).sort(dim=-1, descending=True, stable=True)
    return ids.gather(1, by_value), values.double()


def _add_logprobs(output: Output, raw: Tensor, sequences: Sequence[Seq]) -> None:
    rows = [i for i, sequence in enumerate(sequences) if _n_logprobs(sequence) is not None]
    if not rows:
        return
    logits = raw[rows].double()
    log_probs = logits - logits.logsumexp(-1, keepdim=True)
    n_top = min(max(_n_logprobs(sequences[i]) or 0 for i in rows), raw.shape[1])
    ids, values = _candidates(log_probs, n_top)
    for row, i in enumerate(rows):
        sequence, n = sequences[i], _n_logprobs(sequences[i]) or 0
        top = zip(ids[row, :n].tolist(), values[row, :n].tolist(), strict=True)
        token = output.tokens[sequence.id]
        output.logprobs[sequence.id] = TokenLogprobs(float(log_probs[row, token]), tuple(top))


def _n_logprobs(sequence: Seq) -> int | None:
    return sequence.request.sampling.logprobs
