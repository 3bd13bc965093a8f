"""Token subsets: encode the same rows many times with some tokens removed, each distinct subset once.

A subset keeps some tokens of one row. Losses hide the others from attention, metrics delete them. With full
attention, hiding tokens equals dropping them while the kept ones retain their position ids, and costs fewer tokens.

Shapes: R rows, T tokens, K thresholds, V subsets, O task outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unirex_ray.data.batching import Batch, on_device
from unirex_ray.models.soft_top_k import soft_top_k, straight_through
from unirex_ray.models.top_k import keep_complement, keep_rationale, selection_sizes, token_ranks

Positions = Literal["original", "fresh"]


@dataclass(frozen=True)
class TokenSubsets:
    """Subsets of the tokens of a batch's rows. How many tokens each keeps is known on the host, which are is not.

    Attributes:
        rows: the row of the batch that each subset belongs to [V].
        kept: True on the tokens that it keeps [V, T].
        lengths: number of kept tokens [V].
        gates: `kept` as 0 and 1 with a gradient, for subsets that scores learn through [V, T]; these are never dropped.
    """

    rows: np.ndarray
    kept: Tensor
    lengths: np.ndarray
    gates: Tensor | None = None


@dataclass(frozen=True)
class ForwardPlan:
    """How subsets are cut into sub-batches and encoded.

    Attributes:
        token_budget: largest number of tokens in one encoder pass, padding included.
        pass_cost: cost of one more encoder pass, in tokens.
        drop: whether only the kept tokens are computed, instead of masking the others.
        activation_checkpointing: whether activations are recomputed in the backward pass, with the same dropout,
            instead of kept.
    """

    token_budget: int = 16384
    pass_cost: int = 64
    drop: bool = True
    activation_checkpointing: bool = False


def full_subsets(batch: Batch, rows: np.ndarray | None = None) -> TokenSubsets:
    """Rows as they are: all of them, or those of the given numbers [V]."""
    if rows is None:
        return TokenSubsets(np.arange(batch.rows), batch.attended, batch.host_lengths)
    (numbers,) = on_device(batch.lengths.device, rows)
    return TokenSubsets(rows, batch.attended[numbers], batch.host_lengths[rows])


@dataclass(frozen=True)
class PerturbedSubsets:
    """Distinct subsets of a batch, and the one that belongs to each threshold and row.

    Attributes:
        index: of the subset in `subsets`, by threshold and row [K, R], or by side as well [2, K, R].
    """

    subsets: TokenSubsets
    index: Tensor


def perturbed_subsets(
    batch: Batch, scores: Tensor, top_k_percents: Sequence[int], *, differentiable: bool = False
) -> PerturbedSubsets:
    r"""Both sides of every threshold; thresholds that select the same tokens of a row share one subset.

    Args:
        scores: importance [R, T].
        differentiable: whether the subsets have gates, through which the scores get a gradient.

    Returns:
        Subsets with an index [2, K, R]: side 0 is x \ r^(k), side 1 is r^(k).
    """
    row, size, index = _distinct_selections(batch.host_lengths, top_k_percents)
    length = batch.host_lengths[row]
    rows, sizes, lengths, both = on_device(scores.device, row, size, length, np.stack([index, index + len(row)]))
    ranks = token_ranks(scores, batch.lengths)[rows]
    kept = torch.cat([keep_complement(ranks, sizes, lengths), keep_rationale(ranks, sizes)])
    gates = None
    if differentiable:
        degrees = soft_top_k(scores[rows], sizes, lengths)
        gates = straight_through(kept, torch.cat([1 - degrees, degrees]))
    subsets = TokenSubsets(np.concatenate([row, row]), kept, np.concatenate([length - size, size + 1]), gates)
    return PerturbedSubsets(subsets, both)


def rationale_subsets(batch: Batch, scores: Tensor, top_k_percents: Sequence[int]) -> PerturbedSubsets:
    """r^(k) of every threshold, as `perturbed_subsets`; the index is [K, R]."""
    row, size, index = _distinct_selections(batch.host_lengths, top_k_percents)
    rows, sizes, indices = on_device(scores.device, row, size, index)
    kept = keep_rationale(token_ranks(scores, batch.lengths)[rows], sizes)
    return PerturbedSubsets(TokenSubsets(row, kept, size + 1), indices)


def empty_subsets(batch: Batch) -> TokenSubsets:
    """Every row without its text: CLS alone."""
    kept = torch.zeros_like(batch.attended)
    kept[:, 0] = True
    return TokenSubsets(np.arange(batch.rows), kept, np.ones(batch.rows, dtype=np.int64))


def _distinct_selections(
    lengths: np.ndarray, top_k_percents: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row [V] and size [V] of each distinct selection, and the selection of each threshold and row [K, R]."""
    sizes = selection_sizes(lengths, top_k_percents)
    # Thresholds that select equally many tokens of a row share the selection of the first of them.
    first = (sizes[:, None] == sizes[None, :]).argmax(axis=1)
    threshold, row = np.nonzero(first == np.arange(len(sizes))[:, None])
    index = np.zeros_like(sizes)
    index[threshold, row] = np.arange(len(row))
    return row, sizes[threshold, row], np.take_along_axis(index, first, axis=0)


