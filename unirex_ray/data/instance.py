"""One labelled text, or several, with the human rationale."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Fillers of Hangul and Braille's empty cell: by Unicode's categories they can be seen."""


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: blanks, control and zero-width characters, accents that stand on no letter."""
    return all(
        character in _BLANK_LETTERS or unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Me")
        for character in text
    )


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
