"""A tokenised corpus: columns of tensors, one row per input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unirex_ray.data.schema import TaskMetric
from unirex_ray.metrics.table import Split


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
        truncated: bool [rows].
        spans: segment, and start and end (half-open) in the segment's text; (-1, 0, 0) for special tokens;
            int32 [tokens, 3].
        choices: rows per instance.
        handed_on: importance scores that an earlier stage of training hands on, float32 [tokens]; None without one.
    """

    ids: tuple[str, ...]
    labels: Tensor
    input_ids: Tensor
    token_types: Tensor
    gold: Tensor
    offsets: Tensor
    has_gold: Tensor
    truncated: Tensor
    spans: Tensor
    choices: int
    handed_on: Tensor | None = None

    def __len__(self) -> int:
        """Number of instances."""
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Tokens per row, special tokens included; int64 [rows]."""
        return self.offsets[1:] - self.offsets[:-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedCorpus:
    """Three tokenised splits. Their tensors may be mapped from a file: treat them as read-only.

    Attributes:
        pad_id, sep_id: ids of the PAD and the SEP (or EOS) token.
        max_length: the limit, in tokens per row, that was applied.
        digest: of the corpus (`Corpus.digest`).
        notes: the corpus' own, and how many rows were cut.
    """

    name: str
    labels: tuple[str, ...]
    task_metric: TaskMetric
    multi_choice: bool
    splits: Mapping[Split, EncodedSplit]
    pad_id: int
    sep_id: int
    max_length: int
    digest: str
    notes: tuple[str, ...]
