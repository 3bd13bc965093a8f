"""A text as a page shows it: tokens that are in a rationale or may be, and stretches far from every rationale folded.

A word is in the rationale of k percent where `Word.enters` is at most k. Larger rationales hold the smaller ones, so
that what is folded at one k lies within what is folded at a smaller one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from unirex_ray.data.highlight import HighlightedInput, HighlightedToken

_CONTEXT = 12
"""Words that stay beside a mark, and at the beginning of a text."""
_FEWEST_FOLDED = 40
_SHORT = 200
"""Tokens of a text up to which every token shows its score; in longer ones, those that some rationale holds."""

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of text between token borders.

    Attributes:
        token: None for text outside every token (blanks, and text that the model does not read).
    """

    text: str
    token: HighlightedToken | None

    @property
    def unread(self) -> bool:
        """Whether the model does not read it."""
        return self.token is None and not self.text.isspace()


def pieces(highlighted: HighlightedInput) -> list[list[Piece]]:
    """Each segment's whole text, cut at token borders; an overlap of tokens belongs to the first one."""

    def cut(segment: int, text: str) -> Iterator[Piece]:
        offset = 0
        for token in (token for token in highlighted.tokens if token.segment == segment):
            start = max(token.start, offset)
            if start >= token.end:
                continue
            if start > offset:
                yield Piece(text=text[offset:start], token=None)
            yield Piece(text=text[start : token.end], token=token)
            offset = token.end
        if offset < len(text):
            yield Piece(text=text[offset:], token=None)

    return [list(cut(index, text)) for index, text in enumerate(highlighted.segments)]


@dataclass(frozen=True, kw_only=True)
class Word:
    """A stretch of text.

    Attributes:
        kind: `token` where it may be marked or shows a score, `unread` where the model does not read it, else `plain`.
        enters: the smallest percent whose rationale holds it; 0 where none does.
        gold: whether the gold rationale holds it; None where there is none.
        goes_on: whether nothing but blanks parts it from the token before.
    """

    text: str
    start: int
    kind: str = "plain"
    enters: int = 0
    score: float = 0.0
    gold: bool | None = None
    goes_on: bool = False

    def is_marked(self, percent: int) -> bool:
        """Whether it is in the rationale or in the gold one."""
        return 0 < self.enters <= percent or bool(self.gold)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Parts that are folded.

    Attributes:
        percents: at which they are.
        words: how many there are.
    """

    percents: tuple[int, ...]
    words: int
    parts: tuple[Word | Fold, ...]


Parts = tuple[Word | Fold, ...]


def marked_text(highlighted: HighlightedInput, percents: Sequence[int], own: int | None = None) -> list[Parts]:
    """The parts of each segment.

    Args:
        percents: increasing; those that a page offers.
        own: of a rationale with a size of its own: all of it is in the rationale of every percent.
    """
    every = len(highlighted.tokens) <= _SHORT
    found = []
    for text, cut in zip(highlighted.segments, pieces(highlighted), strict=True):
        words = list(_words(cut, percents, own, every))
        marks = {k: [(w.start, w.start + len(w.text)) for w in words if w.is_marked(k)] for k in percents}
        found.append(fold(text, words, marks))
    return found


def _words(cut: Sequence[Piece], percents: Sequence[int], own: int | None, every: bool) -> Iterator[Word]:
    start, goes_on = 0, False
    for piece in cut:
        token = piece.token
        enters = 0 if token is None else _enters(token, percents, own)
        if token is not None and (enters or token.gold or every):
            yield Word(
                text=piece.text,
                start=start,
                kind="token",
                enters=enters,
                score=token.score,
                gold=token.gold,
                goes_on=goes_on,
            )
            goes_on = True
        else:
            yield Word(text=piece.text, start=start, kind="unread" if piece.unread else "plain")
            goes_on = goes_on and piece.text.isspace()
        start += len(piece.text)


def _enters(token: HighlightedToken, percents: Sequence[int], own: int | None) -> int:
    if own is not None:
        return percents[0] if token.selected else 0
    return next((percent for percent in percents if 0 < token.enters <= percent), 0)


def fold(text: str, words: Sequence[Word], marks: Mapping[int, Sequence[Span]]) -> Parts:
    """Fold what is far from the marks of each percent.

    Args:
        words: that the text consists of.
        marks: by percent, in the order of the text.
    """
    spans: dict[Span, list[int]] = {}
    for percent, marked in marks.items():
        for span in _folded(text, marked):
            spans.setdefault(span, []).append(percent)
    borders = sorted({border for span in spans for border in span})
    parts = [part for word in words for part in _cut(word, borders)]
    return _nest(parts, sorted(spans.items(), key=lambda item: (item[0][0], -item[0][1])), text)


def _folded(text: str, marked: Sequence[Span]) -> Iterator[Span]:
    """The spans of a text that are folded: the middle of each gap between marks, if it is long."""
    starts, ends = [*(start for start, _ in marked), len(text)], [0, *(end for _, end in marked)]
    for number, (gap_start, gap_end) in enumerate(zip(ends, starts, strict=True)):
        found = [(m.start() + gap_start, m.end() + gap_start) for m in re.finditer(r"\S+", text[gap_start:gap_end])]
        after = _CONTEXT if number < len(marked) else 0
        if len(found) >= _CONTEXT + _FEWEST_FOLDED + after:
            yield found[_CONTEXT - 1][1], found[-after][0] if after else gap_end


def _cut(word: Word, borders: Sequence[int]) -> Iterator[Word]:
    """A word that is no token, cut where something is folded."""
    end = word.start + len(word.text)
    inner = [border for border in borders if word.start < border < end] if word.kind != "token" else []
    for start, stop in zip([word.start, *inner], [*inner, end], strict=True):
        text = word.text[start - word.start : stop - word.start]
        yield word if not inner else Word(text=text, start=start, kind=word.kind)


def _nest(parts: Sequence[Word], spans: Sequence[tuple[Span, Sequence[int]]], text: str) -> Parts:
    found: list[Word | Fold] = []
    while spans:
        ((start, end), percents), *rest = spans
        found += [part for part in parts if part.start < start]
        inside = [part for part in parts if start <= part.start < end]
        parts = [part for part in parts if part.start >= end]
        within = [span for span in rest if span[0][1] <= end]
        spans = [span for span in rest if span[0][1] > end]
        folded = _nest(inside, within, text)
        found.append(Fold(percents=tuple(percents), words=len(text[start:end].split()), parts=folded))
    return (*found, *parts)
