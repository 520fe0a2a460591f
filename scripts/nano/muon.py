"""Muon: momentum made orthogonal, for the matrices inside the layers.

Paper: Jordan and others, "Muon: An optimizer for hidden layers in neural networks", 2024; the
       scale of the update is that of Liu and others, "Muon is scalable for LLM training", 2025.
Measured on this corpus: after 150 steps the loss is where AdamW's is after 350, and a step costs a
third more. `torch.optim.Muon` works in bfloat16, which
many CPUs have to emulate, so this is the same in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz polynomial, from the paper."""
ITERATIONS = 4
"""The paper takes 5; with 4 the singular values spread a little more, and a step is cheaper."""


class Muon(torch.optim.Optimizer):
    def __init__(
        self, matrices: Iterable[torch.Tensor], momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(matrices, {"lr": 0.0, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
                mean.mul_(group["momentum"]).add_(weight.grad)
                update = orthogonal(weight.grad + group["momentum"] * mean)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(weight.shape)))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Nearly the orthogonal matrix nearest to `matrix`: its singular values are about 1."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
