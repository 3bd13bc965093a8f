"""Gold rationale efficiency: plausibility by how many train instances have gold rationales (paper, section 4.6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unirex_ray.analysis.compare import in_table_order
from unirex_ray.analysis.selection import Configuration, select_variants
from unirex_ray.methods import known_method
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights
from unirex_ray.metrics.table import AUPRC

GOLD_PERCENT = "data.gold_percent"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A method's plausibility at one share of gold rationales.

    Attributes:
        percent: of the train instances that have a gold rationale, in (0, 100]; None where the method uses none.
        auprc: on test, mean over seeds, x100; higher is better.
        std: standard deviation over seeds (n - 1; nan for one seed), x100.
        seeds: what both are taken over, increasing.
        configuration: key of the one that is shown.
        candidates: how many complete configurations of this share it was selected from.
    """

    percent: float | None
    auprc: float
    std: float
    seeds: tuple[int, ...]
    configuration: str
    candidates: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One method.

    Attributes:
        points: by increasing percent; of a method that uses no gold rationales one alone, without a percent.
        missing: percents at which other methods have a point and this one, which uses gold rationales, has none.
    """

    method: str
    points: tuple[Point, ...]
    missing: tuple[float, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether the method uses no gold rationales, so that its point holds at every percent."""
        return self.points[0].percent is None

    def at(self, percent: float) -> Point | None:
        """The point at a percent; None where there is none."""
        return next((point for point in self.points if point.percent in (None, percent)), None)


@dataclass(frozen=True, kw_only=True)
class GoldEfficiency:
    """All methods of one corpus.

    Attributes:
        percents: increasing; at each of them some method has a point.
        curves: in the order of the paper's tables.
        unknown: methods that learn from gold rationales, but of a share that no search varied.
    """

    percents: tuple[float, ...]
    curves: tuple[Curve, ...]
    unknown: tuple[str, ...]


def gold_efficiency(
    variants: Mapping[str, Sequence[Configuration]], weights: Weights = EQUAL_WEIGHTS
) -> GoldEfficiency | None:
    """Test AUPRC by the share of gold rationales, from configurations that varied `data.gold_percent`.

    Of several configurations of one method and share, the one with the best dev CNRG among these is shown, and the
    earlier one where they are equal.

    Args:
        variants: complete configurations by method, as in `Comparison.variants`.
        weights: of FNRG, PNRG and TNRG in that CNRG.

    Returns:
        None where no method has two shares, or test has no gold rationales.
    """
    shares = {method: _by_percent(method, variants[method]) for method in in_table_order(variants)}
    if not any(len(groups) > 1 for groups in shares.values()):
        return None
    percents = sorted({percent for groups in shares.values() for percent in groups if percent is not None})
    curves = tuple(
        Curve(
            method=method,
            points=tuple(_point(percent, groups[percent], weights) for percent in sorted(groups, key=lambda p: p or 0)),
            missing=() if None in groups else tuple(percent for percent in percents if percent not in groups),
        )
        for method, groups in shares.items()
        if groups
    )
    unknown = tuple(method for method, groups in shares.items() if not groups)
    return GoldEfficiency(percents=tuple(percents), curves=curves, unknown=unknown)


def _by_percent(method: str, variants: Iterable[Configuration]) -> dict[float | None, list[Configuration]]:
    measured = [configuration for configuration in variants if AUPRC.key in configuration.mean("test")]
    if (known := known_method(method)) and not known.reads(GOLD_PERCENT):
        return {None: measured} if measured else {}
    groups: dict[float | None, list[Configuration]] = defaultdict(list)
    for configuration in measured:
        if GOLD_PERCENT in configuration.parameters:
            groups[float(configuration.parameters[GOLD_PERCENT])].append(configuration)
    return groups


def _point(percent: float | None, group: Sequence[Configuration], weights: Weights) -> Point:
    (selected,) = select_variants({group[0].method: group}, weights).values()
    return Point(
        percent=percent,
        auprc=selected.mean("test")[AUPRC.key],
        std=selected.std("test")[AUPRC.key],
        seeds=selected.seeds,
        configuration=selected.key,
        candidates=len(group),
    )
