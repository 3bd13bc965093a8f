"""What a model says of texts: predictions, scores and rationales, to read, to look at and to compute with."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, highlight_tokens
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS
from unirex_ray.models.top_k import entering_percents, row_rationale
from unirex_ray.report.frame import DataFrame, frame_of
from unirex_ray.report.html import rationale_text
from unirex_ray.report.notebook import explanations_html

_PRINTED = 20
"""Explanations that a terminal or a notebook shows of many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainedInput:
    """A text, or a pair of texts, as the model read it.

    Shapes: T tokens, special ones included; text that was cut is not among them.

    Attributes:
        segments: the text, or the two of a pair.
        tokens: their text; special ones by name [T].
        spans: segment, and start and end (half-open) in it; (-1, 0, 0) for special tokens [T, 3].
        scores: importance as the extractor computes it, higher is more important; any real number [T].
        choice: name of the choice that the input stands for; empty where there are none.
        note: what was cut, in words; empty where nothing was.
    """

    segments: tuple[str, ...]
    tokens: tuple[str, ...]
    spans: NDArray[np.int32]
    scores: NDArray[np.float32]
    choice: str = ""
    note: str = ""

    def selected(self, top_k_percent: int) -> list[bool]:
        """Which tokens the top-k% rationale holds [T]; as in training and evaluation, SEP may be one of them."""
        return row_rationale(torch.from_numpy(self.scores), top_k_percent)

    def phrases(self, top_k_percent: int) -> list[str]:
        """The rationale's stretches of text, in reading order."""
        stretches: list[tuple[int, int, int]] = []
        adjoins = False
        for (segment, start, end), chosen in zip(self.spans.tolist(), self.selected(top_k_percent), strict=True):
            if chosen and segment >= 0:
                if adjoins and stretches[-1][0] == segment:
                    start = stretches.pop()[1]
                stretches.append((segment, start, end))
            adjoins = chosen and segment >= 0
        return [self.segments[segment][start:end] for segment, start, end in stretches]

    def highlighted(self, top_k_percent: int, thresholds: Sequence[int]) -> HighlightedInput:
        """The same for pages and terminals, without special tokens."""
        tokens = highlight_tokens(
            self.spans.tolist(),
            [None] * len(self.spans),
            entering_percents(torch.from_numpy(self.scores), thresholds),
            self.scores.tolist(),
            top_k_percent=top_k_percent,
        )
        return HighlightedInput(segments=self.segments, tokens=tokens, note=self.note, choice=self.choice)

    def records(self, top_k_percent: int) -> list[dict[str, Any]]:
        """A mapping per token."""
        about = {"choice": self.choice} if self.choice else {}
        columns = zip(self.tokens, self.spans.tolist(), self.scores.tolist(), self.selected(top_k_percent), strict=True)
        return [
            {**about, "token": token, "segment": span[0], "start": span[1], "end": span[2], "score": s, "rationale": r}
            for token, span, s, r in columns
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    r"""A prediction and what it rests on. x is the text, r its rationale.

    Attributes:
        inputs: one, or one per choice.
        probabilities: p(x) by label, or by choice; they sum to 1.
        predicted: the label with the highest one.
        top_k_percent: k of the rationale, and of the two probabilities below.
        complement_probability: p(x \ r) of the predicted label: without the rationale.
        rationale_probability: p(r) of the predicted label: with the rationale alone.
        any_k: whether the rationale can have any size; FRESH's has its own.
    """

    inputs: tuple[ExplainedInput, ...]
    probabilities: dict[str, float]
    predicted: str
    top_k_percent: int
    complement_probability: float
    rationale_probability: float
    any_k: bool = True

    @property
    def probability(self) -> float:
        """p(x) of the predicted label."""
        return self.probabilities[self.predicted]

    @property
    def tokens(self) -> tuple[str, ...]:
        """Of all inputs, special ones included."""
        return tuple(token for read in self.inputs for token in read.tokens)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Importance of the tokens, see `ExplainedInput`."""
        return np.concatenate([read.scores for read in self.inputs])

    def rationale(self, top_k_percent: int | None = None) -> list[str]:
        """The rationale's stretches of text, in reading order; of every choice, where there are some.

        Args:
            top_k_percent: any whole number from 1 to 100; by default the explanation's own.

        Raises:
            UserError: for any other one.
        """
        k = self._k(top_k_percent)
        return [phrase for read in self.inputs for phrase in read.phrases(k)]

    def highlighted(self, top_k_percent: int | None = None) -> HighlightedInstance:
        """The same for pages and terminals (`report.html`)."""
        k = self._k(top_k_percent)
        thresholds = tuple(sorted({*METRIC_TOP_K_PERCENTS, k})) if self.any_k else (k,)
        return HighlightedInstance(
            id="",
            inputs=tuple(read.highlighted(k, thresholds) for read in self.inputs),
            label=None,
            predicted=self.predicted,
            probability=self.probability,
            top_k_percent=k,
            thresholds=thresholds,
            measured={
                f"comp@{self.top_k_percent}": self.probability - self.complement_probability,
                f"suff@{self.top_k_percent}": self.probability - self.rationale_probability,
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain values."""
        k = self.top_k_percent
        return {
            "texts": [list(read.segments) for read in self.inputs],
            "predicted": self.predicted,
            "probabilities": dict(self.probabilities),
            "top_k_percent": k,
            "complement_probability": self.complement_probability,
            "rationale_probability": self.rationale_probability,
            "rationale": self.rationale(),
            "tokens": [record for read in self.inputs for record in read.records(k)],
            "notes": [read.note for read in self.inputs if read.note],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_frame(self) -> DataFrame:
        """A pandas frame with a row per token.

        Raises:
            UserError: where pandas is not installed.
        """
        return frame_of([record for read in self.inputs for record in read.records(self.top_k_percent)])

    def __repr__(self) -> str:
        shown = rationale_text(self.highlighted(), plain=True).plain.rstrip("\n")
        return f"{shown}\n{self.told()}"

    def told(self) -> str:
        """The three probabilities of the predicted label in words."""
        return (
            f"{self.predicted}: {self.probability:.1%}; without the rationale {self.complement_probability:.1%}, "
            f"with it alone {self.rationale_probability:.1%}"
        )

    def _repr_html_(self) -> str:
        return explanations_html([(self.highlighted(), self.told())])

    def _k(self, top_k_percent: int | None) -> int:
        if top_k_percent is None or not self.any_k:
            return self.top_k_percent
        return check_percent(top_k_percent)


class Explanations(Sequence[Explanation]):
    """Explanations of texts, in the order of the texts."""

    def __init__(self, explanations: Sequence[Explanation]) -> None:
        self._all = tuple(explanations)

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> Explanations: ...
    def __getitem__(self, index: int | slice) -> Explanation | Explanations:
        """One of them, or a part."""
        return Explanations(self._all[index]) if isinstance(index, slice) else self._all[index]

    def __iter__(self) -> Iterator[Explanation]:
        """One after the other."""
        return iter(self._all)

    def to_json(self, *, indent: int | None = None) -> str:
        """A JSON list with `Explanation.to_dict` of each."""
        return json.dumps([explanation.to_dict() for explanation in self._all], indent=indent)

    def to_frame(self) -> DataFrame:
        r"""A pandas frame with a row per text: prediction, p(x) of every label, p(x \ r), p(r), and the rationale.

        Raises:
            UserError: where pandas is not installed.
        """
        return frame_of([_record(explanation) for explanation in self._all])

    def __repr__(self) -> str:
        more = len(self) - _PRINTED
        shown = [repr(explanation) for explanation in self._all[:_PRINTED]]
        return "\n\n".join(shown + ([f"... and {more} more"] if more > 0 else []))

    def _repr_html_(self) -> str:
        shown = [(explanation.highlighted(), explanation.told()) for explanation in self._all[:_PRINTED]]
        return explanations_html(shown, more=max(0, len(self) - _PRINTED))


def check_percent(top_k_percent: int) -> int:
    """A rationale's k, of Python or NumPy, as a Python number.

    Raises:
        UserError: where it is not a whole number from 1 to 100.
    """
    try:
        k = 0 if isinstance(top_k_percent, bool) else operator.index(top_k_percent)
    except TypeError:
        k = 0
    if not 1 <= k <= 100:
        raise UserError(f"top_k_percent must be a whole number from 1 to 100, but got {top_k_percent!r}")
    return k


def _record(explanation: Explanation) -> dict[str, Any]:
    """A row of the frame."""
    return {
        "text": "\n".join(segment for read in explanation.inputs for segment in read.segments),
        "predicted": explanation.predicted,
        "probability": explanation.probability,
        "complement_probability": explanation.complement_probability,
        "rationale_probability": explanation.rationale_probability,
        "top_k_percent": explanation.top_k_percent,
        "rationale": explanation.rationale(),
        **{f"p({label})": value for label, value in explanation.probabilities.items()},
    }
