"""Top-k% selection: the tokens of a rationale.

Shapes: R rows, T tokens of the longest row (padded), K thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def selection_size(candidates: int, top_k_percent: int) -> int:
    """max(1, round(candidates * k / 100)), .5 to even, and at most `candidates`."""
    quotient, remainder = divmod(candidates * top_k_percent, 100)
    rounded = quotient + (remainder > 50 or (remainder == 50 and quotient % 2 == 1))
    return min(candidates, max(1, rounded))


def selection_sizes(lengths: np.ndarray, top_k_percents: Sequence[int]) -> np.ndarray:
    """Sizes of the top-k% rationales, computed on the host.

    Args:
        lengths: tokens per row, CLS included [R].
        top_k_percents: K whole percents in 1..100.

    Returns:
        Whole numbers [K, R].
    """
    candidates = lengths.astype(np.int64)[None] - 1
    quotient, remainder = np.divmod(candidates * np.asarray(top_k_percents)[:, None], 100)
    rounded = quotient + ((remainder > 50) | ((remainder == 50) & (quotient % 2 == 1)))
    sizes: np.ndarray = np.minimum(np.maximum(rounded, 1), candidates)
    return sizes


def token_ranks(scores: Tensor, lengths: Tensor) -> Tensor:
    """Rank of each token by falling importance, 0 for the most important; equal scores: the lower index wins.

    CLS (index 0) and padding are no candidates: their rank is T, beyond every size.

    Args:
        scores: finite importance scores [R, T].
        lengths: tokens per row, CLS included [R].
    """
    rows, width = scores.shape
    index = torch.arange(width, device=scores.device)
    is_candidate = (index >= 1) & (index < lengths[:, None])
    order = scores.masked_fill(~is_candidate, -torch.inf)[:, 1:].argsort(dim=1, descending=True, stable=True)
    ranks = torch.full((rows, width), width, device=scores.device)
    ranks[:, 1:].scatter_(1, order, index[: width - 1].expand(rows, -1))
    return ranks.masked_fill(~is_candidate, width)


def keep_rationale(ranks: Tensor, sizes: Tensor) -> Tensor:
    """r^(k) as a mask: CLS and the tokens ranked before `sizes`.

    Args:
        ranks: from `token_ranks` [..., T].
        sizes: [...].
    """
    kept = ranks < sizes[..., None]
    kept[..., 0] = True
    return kept


def keep_complement(ranks: Tensor, sizes: Tensor, lengths: Tensor) -> Tensor:
    r"""x \ r^(k) as a mask: CLS and every token outside the rationale, no padding; shapes as `keep_rationale`."""
    inside = torch.arange(ranks.shape[-1], device=ranks.device) < lengths[..., None]
    kept = inside & (ranks >= sizes[..., None])
    kept[..., 0] = True
    return kept


def entering_percents(scores: Tensor, percents: Sequence[int]) -> list[int]:
    """The smallest k of those given whose rationale holds each token of one row; 0 where none does [T].

    Args:
        scores: finite importance scores, CLS included [T]; CLS is in no rationale.
        percents: increasing.
    """
    length = np.array([len(scores)])
    ranks = token_ranks(scores[None], torch.from_numpy(length))[0].numpy()
    held = ranks < selection_sizes(length, percents)  # [K, T]; larger rationales hold the smaller ones
    enters: list[int] = np.where(held.any(0), np.asarray(percents)[held.argmax(0)], 0).tolist()
    return enters


def row_rationale(scores: Tensor, top_k_percent: int) -> list[bool]:
    """Which tokens of one row its top-k% rationale holds [T]; see `entering_percents`."""
    return [percent > 0 for percent in entering_percents(scores, [top_k_percent])]
