"""What a corpus is, before any tokenizer sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from unirex_ray.data.columns import InstanceTable

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
TaskMetric = Literal["accuracy", "macro_f1", "binary_f1"]
"""binary_f1: the F1 score of the second class."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Three splits of instances.

    Attributes:
        labels: class names, by index.
        task_metric: the metric behind `task_score`.
        max_length: tokens per input that the corpus' own rules allow; None: whatever the encoder takes.
        truncation: `head` keeps the first tokens; `rationale` keeps the first window if it holds a gold token or
            none is known, and the last one otherwise (Movies).
        notes: what the loader found worth telling, e.g. the number of instances without evidence.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[Split, InstanceTable]
    task_metric: TaskMetric = "accuracy"
    multi_choice: bool = False
    max_length: int | None = None
    truncation: Literal["head", "rationale"] = "head"
    notes: tuple[str, ...] = field(default=())

    def has_gold(self, split: Split) -> bool:
        """Whether any instance of a split has a gold rationale."""
        return len(self.splits[split].spans) > 0

    def sizes(self) -> str:
        """How many instances train, dev and test have, e.g. `256/32/32`."""
        return "/".join(str(len(self.splits[split])) for split in SPLITS)

    @property
    def segments(self) -> int:
        """Texts per input: 1, or 2 of a pair."""
        return len(self.splits["train"][0].inputs[0].segments)

    def digest(self) -> str:
        """16 hex digits over labels, rules and every instance of every split."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        header = [self.name, self.labels, self.task_metric, self.multi_choice, self.max_length, self.truncation]
        sha = hashlib.sha256(json.dumps(header).encode())
        for split in SPLITS:
            for name, column in sorted(self.splits[split].columns().items()):
                sha.update(json.dumps([split, name, len(column)]).encode())
                sha.update(column.data)
        return sha.hexdigest()[:16]
