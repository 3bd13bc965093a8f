"""What a corpus is, before any tokenizer sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal

from unirex_ray.metrics.table import Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
TaskMetric = Literal["accuracy", "macro_f1"]


@dataclass(frozen=True, kw_only=True)
class Input:
    """One text that the task model reads.

    Attributes:
        segments: one text, or two for pairs (document and query, premise and hypothesis).
        gold: half-open character spans `(segment, start, end)` of the gold rationale; None where there is none.
    """

    segments: tuple[str, ...]
    gold: tuple[tuple[int, int, int], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A labelled instance: one input, or one per choice for multi-choice tasks (the label is then the choice)."""

    id: str
    inputs: tuple[Input, ...]
    label: int


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Three splits of instances.

    Attributes:
        labels: class names, by index.
        task_metric: the metric behind `task_score`.
        max_length: tokens per input that the corpus' own rules allow; None: whatever the encoder takes.
        truncation: `head` keeps the first tokens; `rationale` keeps the first window if it holds a gold token and the
            last one otherwise (Movies).
        notes: what the loader found worth telling, e.g. the number of instances without evidence.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[Split, tuple[Instance, ...]]
    task_metric: TaskMetric = "accuracy"
    multi_choice: bool = False
    max_length: int | None = None
    truncation: Literal["head", "rationale"] = "head"
    notes: tuple[str, ...] = field(default=())

    @property
    def has_gold(self) -> bool:
        """Whether any train instance has a gold rationale to learn from."""
        return any(text.gold for instance in self.splits["train"] for text in instance.inputs)

    def digest(self) -> str:
        """16 hex digits over labels, rules and every instance of every split."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256()
        header = [self.name, self.labels, self.task_metric, self.multi_choice, self.max_length, self.truncation]
        sha.update(json.dumps(header).encode())
        for split in SPLITS:
            for instance in self.splits[split]:
                sha.update(json.dumps([split, asdict(instance)]).encode())
        return sha.hexdigest()[:16]
