"""The vector of a prompt: what the model's last layer, normed, says at the last token.

The last token has seen all others, whatever chunks they came in and whoever computed their KV: so a
prompt that shares a cached prefix, or went elsewhere half-way, has the vector that it always has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fairlead.instance.sequence import Sequence as Seq
from fairlead.model import RequestId


class LastHidden:
    """Overhears the states that a model makes logits of."""

    def __init__(self, model: Any) -> None:
        self._states: Tensor | None = None
        model.base_model.register_forward_hook(self._hear)

    def _hear(self, module: Any, given: Any, out: Any) -> None:
        self._states = out.last_hidden_state

    def vectors(self, last: Tensor, sampling: Sequence[Seq]) -> dict[RequestId, bytes]:
        """Of those sequences that want one; `last` are the indices of their last tokens. Unit
        length, as float32."""
        states, self._states = self._states, None
        wanted = [i for i, sequence in enumerate(sampling) if sequence.request.embeds]
        if not wanted:
            return {}
        assert states is not None, "the model was not called"
        rows = states[0, last[wanted]].float()
        unit = torch.nn.functional.normalize(rows, dim=-1).cpu().numpy().astype("<f4")
        return {sampling[i].id: row.tobytes() for i, row in zip(wanted, unit, strict=True)}
