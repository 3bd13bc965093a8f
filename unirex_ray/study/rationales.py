"""Rationales of the gold one's size, as characters of a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[int, int]
"""Start and end (half-open) in characters."""


def of_size(scores: Sequence[float], eligible: Sequence[bool], size: int) -> list[bool]:
    """The tokens with the highest scores; of equal ones, the lower index.

    Args:
        scores: higher is more important; finite.
        eligible: tokens that compete; special ones never do.
        size: tokens to keep; all eligible ones where there are no more.
    """
    competing = [index for index, may in enumerate(eligible) if may]
    kept = {*sorted(competing, key=lambda index: (-scores[index], index))[:size]}
    return [index in kept for index in range(len(scores))]


def is_tied(scores: Sequence[float], eligible: Sequence[bool], kept: Sequence[bool]) -> bool:
    """Whether a token that was left out has the score of one that was kept: the lower index decided."""
    inside = [score for score, keep in zip(scores, kept, strict=True) if keep]
    outside = [score for score, may, keep in zip(scores, eligible, kept, strict=True) if may and not keep]
    return bool(inside and outside) and min(inside) == max(outside)


def joined(text: str, spans: Iterable[Span]) -> list[Span]:
    """Spans in order, those between which only blanks lie made one: how a text was cut shows not who marked it."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and (start <= found[-1][1] or not text[found[-1][1] : start].strip()):
            start, end = found[-1][0], max(end, found.pop()[1])
        found.append((start, end))
    return found


def parts_word(text: str, spans: Iterable[Span]) -> bool:
    """Whether a span begins or ends within a word, as where a tokenizer knows pieces of words alone."""
    return any(text[edge - 1 : edge + 1].isalnum() for span in spans for edge in span if 0 < edge < len(text))


def runs(text: str, spans: Iterable[Span]) -> list[tuple[str, bool]]:
    """A text cut into stretches, each with whether it is marked.

    Args:
        spans: as `joined` gives them.
    """
    found, offset = list[tuple[str, bool]](), 0
    for start, end in spans:
        found += [(text[offset:start], False), (text[start:end], True)]
        offset = end
    return [(part, marked) for part, marked in [*found, (text[offset:], False)] if part]
