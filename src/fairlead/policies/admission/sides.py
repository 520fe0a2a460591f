"""Who of the candidates computes a prompt, and who decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fairlead.model import InstanceView, RequestView, Role


def beginners(candidates: Sequence[InstanceView]) -> Iterator[InstanceView]:
    """Those that compute prompts; where there is nobody else, those that usually only decode."""
    nobody = True
    for view in candidates:
        if view.role is not Role.DECODE:
            nobody = False
            yield view
    if nobody:
        yield from candidates


def decoders(candidates: Sequence[InstanceView]) -> list[InstanceView]:
    """Those that keep what they decode; empty where all hand it off."""
    return [view for view in candidates if view.role is not Role.PREFILL]


def decoding_s(request: RequestView, view: InstanceView) -> float:
    """Seconds from its first token to its last, if it decoded there at the present pace."""
    return view.predicted_e2e_s(request) - view.predicted_ttft_s(request)
