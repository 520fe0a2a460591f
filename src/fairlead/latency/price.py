"""The arithmetic of a step's price: the innermost loop of every prediction and every simulation."""

from __future__ import annotations

CACHED_TOKENS = 8192
"""Step sizes whose matrix time is remembered: a bound on the cache, above any usual budget."""


class Price:
    """Prices steps by the thirteen coefficients and the host term; see `ThirteenCoefficients`."""

    def __init__(
        self,
        *,
        weights_s: float,
        gemm_s_per_token: float,
        sharpness: float,
        base_s: float,
        host_s: float,
        sample_s_per_sequence: float,
        decode_base_s: float,
        decode_s_per_sequence: float,
        decode_s_per_context_token: float,
        prefill_base_s: float,
        walk_s_per_context_token: float,
        prefill_s_per_context_token: float,
        prefill_s_per_pair: float,
        prefill_s_per_sequence: float,
    ) -> None:
        self._overhead_s = host_s + base_s
        self._weights_s = weights_s
        self._gemm_s_per_token = gemm_s_per_token
        self._sharpness = sharpness
        self._sample_s = sample_s_per_sequence
        self._decode_base_s = decode_base_s
        self._decode_s = decode_s_per_sequence
        self._decode_context_s = decode_s_per_context_token
        self._prefill_base_s = prefill_base_s
        self._walk_s = walk_s_per_context_token
        self._prefill_context_s = prefill_s_per_context_token
        self._prefill_pair_s = prefill_s_per_pair
        self._prefill_decode_s = prefill_s_per_sequence
        self._gemm_s: dict[int, float] = {}
        """Matrix time by tokens in the step: raising to a power is the dearest part of a price."""

    def step_s(
        self,
        decodes: int,
        decode_context: int,
        prefill_tokens: int,
        pairs: float,
        longest: int,
        sampled: int,
    ) -> float:
        gemm_s = self._gemm_s.get(decodes + prefill_tokens)
        if gemm_s is None:
            gemm_s = self._new_gemm_s(decodes + prefill_tokens)
        attention_s = (
            self._decode_base_s + self._decode_s * decodes + self._decode_context_s * decode_context
        )
        if prefill_tokens:
            path_s = self._walk_s * longest
            work_s = (
                self._prefill_context_s * decode_context
                + self._prefill_pair_s * pairs
                + self._prefill_decode_s * decodes
            )
            if work_s > path_s:
                path_s = work_s
            path_s += self._prefill_base_s
            if path_s > attention_s:
                attention_s = path_s
        return self._overhead_s + gemm_s + self._sample_s * sampled + attention_s

    def prefill_within(
        self,
        decodes: int,
        decode_context: int,
        prefill_tokens: int,
        pairs: float,
        longest: int,
        sampled: int,
        start: int,
        seconds: float,
        at_most: int,
    ) -> int:
        """Most tokens, up to `at_most`, of one more chunk that begins after `start` and ends with a
        sample, while the step stays within `seconds`."""
        low, high = 0, at_most
        while low < high:
            n = (low + high + 1) // 2
            step_s = self.step_s(
                decodes,
                decode_context,
                prefill_tokens + n,
                pairs + n * (start + n / 2),
                max(longest, start + n),
                sampled + 1,
            )
            if step_s <= seconds:
                low = n
            else:
                high = n - 1
        return low

    def _new_gemm_s(self, tokens: int) -> float:
        gemm_s = p_norm(self._weights_s, self._gemm_s_per_token * tokens, self._sharpness)
        if tokens <= CACHED_TOKENS:
            self._gemm_s[tokens] = gemm_s
        return gemm_s


def p_norm(a: float, b: float, p: float) -> float:
    """(a^p + b^p)^(1/p) of two non-negative numbers; neither a large p nor a small number makes
    it overflow or vanish, because the greater is taken out first."""
    low, high = (a, b) if a < b else (b, a)
    return high * (1.0 + (low / high) ** p) ** (1.0 / p) if high > 0.0 else 0.0
