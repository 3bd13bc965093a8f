"""What a page of rationales shows of instances and methods: texts, recorded numbers, and how far rationales agree."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from unirex_ray.data.highlight import HighlightedInstance, HighlightedToken
from unirex_ray.metrics.table import AUPRC, COMPREHENSIVENESS, SUFFICIENCY, TOKEN_F1
from unirex_ray.report.marked_text import Parts, marked_text

METRICS = (COMPREHENSIVENESS, SUFFICIENCY, AUPRC, TOKEN_F1)
"""Of each instance."""
NO_NUMBER = "n/a"
"""Where something was not measured."""
_BYTES = 900_000
_BYTES_PER_TOKEN, _BYTES_PER_VIEW = 57, 1000
_FEWEST = 5
_Places = frozenset[tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Text:
    """One input.

    Attributes:
        segments: parts of each.
        has_gold: whether it has a gold rationale.
        note, choice: see `HighlightedInput`.
        scores: the lowest and the highest; empty without tokens, or without a model.
    """

    segments: list[Parts]
    has_gold: bool
    note: str
    choice: str
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """One instance by one method; numbers as text.

    Attributes:
        right: whether the prediction is the label; None where one of them is unknown.
        p_full, p_without, p_alone: p(x), p(x without the rationale), p(of the rationale alone) at each percent.
        metrics: by label.
        off_gold: at each percent, see `disagreement`.
        own: percent of a rationale with a size of its own.
    """

    method: str
    predicted: str | None
    right: bool | None
    texts: Sequence[Text]
    p_full: Sequence[str] = ()
    p_without: Sequence[str] = ()
    p_alone: Sequence[str] = ()
    metrics: Mapping[str, str]
    off_gold: Sequence[str] = ()
    own: int | None = None


@dataclass(frozen=True, kw_only=True)
class Card:
    """One instance.

    Attributes:
        apart: how far the methods' rationales are apart at each percent, as text; empty for one method.
        values: what it is sorted and filtered by, by method and over methods.
    """

    id: str
    label: str | None
    views: Sequence[View]
    apart: Sequence[str]
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A page.

    Attributes:
        percents: that the page offers, increasing.
        shown: the one that is shown first.
        methods: labels of the methods.
        left_out: how many instances a page of this size has no room for.
        not_common: how many instances some methods show and others do not, which are left out as well.
    """

    percents: tuple[int, ...]
    shown: int
    methods: tuple[str, ...]
    cards: Sequence[Card]
    left_out: int = 0
    not_common: int = 0

    @property
    def with_model(self) -> bool:
        """Whether a model was asked; else there are gold rationales alone."""
        return any(view.predicted is not None for card in self.cards for view in card.views)

    @property
    def with_gold(self) -> bool:
        """Whether any instance has a gold rationale."""
        return any(text.has_gold for text in self._texts())

    @property
    def without_gold(self) -> bool:
        """Whether any has none."""
        return any(not text.has_gold for text in self._texts())

    def _texts(self) -> Iterator[Text]:
        return (text for card in self.cards for view in card.views for text in view.texts)


def gather(by_method: Mapping[str, Sequence[HighlightedInstance]]) -> Evidence:
    """The instances that all methods show, in the order of the first one, as many as a page has room for.

    Args:
        by_method: by the method's label.
    """
    columns = [{one.id: one for one in instances} for instances in by_method.values()]
    common = [id_ for id_ in columns[0] if all(id_ in column for column in columns)] if columns else []
    rows = [[column[id_] for column in columns] for id_ in common]
    fitting = _fitting(rows)
    shown = max((one.top_k_percent for row in rows for one in row if len(one.thresholds) != 1), default=0)
    offered = {k for row in rows for one in row if len(one.thresholds) > 1 for k in one.thresholds}
    own = {one.top_k_percent for row in rows for one in row}
    percents = tuple(sorted(offered | ({shown} - {0}))) or (max(own, default=0),)
    return Evidence(
        percents=percents,
        shown=shown or percents[-1],
        methods=tuple(by_method),
        cards=[_card(tuple(by_method), row, percents) for row in rows[:fitting]],
        left_out=len(rows) - fitting,
        not_common=len({id_ for column in columns for id_ in column}) - len(common),
    )


def _fitting(rows: Sequence[Sequence[HighlightedInstance]]) -> int:
    """How many instances a page holds: the first ones, so that no result decides."""
    size = 0
    for number, row in enumerate(rows):
        for text in (text for one in row for text in one.inputs):
            marked = sum(bool(token.enters or token.selected or token.gold) for token in text.tokens)
            size += sum(map(len, text.segments)) + _BYTES_PER_TOKEN * marked + _BYTES_PER_VIEW
        if size > _BYTES and number >= _FEWEST:
            return number
    return len(rows)


