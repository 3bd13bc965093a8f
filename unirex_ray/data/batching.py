"""Batches: which part of them is for which worker, and their tensors.

Whatever a step has to know of a batch before it can go on (lengths, above all) stays in the host's memory, so that no
step waits for its device.

Shapes: B instances, C choices per instance, R = B * C rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unirex_ray.data.encoded import EncodedSplit, SpecialTokens


@dataclass(frozen=True)
class Batch:
    """Padded rows; row r belongs to instance r // choices.

    Attributes:
        input_ids, token_types: [R, T]; `pad_id` and 0 behind the end of a row.
        lengths: tokens per row, CLS included [R].
        host_lengths: the same, in the host's memory.
        labels: [B].
        gold: gold rationale [R, T], False on special tokens and padding.
        has_gold: [R].
        host_has_gold: the same, in the host's memory.
        separators: where the row holds a SEP token [R, T].
        ids: of the instances, B of them.
        teacher_scores: importance scores of an earlier stage, 0 on padding [R, T]; None where there are none.
    """

    input_ids: Tensor
    token_types: Tensor
    lengths: Tensor
    host_lengths: np.ndarray
    labels: Tensor
    gold: Tensor
    has_gold: Tensor
    host_has_gold: np.ndarray
    separators: Tensor
    pad_id: int
    choices: int
    ids: tuple[str, ...]
    teacher_scores: Tensor | None = None

    @cached_property
    def attended(self) -> Tensor:
        """True on tokens, False on padding [R, T]."""
        return torch.arange(self.input_ids.shape[1], device=self.lengths.device) < self.lengths[:, None]

    @property
    def rows(self) -> int:
        """R."""
        return self.input_ids.shape[0]

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        if device == self.input_ids.device:
            return self
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = to_device(value, device)
        return replace(self, **moved)


def on_device(device: torch.device, *arrays: np.ndarray) -> list[Tensor]:
    """Whole numbers of the host as tensors of the same shapes, in one copy that nobody waits for."""
    flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]).astype(np.int64, copy=False))
    parts = torch.split(to_device(flat, device), [array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on `device` that nobody waits for."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def collate(split: EncodedSplit, instances: Sequence[int], special_tokens: SpecialTokens) -> Batch:
    """Pad instances to the longest of their rows."""
    choices = split.choices
    rows = [instance * choices + choice for instance in instances for choice in range(choices)]
    starts = split.offsets[rows]
    lengths = split.offsets[[row + 1 for row in rows]] - starts
    position = torch.arange(int(lengths.max()))
    inside = position < lengths[:, None]
    where = (starts[:, None] + position)[inside]

    def padded(column: Tensor, fill: int, dtype: torch.dtype) -> Tensor:
        out = torch.full(inside.shape, fill, dtype=dtype)
        out[inside] = column[where].to(dtype)
        return out

    input_ids = padded(split.input_ids, special_tokens.pad_id, torch.long)
    has_gold = split.has_gold[rows]
    return Batch(
        input_ids=input_ids,
        token_types=padded(split.token_types, 0, torch.long),
        lengths=lengths,
        host_lengths=lengths.numpy(),
        labels=split.labels[list(instances)],
        gold=padded(split.gold, 0, torch.bool),
        has_gold=has_gold,
        host_has_gold=has_gold.numpy(),
        separators=(input_ids == special_tokens.sep_id) & inside,
        pad_id=special_tokens.pad_id,
        choices=choices,
        ids=tuple(split.ids[instance] for instance in instances),
        teacher_scores=None if split.teacher_scores is None else padded(split.teacher_scores, 0, torch.float32),
    )


def share(instances: Sequence[int], rank: int, world: int) -> list[int]:
    """A worker's part of a global batch: contiguous parts that differ by at most one; may be empty."""
    return [instances[index] for index in np.array_split(np.arange(len(instances)), world)[rank].tolist()]


def micro_batches(instances: Sequence[int], size: int | None) -> list[list[int]]:
    """Cut a worker's part so that each forward pass holds at most `size` instances."""
    size = size or max(1, len(instances))
    return [list(instances[start : start + size]) for start in range(0, len(instances), size)]


def sorted_chunks(split: EncodedSplit, instances: Sequence[int], size: int) -> list[list[int]]:
    """Cut `instances` into evaluation chunks of like length, longest first (so that memory peaks at once)."""
    lengths = (split.offsets[1:] - split.offsets[:-1]).view(-1, split.choices).amax(dim=1)
    order = sorted(instances, key=lambda instance: (-int(lengths[instance]), instance))
    return [order[start : start + size] for start in range(0, len(order), size)]
