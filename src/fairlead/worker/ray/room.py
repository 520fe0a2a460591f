"""Why an instance finds no room on a Ray cluster, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def why_no_room(
    bundle: Mapping[str, float], nodes: Sequence[Mapping[str, float]], free: Mapping[str, float]
) -> str:
    """`bundle` is what one instance takes, `nodes` what each living node has in all, `free` what is
    left of that on all of them together."""
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
    if not any(_fits(bundle, node) for node in nodes):
        most = ", ".join(
            f"{max((node.get(name, 0.0) for node in nodes), default=0.0):g} {name}"
            for name in bundle
        )
        return (
            f"it takes {wanted}, and no node of the Ray cluster is so large (of {len(nodes)}, the "
            f"most on one: {most})"
        )
    left = ", ".join(f"{free.get(name, 0.0):g} {name}" for name in bundle)
    return f"it takes {wanted}, and {left} of the Ray cluster's {len(nodes)} nodes are free"


def _fits(bundle: Mapping[str, float], node: Mapping[str, float]) -> bool:
    return all(node.get(name, 0.0) >= amount for name, amount in bundle.items())
