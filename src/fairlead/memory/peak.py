"""How much KV memory a batch will need at its worst future moment."""

from __future__ import annotations

from collections.abc import Iterable


def future_peak(sequences: Iterable[tuple[int, int]]) -> int:
    """Most tokens held at once by `(held_tokens, remaining_tokens)` sequences that all decode.

    Just before the k-th longest-lived finishes, exactly the k longest-lived are still there and
    each has grown by the k-th's remaining length. O(n log n). Shared prefixes count once a
    sequence, so the figure is an upper bound where there are any.

    Source: Past-Future scheduler (ModelTC/lightllm).
    """
    peak = held = 0
    by_remaining = sorted(sequences, key=lambda sequence: -sequence[1])
    for k, (tokens, remaining) in enumerate(by_remaining, start=1):
        held += tokens
        peak = max(peak, held + k * remaining)
    return peak
