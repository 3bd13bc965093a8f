"""Which of a corpus' classes each of a model's stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unirex_ray.errors import UserError
from unirex_ray.tracking.records import SAME_LABELS


def match_labels(
    model: Sequence[str], corpus: Sequence[str], label_map: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    """Which of a corpus' classes each of a model's stands for.

    As given; else by name, where both have the same names (or the same but for their case); else by position, where
    there are as many and no name is in both: so does the paper, whose sentiment models are scored on irony with
    positive for ironic.

    Args:
        label_map: model's label -> corpus' label, for every label of the model; several may stand for one.

    Raises:
        UserError: for a given label that there is not, or is missing; where nothing is given and the numbers differ, or
            only some of the names are in both.
    """
    if label_map is not None:
        unknown = [f"{name!r} (the model has {', '.join(model)})" for name in label_map if name not in model]
        unknown += [
            f"{name!r} (the corpus has {', '.join(corpus)})" for name in label_map.values() if name not in corpus
        ]
        missing = [name for name in model if name not in label_map]
        if unknown or missing:
            raise UserError(
                f"--map: unknown label {unknown[0]}" if unknown else f"--map lacks the model's label {missing[0]!r}"
            )
        return tuple(corpus.index(label_map[name]) for name in model)
    for same in (str, str.casefold):
        ours, theirs = [same(name) for name in model], [same(name) for name in corpus]
        if len(set(ours)) == len(ours) and sorted(ours) == sorted(theirs):
            return tuple(map(theirs.index, ours))
    if len(model) == len(corpus) and not {*map(str.casefold, model)} & {*map(str.casefold, corpus)}:
        return tuple(range(len(model)))
    raise UserError(
        f"the model has the labels {', '.join(model)}, the corpus {', '.join(corpus)}: say which stands for which, "
        f"e.g. --map {','.join(f'{name}={corpus[0]}' for name in model)}"
    )


def labels_in_words(model: Sequence[str], corpus: Sequence[str], class_map: tuple[int, ...] | None) -> str:
    """Which label stands for which, for people; `SAME_LABELS` where model and corpus have the same ones."""
    if class_map is None or [corpus[number] for number in class_map] == list(model):
        return SAME_LABELS
    return ", ".join(f"{name} for {corpus[number]}" for name, number in zip(model, class_map, strict=True))


def parse_mapping(text: str | None) -> dict[str, str] | None:
    """`negative=no,positive=yes` as a mapping; None stays None.

    Raises:
        UserError: for anything else.
    """
    if text is None:
        return None
    pairs = [part.split("=") for part in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs) or len({pair[0] for pair in pairs}) < len(pairs):
        raise UserError(f"--map must be MODEL_LABEL=CORPUS_LABEL,..., each of the model's once, but got {text!r}")
    return {pair[0].strip(): pair[1].strip() for pair in pairs}
