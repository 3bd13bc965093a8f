"""From source tokens to one text and character spans."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int, int]


def gold_spans(tokens: Sequence[str], gold: Sequence[bool], *, segment: int = 0) -> tuple[Span, ...]:
    """Character spans of the runs of gold tokens in `" ".join(tokens)`.

    Args:
        gold: one flag per token.

    Returns:
        Disjoint half-open `(segment, start, end)` in reading order, one per run of adjacent gold tokens.
    """
    spans: list[Span] = []
    position, previous = 0, False
    for token, is_gold in zip(tokens, gold, strict=True):
        end = position + len(token)
        if is_gold:
            start = spans.pop()[1] if previous else position
            spans.append((segment, start, end))
        position, previous = end + 1, is_gold
    return tuple(spans)
