"""A tokenised corpus: columns of tensors, one row per input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from unirex_ray.data.schema import Split, TaskMetric

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSplit:
    """Rows one after the other; row r belongs to instance r // choices and holds tokens offsets[r] to offsets[r + 1].

    Attributes:
        ids: of the instances.
        labels: int64 [instances].
        input_ids: int32 [tokens]; every row begins with CLS.
        token_types: int8 [tokens]; zeros where the tokenizer has none.
        gold: bool [tokens]; False on special tokens.
        offsets: int64 [rows + 1].
        has_gold: whether a gold token is left after truncation, bool [rows].
        cut: tokens cut from the first and from the second segment, and gold ones among them; int32 [rows, 3].
        last_window: whether the last tokens were kept rather than the first ones, bool [rows].
        spans: segment, and start and end (half-open) in the segment's text; (-1, 0, 0) for special tokens;
            int32 [tokens, 3].
        choices: rows per instance.
        teacher_scores: importance scores of an earlier stage, float32 [tokens]; None without one.
    """

    ids: Sequence[str]
    labels: Tensor
    input_ids: Tensor
    token_types: Tensor
    gold: Tensor
    offsets: Tensor
    has_gold: Tensor
    cut: Tensor
    last_window: Tensor
    spans: Tensor
    choices: int
    teacher_scores: Tensor | None = None

    def __len__(self) -> int:
        """Number of instances."""
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Tokens per row, special tokens included; int64 [rows]."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def gold_per_row(self) -> np.ndarray:
        """Gold tokens of each row, int64 [rows]."""
        before = np.concatenate([[0], np.cumsum(self.gold.numpy(), dtype=np.int64)])[self.offsets.numpy()]
        counts: np.ndarray = before[1:] - before[:-1]
        return counts

    @property
    def truncated(self) -> Tensor:
        """Whether tokens were cut; bool [rows]."""
        return self.cut[:, :2].sum(1) > 0

    @property
    def gold_lost(self) -> Tensor:
        """Whether gold tokens were cut and none is left; bool [rows]."""
        return (self.cut[:, 2] > 0) & ~self.has_gold

    def truncation_note(self, row: int) -> str:
        """What was cut from a row, in words; empty where nothing was."""
        first, second, gold = self.cut[row].tolist()
        if first + second == 0:
            return ""
        pair = bool((self.spans[int(self.offsets[row]) : int(self.offsets[row + 1]), 0] == 1).any())
        parts = [f"{count} of the {name} text" for name, count in (("first", first), ("second", second)) if count]
        from_where = f" ({', '.join(parts)})" if pair else ""
        lost = f", {gold} of them gold" if gold else ""
        kept = "last" if bool(self.last_window[row]) else "first"
        return f"{first + second} tokens are cut{from_where}{lost}; the {kept} ones are kept"


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Ids of a tokenizer's PAD and SEP (or EOS) tokens."""

    pad_id: int
    sep_id: int


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedCorpus:
    """Three tokenised splits. Their tensors may be mapped from a file: treat them as read-only.

    Attributes:
        max_length: the limit, in tokens per row, that was applied.
        digest: of the corpus (`Corpus.digest`).
        notes: the corpus' own, and how many rows were cut.
    """

    name: str
    labels: tuple[str, ...]
    task_metric: TaskMetric
    multi_choice: bool
    splits: Mapping[Split, EncodedSplit]
    special_tokens: SpecialTokens
    max_length: int
    digest: str
    notes: tuple[str, ...]

    @property
    def classes(self) -> int:
        """What an instance is predicted as one of: a label, or a choice."""
        return self.splits["train"].choices if self.multi_choice else len(self.labels)
