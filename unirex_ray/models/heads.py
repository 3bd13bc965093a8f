"""Heads on top of encoder states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HIDDEN = {"linear": (0, 0), "mlp-2048-2": (2048, 2), "mlp-4096-3": (4096, 3)}


class TokenHead(nn.Module):
    """One importance score per token: linear, or an MLP of hidden layers with ReLU (paper, section 4.5).

    Args:
        kind: `linear`, `mlp-2048-2` (two hidden layers of 2048) or `mlp-4096-3`.
        outputs: 1, or the number of classes of a token.
    """

    def __init__(self, hidden_size: int, kind: str, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs
        width, depth = _HIDDEN[kind]
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [nn.Linear(hidden_size if index == 0 else width, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width if depth else hidden_size, outputs))

    def forward(self, states: Tensor) -> Tensor:
        """States [R, T, H] to scores [R, T] or [R, T, outputs], in single precision even under autocast."""
        hidden = self.layers[:-1](states)
        # In half precision tokens would tie, and ties go to the first of them.
        with torch.autocast(states.device.type, enabled=False):
            scores: Tensor = self.layers[-1](hidden.float())
        return scores.squeeze(-1) if self.outputs == 1 else scores
