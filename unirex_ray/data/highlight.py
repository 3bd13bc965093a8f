"""An instance with its gold rationale and, where a model read it, the extracted one, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.instance import Instance


@dataclass(frozen=True, kw_only=True)
class HighlightedToken:
    """One token of a text.

    Attributes:
        segment, start, end: character span within the input's segments, half-open.
        score: importance, higher is more important; any real number.
        selected: whether the top-k% rationale holds it.
        gold: whether the gold rationale holds it; None where the instance has no gold rationale.
    """

    segment: int
    start: int
    end: int
    score: float
    selected: bool
    gold: bool | None


@dataclass(frozen=True, kw_only=True)
class HighlightedInput:
    """One input's segments, and its tokens in reading order (special tokens and truncated text left out).

    Attributes:
        note: what was cut, in words; empty where nothing was.
        choice: name of the choice that the input stands for; empty where there are none.
    """

    segments: tuple[str, ...]
    tokens: tuple[HighlightedToken, ...]
    note: str = ""
    choice: str = ""


@dataclass(frozen=True, kw_only=True)
class HighlightedInstance:
    """An instance as the model sees it.

    Attributes:
        label: gold class name; None where it is unknown.
        predicted: predicted class name; None where no model was asked, and only the gold rationale is there.
        probability: of the predicted class, in [0, 1].
        top_k_percent: the k of `HighlightedToken.selected`.
    """

    id: str
    inputs: tuple[HighlightedInput, ...]
    label: str | None
    predicted: str | None = None
    probability: float = 0.0
    top_k_percent: int = 0


def highlight_row(
    split: EncodedSplit,
    row: int,
    segments: tuple[str, ...],
    selected: Sequence[bool],
    scores: Sequence[float],
    choice: str = "",
) -> HighlightedInput:
    """A row's tokens with their scores.

    Args:
        selected, scores: of the row's tokens, special ones included; more than there are do no harm.
    """
    start, end = int(split.offsets[row]), int(split.offsets[row + 1])
    known = bool(split.has_gold[row])
    columns = zip(split.spans[start:end].tolist(), split.gold[start:end].tolist(), selected, scores, strict=False)
    tokens = tuple(
        HighlightedToken(
            segment=segment, start=first, end=last, score=score, selected=chosen, gold=gold if known else None
        )
        for (segment, first, last), gold, chosen, score in columns
        if segment >= 0
    )
    return HighlightedInput(segments=segments, tokens=tokens, note=split.truncation_note(row), choice=choice)


def highlight_gold(
    split: EncodedSplit, instances: Sequence[Instance], labels: Sequence[str], numbers: Iterable[int]
) -> tuple[HighlightedInstance, ...]:
    """Instances of a split with their gold rationales alone."""

    def shown(number: int) -> HighlightedInstance:
        instance = instances[number]
        inputs = []
        for choice, text in enumerate(instance.inputs):
            row = number * split.choices + choice
            gold = split.gold[int(split.offsets[row]) : int(split.offsets[row + 1])].tolist()
            name = labels[choice] if split.choices > 1 else ""
            inputs.append(highlight_row(split, row, text.segments, gold, [float(flag) for flag in gold], name))
        return HighlightedInstance(id=instance.id, inputs=tuple(inputs), label=labels[instance.label])

    return tuple(map(shown, numbers))


def highlights_from_json(stored: Sequence[Mapping[str, Any]]) -> tuple[HighlightedInstance, ...]:
    """What `dataclasses.asdict` made of highlighted instances, after its way through JSON."""

    def read_input(content: Mapping[str, Any]) -> HighlightedInput:
        tokens = tuple(HighlightedToken(**token) for token in content["tokens"])
        return HighlightedInput(**{**content, "segments": tuple(content["segments"]), "tokens": tokens})

    return tuple(
        HighlightedInstance(**{**content, "inputs": tuple(map(read_input, content["inputs"]))}) for content in stored
    )
