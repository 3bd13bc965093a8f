"""Rationales as one self-contained HTML page, or as text for the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from rich.text import Text

from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, HighlightedToken

_LEVELS = ("", "", "on #fff3d6", "on #ffe3a3", "on #ffce66", "on #ffb52e")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of text between token borders.

    Attributes:
        strength: importance relative to the input's other tokens, in [0, 1]; 0 outside tokens.
        token: None for text outside every token (blanks, and text that the model does not read).
    """

    text: str
    strength: float
    token: HighlightedToken | None


def pieces(highlighted: HighlightedInput) -> list[list[Piece]]:
    """Each segment's whole text, cut at token borders; an overlap of tokens belongs to the first one."""
    scores = [token.score for token in highlighted.tokens]
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)

    def cut(segment: int, text: str) -> Iterator[Piece]:
        offset = 0
        for token in (token for token in highlighted.tokens if token.segment == segment):
            start = max(token.start, offset)
            if start >= token.end:
                continue
            if start > offset:
                yield Piece(text=text[offset:start], strength=0.0, token=None)
            strength = (token.score - low) / (high - low) if high > low else 0.0
            yield Piece(text=text[start : token.end], strength=strength, token=token)
            offset = token.end
        if offset < len(text):
            yield Piece(text=text[offset:], strength=0.0, token=None)

    return [list(cut(index, text)) for index, text in enumerate(highlighted.segments)]


def rationale_page(instances: Sequence[HighlightedInstance], *, title: str, subtitle: str = "") -> str:
    """One HTML page without scripts or external resources: extracted rationales next to the gold ones.

    Texts, labels and titles are escaped.
    """
    return template("rationales.html").render(
        title=title, subtitle=subtitle, instances=instances, pieces=pieces, has_gold=has_gold
    )


def template(name: str) -> Template:
    """A page of this folder; every text that is put into it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)


def has_gold(highlighted: HighlightedInput) -> bool:
    """Whether the input has a gold rationale."""
    return any(token.gold is not None for token in highlighted.tokens)


def rationale_text(instance: HighlightedInstance, *, plain: bool = False) -> Text:
    """The instance for a terminal: prediction and text with the extracted rationale, or without one the gold rationale.

    Args:
        plain: for output without colours: mark the rationale with [brackets], and leave out text that the model does
            not read.
    """
    text = Text()
    kind = "[in brackets]" if plain else "underlined"
    if instance.predicted is None:
        text.append(_visible(f"{instance.id}   label: {instance.label}\n"), "bold")
        text.append(f"gold rationale: {kind if any(map(has_gold, instance.inputs)) else 'none'}\n")
    else:
        label = "" if instance.label is None else f"   label: {instance.label}"
        text.append(_visible(f"prediction: {instance.predicted} ({instance.probability:.1%}){label}\n"), "bold")
        text.append(f"rationale (top {instance.top_k_percent}%): {kind}\n")
    for highlighted in instance.inputs:
        if highlighted.choice:
            text.append(_visible(f"{highlighted.choice}: "), "bold")
        if highlighted.note:
            text.append(f"({highlighted.note})\n", "dim")
        for segment in pieces(highlighted):
            if plain:
                _append_brackets(text, segment)
            else:
                for piece in segment:
                    text.append(_visible(piece.text), _style(piece))
            text.append("\n")
    return text


def _append_brackets(text: Text, segment: Sequence[Piece]) -> None:
    inside = False
    for piece in segment:
        if piece.token and piece.token.selected != inside:
            inside = piece.token.selected
            _bracket(text, opening=inside)
        if piece.token is None and piece.text.strip():
            text.append("]" * inside + " [...] ")
            inside = False
        else:
            text.append(_visible(piece.text))
    text.append("]" * inside)


def _bracket(text: Text, *, opening: bool) -> None:
    if opening:
        text.append("[")
        return
    # The blank before the next token stays outside the bracket.
    blank = text.plain[len(text.plain.rstrip()) :]
    if blank:
        text.right_crop(len(blank))
    text.append("]" + blank)


def _style(piece: Piece) -> str:
    if piece.token is None:
        return "dim" if piece.text.strip() else ""
    level = _LEVELS[min(int(piece.strength * len(_LEVELS)), len(_LEVELS) - 1)]
    parts = ["bold underline" if piece.token.selected else "", f"black {level}" if level else ""]
    return " ".join(part for part in parts if part)


def _visible(text: str) -> str:
    """Text without control characters, which a terminal takes as commands."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text
    )
