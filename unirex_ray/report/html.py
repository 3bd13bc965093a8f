"""Rationales as one self-contained HTML page, or as text for the terminal."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from rich.text import Text

from unirex_ray.data.highlight import HighlightedInstance
from unirex_ray.report.evidence import gather
from unirex_ray.report.marked_text import Piece, Word, pieces

RATIONALES = "rationales.html"
"""The page of a trial, in its folder and its run, and of a comparison."""
_SCRIPT = Path(__file__).with_name("rationales.js")


def rationale_page(instances: Sequence[HighlightedInstance], *, title: str, subtitle: str = "") -> str:
    """One self-contained HTML page: rationales over the gold ones, and what was measured on each instance.

    It is read without its script, which sorts, filters, folds, and changes the threshold. Texts, labels and titles are
    escaped.
    """
    return methods_page({"": instances}, title=title, subtitle=subtitle)


def methods_page(
    by_method: Mapping[str, Sequence[HighlightedInstance]], *, title: str, subtitle: str = "", back: str | None = None
) -> str:
    """The same page with several methods side by side on each instance.

    Args:
        by_method: by the method's label; instances that not all of them show are left out.
        back: a page that this one belongs to, relative to it.
    """
    script = _SCRIPT.read_text(encoding="utf-8")
    evidence = gather(by_method)
    return template("rationales.html").render(
        title=title,
        subtitle=subtitle,
        back=back,
        page=evidence,
        values={"percents": evidence.percents, "cards": [card.values for card in evidence.cards]},
        script=script,
        script_hash=script_hash(script),
        mark=mark,
    )


def mark(word: Word, percent: int, *, with_model: bool) -> str:
    """What a word is marked as; empty where it is not."""
    if not with_model:
        return "gold" if word.gold else ""
    inside = 0 < word.enters <= percent
    if word.gold is None:
        return "chosen" if inside else ""
    return {(True, True): "both", (True, False): "extra", (False, True): "missed"}.get((inside, word.gold), "")


def template(name: str, folder: Path = Path(__file__).parent) -> Template:
    """A page of a folder, by default this one; every text that is put into it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)


def script_hash(script: str) -> str:
    """By which a page's policy lets this script run and no other: base64 of its SHA-256."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def rationale_text(instance: HighlightedInstance, *, plain: bool = False) -> Text:
    """The instance for a terminal: prediction and text with the extracted rationale, or without one the gold rationale.

    Args:
        plain: for output without colours: mark the rationale with [brackets], and leave out text that the model does
            not read.
    """
    text = Text()
    kind = "[in brackets]" if plain else "underlined"
    if instance.predicted is None:
        text.append(visible(f"{instance.id}   label: {instance.label}\n"), "bold")
        text.append(f"gold rationale: {kind if any(text.has_gold for text in instance.inputs) else 'none'}\n")
    else:
        label = "" if instance.label is None else f"   label: {instance.label}"
        text.append(visible(f"prediction: {instance.predicted} ({instance.probability:.1%}){label}\n"), "bold")
        text.append(f"rationale (top {instance.top_k_percent}%): {kind}\n")
    for highlighted in instance.inputs:
        if highlighted.choice:
            text.append(visible(f"{highlighted.choice}: "), "bold")
        if highlighted.note:
            text.append(f"({highlighted.note})\n", "dim")
        for segment in pieces(highlighted):
            if plain:
                _append_brackets(text, segment)
            else:
                for piece in segment:
                    text.append(visible(piece.text), _style(piece))
            text.append("\n")
    return text


def _append_brackets(text: Text, segment: Sequence[Piece]) -> None:
    inside = False
    for piece in segment:
        if piece.token and piece.token.selected != inside:
            inside = piece.token.selected
            _bracket(text, opening=inside)
        if piece.unread:
            text.append("]" * inside + " [...] ")
            inside = False
        else:
            text.append(visible(piece.text))
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
        return "dim" if piece.unread else ""
    return "bold underline" if piece.token.selected else ""


def visible(text: str) -> str:
    """Text without control characters, which a terminal takes as commands."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text
    )
