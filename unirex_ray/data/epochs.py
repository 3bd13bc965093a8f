"""Which train instances come in which batch, and whose gold rationales are used, see `data.gold_percent`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.sample import stratified_sample

_GROUPED_BATCHES = 64  # texts are sorted by length within so many batches: little padding, and still a new order


def gold_instances(split: EncodedSplit, percent: float, *, seed: int) -> tuple[int, ...]:
    """D_gold: ceil(percent / 100 * N) of the N instances, drawn from those that have a gold rationale.

    Stratified by label; a smaller percentage of the same seed is a subset of a larger one. All of them where fewer have
    a gold rationale.

    Returns:
        Indices of instances, increasing.
    """
    with_gold = split.has_gold.view(-1, split.choices).any(dim=1).nonzero().flatten()
    wanted = math.ceil(Fraction(str(percent)) * len(split) / 100)
    drawn = stratified_sample(split.labels[with_gold].tolist(), wanted, seed=seed)
    return tuple(with_gold[list(drawn)].tolist())


def keep_gold(split: EncodedSplit, instances: Sequence[int]) -> EncodedSplit:
    """The split with the gold rationales of these instances alone; all others count as instances without one."""
    kept = torch.zeros(len(split), dtype=torch.bool)
    kept[list(instances)] = True
    rows = kept.repeat_interleave(split.choices)
    return replace(
        split, has_gold=split.has_gold & rows, gold=split.gold & rows.repeat_interleave(split.lengths, dim=0)
    )


def gold_per_batch(gold: int, batch_size: int, factor: float) -> int:
    """b_gold = min(N_gold, max(1, floor(b / beta)))."""
    return min(gold, max(1, math.floor(batch_size / Fraction(str(factor)))))


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """The global batches of every epoch: a pure function of seed and epoch, for any number of workers.

    Attributes:
        size: N, instances.
        batch_size: b.
        gold: D_gold where each batch draws `gold_per_batch` of its instances from it, without replacement within the
            batch, and the rest comes exactly once an epoch; None for ordinary batches, all instances once an epoch.
        lengths: tokens of each instance where batches are to hold texts of like length [N]; None: any.
    """

    size: int
    batch_size: int
    seed: int
    gold: tuple[int, ...] | None = None
    gold_per_batch: int = 0
    lengths: NDArray[np.int64] | None = None

    @classmethod
    def from_split(
        cls,
        split: EncodedSplit,
        *,
        batch_size: int,
        seed: int,
        gold: tuple[int, ...],
        factor: float,
        group_by_length: bool,
    ) -> Epochs:
        """Gold batches where some of the instances are in `gold` and others are not, ordinary ones otherwise."""
        gold_batches = 0 < len(gold) < len(split)
        return cls(
            size=len(split),
            batch_size=batch_size,
            seed=seed,
            gold=gold if gold_batches else None,
            gold_per_batch=gold_per_batch(len(gold), batch_size, factor) if gold_batches else 0,
            lengths=split.lengths.view(-1, split.choices).amax(dim=1).numpy() if group_by_length else None,
        )

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return math.ceil((self.size - len(self.gold or ())) / (self.batch_size - self.gold_per_batch))

    @property
    def drawn(self) -> int:
        """Instances of an epoch, each counted as often as it comes."""
        return self.size - len(self.gold or ()) + self.steps * self.gold_per_batch

    def batches(self, epoch: int) -> list[list[int]]:
        """An epoch's batches; the last one may be smaller.

        Args:
            epoch: from 0.
        """
        generator = np.random.default_rng([self.seed, epoch])
        if self.gold is None:
            return list(self._cut(generator.permutation(self.size), generator))
        others = np.setdiff1d(np.arange(self.size), self.gold)
        parts = self._cut(generator.permutation(others), generator)
        return [[*generator.choice(self.gold, self.gold_per_batch, replace=False).tolist(), *part] for part in parts]

    def _cut(self, order: NDArray[np.int64], generator: np.random.Generator) -> Iterator[list[int]]:
        ordinary = self.batch_size - self.gold_per_batch
        if self.lengths is not None:
            order = self._grouped(order, ordinary, generator)
        yield from (order[start : start + ordinary].tolist() for start in range(0, len(order), ordinary))

    def _grouped(self, order: NDArray[np.int64], ordinary: int, generator: np.random.Generator) -> NDArray[np.int64]:
        assert self.lengths is not None
        block = ordinary * _GROUPED_BATCHES
        parts = [order[start : start + block] for start in range(0, len(order), block)]
        order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])
        whole = len(order) // ordinary
        batches = order[: whole * ordinary].reshape(whole, ordinary)
        return np.concatenate([generator.permutation(batches).ravel(), order[whole * ordinary :]])
