"""One labelled text, or several, with the human rationale."""

from __future__ import annotations

from dataclasses import dataclass


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
