"""What `explain` is given to explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unirex_ray.errors import UserError

if TYPE_CHECKING:  # --help and refusals answer at once
    from unirex_ray.inference.model import LoadedModel
    from unirex_ray.inference.texts import Text


def given_text(text: str | None, second: str | None, choices: Sequence[str] | None) -> Text | Sequence[Text]:
    """A text, a pair, or a choice between texts or between pairs with the same first text."""
    if choices:
        if second is not None:
            raise UserError("--second belongs to a pair, and --choice to a choice between texts; give one of them")
        return [choice if text is None else (text, choice) for choice in choices]
    if text is None:
        raise UserError("give --text, or --choice for each text of a choice")
    return text if second is None else (text, second)


def check_choices(choices: Sequence[str] | None, model: LoadedModel) -> None:
    """Refuse choices for a model that takes none, and their lack, in the words of the options.

    Raises:
        UserError: as above.
    """
    card = model.card
    if choices and not card.multi_choice:
        reads = "pairs of texts; give the second one with --second" if card.segments == 2 else "single texts"
        raise UserError(f"{str(model.folder)!r} was trained on {reads}; leave --choice out")
    if card.multi_choice and len(choices or ()) != len(card.labels):
        raise UserError(f"{str(model.folder)!r} chooses between {len(card.labels)} texts; give each with --choice")