def _card(methods: Sequence[str], row: Sequence[HighlightedInstance], percents: tuple[int, ...]) -> Card:
    off_gold = [_off_gold(one, percents) for one in row]
    apart = [_apart([_rationale(one, k) for one in row]) for k in percents] if len(row) > 1 else []
    views = [_view(*of_one, percents) for of_one in zip(methods, row, off_gold, strict=True)]
    return Card(
        id=row[0].id,
        label=row[0].label,
        views=views,
        apart=[_number(value, 2) for value in apart],
        values={
            "apart": [round(value, 4) for value in apart],
            "differ": len({one.predicted for one in row}) > 1,
            "views": [
                {
                    "wrong": view.right is False,
                    "right": view.right is True,
                    "p": one.probability,
                    "gold": [None if value is None else round(value, 4) for value in off],
                    **{metric.key: one.measured.get(metric.key) for metric in METRICS},
                }
                for view, one, off in zip(views, row, off_gold, strict=True)
            ],
        },
    )


def _view(method: str, one: HighlightedInstance, off_gold: Sequence[float | None], percents: tuple[int, ...]) -> View:
    own = one.top_k_percent if one.predicted is not None and len(one.thresholds) < 2 else None
    texts = [
        Text(
            segments=marked_text(text, percents, own),
            has_gold=text.has_gold,
            note=text.note,
            choice=text.choice,
            scores=_range([token.score for token in text.tokens]) if one.predicted is not None else (),
        )
        for text in one.inputs
    ]
    if one.predicted is None:
        return View(method=method, predicted=None, right=None, texts=texts, metrics={})
    full = [one.measured.get(f"probability@{k}", one.probability) for k in percents]
    return View(
        method=method,
        predicted=one.predicted,
        right=None if one.label is None else one.predicted == one.label,
        texts=texts,
        p_full=[_number(p, 3) for p in full],
        p_without=[_number(_less(p, one.measured.get(f"comp@{k}")), 3) for p, k in zip(full, percents, strict=True)],
        p_alone=[_number(_less(p, one.measured.get(f"suff@{k}")), 3) for p, k in zip(full, percents, strict=True)],
        metrics={metric.label: _number(one.measured.get(metric.key), metric.decimals) for metric in METRICS},
        off_gold=[_number(value, 2) for value in off_gold],
        own=own,
    )


def _range(scores: Sequence[float]) -> tuple[float, ...]:
    return (min(scores), max(scores)) if scores else ()


def _less(probability: float, drop: float | None) -> float | None:
    return None if drop is None else probability - drop


def _number(value: float | None, decimals: int) -> str:
    return NO_NUMBER if value is None else f"{value:z.{decimals}f}"


def _places(one: HighlightedInstance, holds: Callable[[HighlightedToken], bool]) -> _Places:
    """The characters of the tokens that are held."""
    return frozenset(
        (number, token.segment, place)
        for number, text in enumerate(one.inputs)
        for token in text.tokens
        if holds(token)
        for place in range(token.start, token.end)
    )


def _rationale(one: HighlightedInstance, percent: int, *, beside_gold: bool = False) -> _Places:
    """The characters of a rationale.

    Args:
        beside_gold: only of the inputs that have a gold one.
    """
    at_any = len(one.thresholds) > 1

    def holds(token: HighlightedToken) -> bool:
        inside = 0 < token.enters <= percent if at_any else token.selected
        return inside and (not beside_gold or token.gold is not None)

    return _places(one, holds)


def _off_gold(one: HighlightedInstance, percents: Sequence[int]) -> list[float | None]:
    """How far the rationale is from the gold one at each percent; None without one."""
    if not any(text.has_gold for text in one.inputs):
        return [None] * len(percents)
    golden = _places(one, lambda token: bool(token.gold))
    return [disagreement(_rationale(one, k, beside_gold=True), golden) for k in percents]


def _apart(rationales: Sequence[_Places]) -> float:
    """Mean over pairs."""
    return fmean(disagreement(*pair) for pair in combinations(rationales, 2))


def disagreement(one: Collection[Any], other: Collection[Any]) -> float:
    """Share of what either holds that not both hold, in [0, 1]: 1 - Jaccard's index; 0 where both are empty."""
    either = {*one, *other}
    return 1 - len({*one} & {*other}) / len(either) if either else 0.0
