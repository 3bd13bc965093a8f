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

from unirex_ray.data.batching import Batch
from unirex_ray.models.top_k import keep_complement, keep_rationale, selection_sizes, token_ranks

Positions = Literal["original", "fresh"]


@dataclass(frozen=True)
class TokenSubsets:
    """Subsets of the tokens of a batch's rows.

    Attributes:
        rows: the row of the batch that each subset belongs to [V].
        kept: True on the tokens that it keeps [V, T].
        lengths: number of kept tokens [V].
    """

    rows: Tensor
    kept: Tensor
    lengths: Tensor


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


def full_subsets(batch: Batch) -> TokenSubsets:
    """Every row as it is."""
    return TokenSubsets(torch.arange(batch.rows, device=batch.lengths.device), batch.attended, batch.lengths)


@dataclass(frozen=True)
class PerturbedSubsets:
    """Distinct subsets of a batch, and the one that belongs to each threshold and row.

    Attributes:
        index: of the subset in `subsets`, by threshold and row [K, R], or by side as well [2, K, R].
    """

    subsets: TokenSubsets
    index: Tensor


def perturbed_subsets(batch: Batch, scores: Tensor, top_k_percents: Sequence[int]) -> PerturbedSubsets:
    r"""Both sides of every threshold; thresholds that select the same tokens of a row share one subset.

    Args:
        scores: importance [R, T].

    Returns:
        Subsets with an index [2, K, R]: side 0 is x \ r^(k), side 1 is r^(k).
    """
    distinct = _distinct_selections(batch, scores, top_k_percents)
    row, size, rank, length = distinct.row, distinct.size, distinct.rank, batch.lengths[distinct.row]
    kept = torch.cat([keep_complement(rank, size, length), keep_rationale(rank, size)])
    subsets = TokenSubsets(torch.cat([row, row]), kept, torch.cat([length - size, size + 1]))
    return PerturbedSubsets(subsets, torch.stack([distinct.index, distinct.index + len(row)]))


def rationale_subsets(batch: Batch, scores: Tensor, top_k_percents: Sequence[int]) -> PerturbedSubsets:
    """r^(k) of every threshold, as `perturbed_subsets`; the index is [K, R]."""
    distinct = _distinct_selections(batch, scores, top_k_percents)
    kept = keep_rationale(distinct.rank, distinct.size)
    return PerturbedSubsets(TokenSubsets(distinct.row, kept, distinct.size + 1), distinct.index)


def empty_subsets(batch: Batch) -> TokenSubsets:
    """Every row without its text: CLS alone."""
    kept = torch.zeros_like(batch.attended)
    kept[:, 0] = True
    return TokenSubsets(torch.arange(batch.rows, device=kept.device), kept, kept.sum(1))


@dataclass(frozen=True)
class _Selections:
    """Distinct selections of a batch: row [V], size [V], ranks of the row's tokens [V, T]; index as above [K, R]."""

    row: Tensor
    size: Tensor
    rank: Tensor
    index: Tensor


def _distinct_selections(batch: Batch, scores: Tensor, top_k_percents: Sequence[int]) -> _Selections:
    sizes = selection_sizes(batch.lengths, top_k_percents)
    ranks = token_ranks(scores, batch.lengths)
    # Thresholds that select equally many tokens of a row share the selection of the first of them.
    first = (sizes[:, None] == sizes[None, :]).int().argmax(dim=1)
    thresholds = torch.arange(len(sizes), device=sizes.device)
    threshold, row = (first == thresholds[:, None]).nonzero(as_tuple=True)
    index = torch.zeros_like(sizes)
    index[threshold, row] = torch.arange(len(row), device=sizes.device)
    return _Selections(row, sizes[threshold, row], ranks[row], index.gather(0, first))


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
        encode: takes `input_ids`, `position_ids` (from 0), `token_types`, `attention_mask` (None if all True), each
            [v, t], and `rows` [v]; returns one entry per subset [v, ...].
        positions: of kept tokens: those in the row (`original`), or counted anew (`fresh`), which always drops.

    Returns:
        The entries in the order of the subsets [V, ...].
    """
    drop = plan.drop or positions == "fresh"
    lengths = subsets.lengths.tolist()  # the only synchronisation with the device
    widths = lengths if drop else batch.lengths[subsets.rows].tolist()
    outputs, order = [], []
    for bucket in _buckets(widths, plan):
        members = torch.tensor(bucket, device=subsets.rows.device)
        rows, kept = subsets.rows[members], subsets.kept[members]
        width = widths[bucket[-1]]
        if drop:
            columns = kept.int().argsort(dim=1, descending=True, stable=True)[:, :width]
            mask = torch.arange(width, device=rows.device) < subsets.lengths[members][:, None]
        else:
            columns = torch.arange(width, device=rows.device).expand(len(members), -1)
            mask = kept[:, :width]
        original = positions == "original"
        position_ids = columns if original else torch.arange(width, device=rows.device).expand_as(columns)
        padded = any(lengths[subset] < width for subset in bucket)
        arguments = (
            batch.input_ids[rows].gather(1, columns).masked_fill(~mask, batch.pad_id)
            if drop
            else batch.input_ids[rows][:, :width],
            position_ids.masked_fill(~mask, 0) if drop else position_ids,
            batch.token_types[rows].gather(1, columns),
            mask if padded else None,
            rows,
        )
        if plan.activation_checkpointing and torch.is_grad_enabled():
            outputs.append(checkpoint(encode, *arguments, use_reentrant=False))
        else:
            outputs.append(encode(*arguments))
        order += bucket
    inverse = torch.empty(len(order), dtype=torch.long)
    inverse[order] = torch.arange(len(order))
    return torch.cat(outputs)[inverse.to(subsets.rows.device)]


def _buckets(lengths: Sequence[int], plan: ForwardPlan) -> list[list[int]]:
    """Indices of the subsets of each sub-batch, by rising length."""
    order = np.argsort(np.asarray(lengths), kind="stable").tolist()
    cuts = cut_by_length(tuple(lengths[index] for index in order), plan.pass_cost, plan.token_budget)
    return [order[start:end] for start, end in zip((0, *cuts[:-1]), cuts, strict=True)]


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
