"""Texts as a user gives them to a model, checked against what the model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unirex_ray.data.instance import Input, Instance, is_blank
from unirex_ray.errors import UserError
from unirex_ray.models.card import ModelCard

Text = str | Sequence[str]
"""One text, or two of a pair."""


def listed_texts(texts: object, card: ModelCard, model: str) -> list[Any]:
    """What a user gave as a list of texts, which `instances_of` checks one by one.

    Args:
        texts: a string, or an iterable of texts: a list, a column of a frame, an array of strings or of rows of them.
        model: its name, for errors.

    Raises:
        UserError: for a mapping or a frame, whose elements are names; for a tuple that may be one pair or two texts.
    """
    if isinstance(texts, np.ndarray):
        texts = texts.tolist()
    if isinstance(texts, str):
        return [texts]
    # A frame of any library: iterating one gives the names of its columns.
    if isinstance(texts, Mapping) or hasattr(type(texts), "columns"):
        raise UserError(
            f"the texts are a {type(texts).__name__}, which does not say what to explain; "
            'give a list of strings or one column: explain(frame["text"])'
        )
    if not isinstance(texts, Iterable) or isinstance(texts, bytes | bytearray):
        raise UserError(f"the texts must be a string, or a list of texts, but are {texts!r:.80}")
    listed = list(texts)
    may_be_pair = len(listed) == 2 and not card.multi_choice and card.segments != 1
    if isinstance(texts, tuple) and may_be_pair and all(isinstance(text, str) for text in listed):
        raise UserError(
            f"a tuple of two strings may be one pair or two texts, and {model} reads pairs; "
            "give a list of pairs: explain([(a, b)])"
        )
    return listed


def instances_of(texts: Sequence[Text | Sequence[Text]], card: ModelCard, model: str) -> list[Instance]:
    """Texts as unlabelled instances.

    Args:
        texts: each a string or two of a pair; for multi-choice a list of them, one per choice.
        model: its name, for errors.

    Raises:
        UserError: for an empty or undecodable text, or one that is not what the model reads; by its index where there
            are several.
    """
    instances = []
    for number, text in enumerate(texts):
        where = f"texts[{number}]" if len(texts) > 1 else "the text"
        inputs = _choices(text, where, card, model) if card.multi_choice else (_input(text, where, card, model),)
        # Random scores are drawn from the id: a text has the same ones wherever it stands.
        name = "\n".join(segment for each in inputs for segment in each.segments)
        instances.append(Instance(id=name, inputs=inputs, label=0))
    return instances


def _choices(choices: Text | Sequence[Text], where: str, card: ModelCard, model: str) -> tuple[Input, ...]:
    wanted = len(card.labels)
    if isinstance(choices, str) or not isinstance(choices, Sequence) or len(choices) != wanted:
        raise UserError(
            f"{model} chooses between {wanted} texts: {where} must be a list of these, in the order of "
            f"{', '.join(card.labels)}, but is {choices!r:.80}"
        )
    return tuple(_input(choice, f"{where}[{number}]", card, model) for number, choice in enumerate(choices))


def _input(text: Text | Sequence[Text], where: str, card: ModelCard, model: str) -> Input:
    given = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, Sequence) else ()
    segments = tuple(str(segment) for segment in given if isinstance(segment, str))
    if len(given) not in (1, 2) or len(segments) != len(given):
        raise UserError(f"{where} must be a string, or two of a pair, but is {text!r:.80}")
    for name, segment in zip((where, f"the second text of {where}"), segments, strict=False):
        if is_blank(segment):
            raise UserError(f"{name} is empty; give a text to explain")
        _check_encodable(segment, name)
    if card.segments not in (None, len(segments)):
        reads = ("pairs of texts; give the second one as well", "single texts; leave the second one out")
        raise UserError(f"{where}: {model} was trained on {reads[len(segments) - 1]}")
    return Input(segments=segments)


def _check_encodable(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{name} holds {text[error.start]!r} at character {error.start}, which is half of a character or "
            "a byte that was not decoded; give the text as valid UTF-8"
        ) from None