def encode_subsets(
    batch: Batch,
    subsets: TokenSubsets,
    encode: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor], Tensor],
    plan: ForwardPlan,
    *,
    positions: Positions = "original",
) -> Tensor:
    """Run an encoder on subsets, in sub-batches of similar length.

    Args:
        encode: takes `input_ids`, `position_ids` (from 0), `token_types`, `attention_mask` (None if all True; gates
            where there are some), each [v, t], and `rows` [v]; returns one entry per subset [v, ...].
        positions: of kept tokens: those in the row (`original`), or counted anew (`fresh`), which always drops.

    Returns:
        The entries in the order of the subsets [V, ...].
    """
    drop = (plan.drop and subsets.gates is None) or positions == "fresh"
    widths = subsets.lengths if drop else batch.host_lengths[subsets.rows]
    order = np.argsort(widths, kind="stable")
    cuts = cut_by_length(tuple(widths[order].tolist()), plan.pass_cost, plan.token_budget)
    lengths, width = subsets.lengths[order], batch.input_ids.shape[1]
    by_length, rows, kept_tokens, inverse = on_device(
        subsets.kept.device, order, subsets.rows[order], lengths, np.argsort(order)
    )
    shown = subsets.kept if subsets.gates is None or drop else subsets.gates
    kept, column = shown[by_length], torch.arange(width, device=rows.device).expand(len(order), -1)
    ids, types, position_ids = batch.input_ids[rows], batch.token_types[rows], column
    if drop:
        kept_first = kept.int().argsort(dim=1, descending=True, stable=True)
        kept = column < kept_tokens[:, None]
        ids = ids.gather(1, kept_first).masked_fill(~kept, batch.pad_id)
        types = types.gather(1, kept_first)
        position_ids = (kept_first if positions == "original" else column).masked_fill(~kept, 0)
    outputs = []
    for start, end in zip((0, *cuts[:-1]), cuts, strict=True):
        longest = int(widths[order[end - 1]])
        padded = bool((lengths[start:end] < longest).any())
        part = slice(start, end), slice(longest)
        arguments = (ids[part], position_ids[part], types[part], kept[part] if padded else None, rows[start:end])
        if plan.activation_checkpointing and torch.is_grad_enabled():
            outputs.append(checkpoint(encode, *arguments, use_reentrant=False))
        else:
            outputs.append(encode(*arguments))
    return torch.cat(outputs)[inverse]


@lru_cache(maxsize=256)
def cut_by_length(lengths: tuple[int, ...], pass_cost: int, token_budget: int) -> tuple[int, ...]:
    """Cut rising lengths into runs that minimise padded tokens + pass_cost * runs (dynamic programming).

    No run holds more than `token_budget` padded tokens, unless it is a single input.

    Returns:
        The end of each run; the last is `len(lengths)`.
    """
    best = np.zeros(len(lengths) + 1)
    previous = np.zeros(len(lengths) + 1, dtype=int)
    for end in range(1, len(lengths) + 1):
        longest = lengths[end - 1]
        first = max(0, end - max(1, token_budget // longest))
        cost = best[first:end] + longest * np.arange(end - first, 0, -1)
        least = int(np.argmin(cost))
        previous[end] = first + least
        best[end] = cost[least] + pass_cost
    cuts, end = [], len(lengths)
    while end:
        cuts.append(end)
        end = int(previous[end])
    return tuple(reversed(cuts))
