"""An instance with its gold rationale and, where a model read it, the extracted one, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.instance import Instance


@dataclass(frozen=True, kw_only=True)
class HighlightedToken:
    """One token of a text.

    Attributes:
        segment, start, end: character span within the input's segments, half-open.
        score: importance, higher is more important; any real number.
        selected: whether the rationale that is shown holds it, at the instance's `top_k_percent`.
        enters: the smallest of the instance's `thresholds` whose rationale holds it; 0 where none does.
        gold: whether the gold rationale holds it; None where the instance has no gold rationale.
    """

    segment: int
    start: int
    end: int
    score: float
    selected: bool
    gold: bool | None
    enters: int = 0


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

    @property
    def has_gold(self) -> bool:
        """Whether it has a gold rationale."""
        return any(token.gold is not None for token in self.tokens)


@dataclass(frozen=True, kw_only=True)
class HighlightedInstance:
    """An instance as the model sees it.

    Attributes:
        label: gold class name; None where it is unknown.
        predicted: predicted class name; None where no model was asked, and only the gold rationale is there.
        probability: of the predicted class, in [0, 1].
        top_k_percent: the k of `HighlightedToken.selected`.
        thresholds: increasing percents that `HighlightedToken.enters` tells of; a rationale with a size of its own has
            that one. Empty in results of versions until 0.1.0.
        measured: results by instance, by their column in `metrics.instance_file`, and metrics of `metrics.table` by
            key; those that there are.
    """

    id: str
    inputs: tuple[HighlightedInput, ...]
    label: str | None
    predicted: str | None = None
    probability: float = 0.0
    top_k_percent: int = 0
    thresholds: tuple[int, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)


def highlight_tokens(
    spans: Iterable[Sequence[int]],
    gold: Iterable[bool | None],
    enters: Iterable[int],
    scores: Iterable[float],
    *,
    top_k_percent: int,
) -> tuple[HighlightedToken, ...]:
    """Tokens of a row without the special ones; each column has a value per token, special ones included.

    Args:
        spans: segment, which is negative for special tokens, start and end.
        top_k_percent: of the rationale that is shown.
    """
    return tuple(
        HighlightedToken(
            segment=segment,
            start=start,
            end=end,
            score=score,
            selected=0 < percent <= top_k_percent,
            gold=flag,
            enters=percent,
        )
        for (segment, start, end), flag, percent, score in zip(spans, gold, enters, scores, strict=True)
        if segment >= 0
    )


def highlight_row(
    split: EncodedSplit,
    row: int,
    segments: tuple[str, ...],
    enters: Sequence[int],
    scores: Sequence[float],
    *,
    top_k_percent: int,
    choice: str = "",
) -> HighlightedInput:
    """A row's tokens with their scores.

    Args:
        enters, scores: of the row's tokens, special ones included.
        top_k_percent: of the rationale that is shown.
    """
    part = slice(int(split.offsets[row]), int(split.offsets[row + 1]))
    known = bool(split.has_gold[row])
    gold = [flag if known else None for flag in split.gold[part].tolist()]
    tokens = highlight_tokens(split.spans[part].tolist(), gold, enters, scores, top_k_percent=top_k_percent)
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
            enters, scores = [100 * flag for flag in gold], [float(flag) for flag in gold]
            inputs.append(highlight_row(split, row, text.segments, enters, scores, top_k_percent=100, choice=name))
        return HighlightedInstance(id=instance.id, inputs=tuple(inputs), label=labels[instance.label])

    return tuple(map(shown, numbers))


def highlights_to_json(highlights: Iterable[HighlightedInstance]) -> list[dict[str, Any]]:
    """Highlighted instances for JSON; a token is a list of its attributes' values."""

    def written(text: HighlightedInput) -> dict[str, Any]:
        return {**vars(text), "tokens": [list(vars(token).values()) for token in text.tokens]}

    return [{**vars(one), "inputs": [written(text) for text in one.inputs]} for one in highlights]


def highlights_from_json(stored: Sequence[Mapping[str, Any]]) -> tuple[HighlightedInstance, ...]:
    """What `highlights_to_json` gave, after its way through JSON."""
    names = [attribute.name for attribute in fields(HighlightedToken)]

    def read_token(token: Mapping[str, Any] | Sequence[Any]) -> HighlightedToken:
        # Versions until 0.1.0 wrote names and values.
        return HighlightedToken(**(token if isinstance(token, Mapping) else dict(zip(names, token, strict=True))))

    def read_input(content: Mapping[str, Any]) -> HighlightedInput:
        tokens = tuple(map(read_token, content["tokens"]))
        return HighlightedInput(**{**content, "segments": tuple(content["segments"]), "tokens": tokens})

    def read_instance(content: Mapping[str, Any]) -> HighlightedInstance:
        inputs, thresholds = tuple(map(read_input, content["inputs"])), tuple(content.get("thresholds", ()))
        return HighlightedInstance(**{**content, "inputs": inputs, "thresholds": thresholds})

    return tuple(map(read_instance, stored))
