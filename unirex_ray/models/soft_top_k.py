"""Top-k selection that scores learn through: the hard rationale forward, the gradient of a relaxed one backward.

Shapes: R rows, T tokens of the longest row (padded).
"""

from __future__ import annotations

import torch
from torch import Tensor

_BISECTIONS = 25


def soft_top_k(scores: Tensor, sizes: Tensor, lengths: Tensor) -> Tensor:
    """Degrees y in 0..1 to which tokens belong to the rationale of `size` tokens, with a gradient.

    y maximises sum(s y) + H(y), H the binary entropies, subject to sum(y) = size: y = sigmoid(s - v) with one threshold
    v per row (Amos, Koltun and Kolter 2019, "The Limited Multi-Label Projection Layer"; of temperature 1, as scores are
    logits). With w = y (1 - y), dL/ds_i = w_i (dL/dy_i - sum(w dL/dy) / sum(w)): a token rises only at the others'
    cost, and one far from the threshold hardly moves.

    Args:
        scores: finite importance scores [R, T].
        sizes: of the rationales [R].
        lengths: tokens per row, CLS included [R].

    Returns:
        [R, T]; the candidates' sum to their row's size. Constant where nothing can be chosen: 0 on CLS, on padding and
        in rows without candidates, and 1 on the candidates of a rationale that holds them all.
    """
    index = torch.arange(scores.shape[1], device=scores.device)
    is_candidate = (index >= 1) & (index < lengths[:, None])
    candidates = lengths - 1
    is_open = (sizes < candidates)[:, None]
    size, others = sizes.to(scores.dtype)[:, None], (candidates - sizes).to(scores.dtype)[:, None]
    with torch.no_grad():
        # Were all scores the least (the highest) one, this threshold would be theirs: v lies between the two.
        offset = torch.where(is_open, (others / size).log(), 0.0)
        low = torch.where(is_open, scores.masked_fill(~is_candidate, torch.inf).amin(1, keepdim=True) + offset, 0.0)
        high = torch.where(is_open, scores.masked_fill(~is_candidate, -torch.inf).amax(1, keepdim=True) + offset, 0.0)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            too_low = (scores - middle).sigmoid().masked_fill(~is_candidate, 0.0).sum(1, keepdim=True) > size
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
        threshold = (low + high) / 2
        degrees = (scores - threshold).sigmoid()
        slope = (degrees * (1 - degrees)).masked_fill(~is_candidate, 0.0).sum(1, keepdim=True)
        slope = slope.clamp(min=torch.finfo(scores.dtype).eps)
    # A step of Newton's method: it ends the search, and its derivative is that of the threshold (implicit function).
    excess = (scores - threshold).sigmoid().masked_fill(~is_candidate, 0.0).sum(1, keepdim=True) - size
    degrees = (scores - threshold - excess / slope).sigmoid()
    return torch.where(is_candidate, torch.where(is_open, degrees, 1.0), 0.0)


def straight_through(kept: Tensor, relaxed: Tensor) -> Tensor:
    """`kept` as numbers 0 and 1, with the gradient of `relaxed` (Bengio, Léonard and Courville 2013)."""
    return kept.to(relaxed.dtype) + (relaxed - relaxed.detach())
