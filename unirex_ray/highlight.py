"""An instance with its extracted and gold rationale, ready to be shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HighlightedToken:
    """One token of a text.

    Attributes:
        segment, start, end: character span within the input's segments, half-open.
        score: importance, higher is more important; any real number.
        selected: whether the top-k% rationale holds it.
        gold: whether the gold rationale holds it; None where the instance has no gold rationale.
    """

    segment: int
    start: int
    end: int
    score: float
    selected: bool
    gold: bool | None


@dataclass(frozen=True, kw_only=True)
class HighlightedInput:
    """One input's segments, and its tokens in reading order (special tokens and truncated text left out)."""

    segments: tuple[str, ...]
    tokens: tuple[HighlightedToken, ...]


@dataclass(frozen=True, kw_only=True)
class HighlightedInstance:
    """An instance as the model sees it.

    Attributes:
        label: gold class name; None where it is unknown.
        predicted: predicted class name.
        probability: of the predicted class, in [0, 1].
        top_k_percent: the k of `HighlightedToken.selected`.
    """

    id: str
    inputs: tuple[HighlightedInput, ...]
    label: str | None
    predicted: str
    probability: float
    top_k_percent: int
