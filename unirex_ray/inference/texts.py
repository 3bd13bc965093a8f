"""Texts as a user gives them to a model, checked against what the model reads."""

from __future__ import annotations

from collections.abc import Sequence

from unirex_ray.data.instance import Input, Instance, is_blank
from unirex_ray.errors import UserError
from unirex_ray.models.card import ModelCard

Text = str | Sequence[str]
"""One text, or two of a pair."""


def instances_of(texts: Sequence[Text | Sequence[Text]], card: ModelCard, model: str) -> list[Instance]:
    """Texts as unlabelled instances.

    Args:
        texts: each a string or two of a pair; for multi-choice a list of them, one per choice.
        model: its name, for errors.

    Raises:
        UserError: for an empty text, or one that is not what the model reads; by its index where there are several.
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
    if card.segments not in (None, len(segments)):
        reads = ("pairs of texts; give the second one as well", "single texts; leave the second one out")
        raise UserError(f"{where}: {model} was trained on {reads[len(segments) - 1]}")
    return Input(segments=segments)
