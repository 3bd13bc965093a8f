"""TokenSubsets: rows of a batch with some of their tokens taken away, computed dropped, deduplicated and bucketed.

A subset keeps some tokens of one row. Losses hide the others from attention, metrics delete them (SPEC). For an encoder
with full attention, hiding tokens is the same computation as dropping them while the kept ones retain their positions,
and dropping costs only the tokens that are left.

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
    """Rows of a batch with some tokens kept.

    Attributes:
        rows: which row of the batch each subset reads [V].
        kept: the tokens that it keeps [V, T].
        lengths: how many those are [V].
    """

    rows: Tensor
    kept: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class ForwardPlan:
    """How sub-batches are cut.

    Attributes:
        token_budget: most tokens, padding included, in one encoder pass.
        pass_cost: what one more encoder pass costs, in tokens.
        drop: compute only the kept tokens; otherwise mask the others.
        stream: keep no activations of a sub-batch, compute it again in the backward pass with the same dropout.
    """

    token_budget: int = 16384
    pass_cost: int = 64
    drop: bool = True
    stream: bool = False


def full_subsets(batch: Batch) -> TokenSubsets:
    """Every row as it is."""
    return TokenSubsets(torch.arange(batch.rows, device=batch.lengths.device), batch.attended, batch.lengths)


@dataclass(frozen=True)
class PerturbedSubsets:
    """Distinct subsets of a batch, and where each of them is used.

    Attributes:
        index: number of the subset by threshold and row; of both sides (see `perturbed_subsets`) or of r^(k) alone
            [..., K, R].
    """

    subsets: TokenSubsets
    index: Tensor


def perturbed_subsets(batch: Batch, scores: Tensor, top_k_percents: Sequence[int]) -> PerturbedSubsets:
    r"""Both sides of every threshold; thresholds that select the same tokens of a row share one subset.

    Args:
        scores: importance [R, T].

    Returns:
        TokenSubsets with an index [2, K, R]: side 0 is x \ r^(k), side 1 is r^(k).
    """
    distinct = _distinct_selections(batch, scores, top_k_percents)
    row, size, rank, length = distinct.row, distinct.size, distinct.rank, batch.lengths[distinct.row]
    kept = torch.cat([keep_complement(rank, size, length), keep_rationale(rank, size)])
    subsets = TokenSubsets(torch.cat([row, row]), kept, torch.cat([length - size, size + 1]))
    return PerturbedSubsets(subsets, torch.stack([distinct.index, distinct.index + len(row)]))


def rationale_subsets(batch: Batch, scores: Tensor, top_k_percents: Sequence[int]) -> PerturbedSubsets:
    """r^(k) of every threshold, equal ones once; the index is [K, R]. Arguments as for `perturbed_subsets`."""
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
    """Distinct selections of a batch: row [V], size [V], ranks of the row's tokens [V, T]; index [K, R] as above."""

    row: Tensor
    size: Tensor
    rank: Tensor
    index: Tensor


def _distinct_selections(batch: Batch, scores: Tensor, top_k_percents: Sequence[int]) -> _Selections:
    sizes = selection_sizes(batch.lengths, top_k_percents)
    ranks = token_ranks(scores, batch.lengths)
    # The first threshold with the same size stands for all of them.
    first = (sizes[:, None] == sizes[None, :]).int().argmax(dim=1)
    thresholds = torch.arange(len(sizes), device=sizes.device)
    threshold, row = (first == thresholds[:, None]).nonzero(as_tuple=True)
    number = torch.zeros_like(sizes)
    number[threshold, row] = torch.arange(len(row), device=sizes.device)
    return _Selections(row, sizes[threshold, row], ranks[row], number.gather(0, first))


def encode_subsets(
    batch: Batch,
    subsets: TokenSubsets,
    encode: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor], Tensor],
    plan: ForwardPlan,
    *,
    positions: Positions = "original",
) -> Tensor:
    """Run an encoder on subsets, in sub-batches of like length.

    Args:
        encode: takes `input_ids`, `positions`, `token_types`, `attention_mask` (None where there is no padding) and
            `rows`, each [v, t] but for `rows` [v]; returns a tensor with one entry per subset [v, ...].

    Returns:
        The entries in the order of the subsets [V, ...].
    """
    drop = plan.drop or positions == "fresh"
    lengths = subsets.lengths.tolist()  # the only wait for the device
    widths = lengths if drop else batch.lengths[subsets.rows].tolist()
    outputs, order = [], []
    for bucket in _buckets(widths, plan):
        chosen = torch.tensor(bucket, device=subsets.rows.device)
        rows, kept = subsets.rows[chosen], subsets.kept[chosen]
        width = widths[bucket[-1]]
        if drop:
            where = kept.int().argsort(dim=1, descending=True, stable=True)[:, :width]
            mask = torch.arange(width, device=where.device) < subsets.lengths[chosen][:, None]
        else:
            where = torch.arange(width, device=rows.device).expand(len(chosen), -1)
            mask = kept[:, :width]
        places = where if positions == "original" else torch.arange(width, device=where.device).expand_as(where)
        padded = any(lengths[subset] < width for subset in bucket)
        arguments = (
            batch.input_ids[rows].gather(1, where).masked_fill(~mask, batch.pad_id)
            if drop
            else batch.input_ids[rows][:, :width],
            places.masked_fill(~mask, 0) if drop else places,
            batch.token_types[rows].gather(1, where),
            mask if padded else None,
            rows,
        )
        if plan.stream and torch.is_grad_enabled():
            outputs.append(checkpoint(encode, *arguments, use_reentrant=False))
        else:
            outputs.append(encode(*arguments))
        order += bucket
    inverse = torch.empty(len(order), dtype=torch.long)
    inverse[order] = torch.arange(len(order))
    return torch.cat(outputs)[inverse.to(subsets.rows.device)]


def _buckets(lengths: Sequence[int], plan: ForwardPlan) -> list[list[int]]:
    """View numbers per sub-batch, by rising length; depends on the lengths alone."""
    order = np.argsort(np.asarray(lengths), kind="stable").tolist()
    cuts = cut_by_length(tuple(lengths[index] for index in order), plan.pass_cost, plan.token_budget)
    return [order[start:end] for start, end in zip((0, *cuts[:-1]), cuts, strict=True)]


@lru_cache(maxsize=256)
def cut_by_length(lengths: tuple[int, ...], pass_cost: int, token_budget: int) -> tuple[int, ...]:
    """Cut rising lengths into runs so that padded tokens + pass_cost * runs is least (dynamic programming).

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
