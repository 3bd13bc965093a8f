"""What more train instances bring each method: test metrics by `data.train_limit`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unirex_ray.analysis.compare import in_table_order
from unirex_ray.analysis.selection import TRAIN_LIMIT, Configuration, select_variants, train_size
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights


@dataclass(frozen=True, kw_only=True)
class Point:
    """A method at one size of the train split.

    Attributes:
        size: train instances, see `train_size`.
        configuration: the one that is shown, the best of this size by dev CNRG among them.
        candidates: how many complete configurations of this size it was selected from.
    """

    size: float
    configuration: Configuration
    candidates: int

    @property
    def learned(self) -> bool | None:
        """Whether it is better than the majority class on test; None where that was not recorded."""
        return self.configuration.better_than_majority("test")


@dataclass(frozen=True, kw_only=True)
class LearningCurves:
    """All methods of one corpus.

    Attributes:
        sizes: increasing; some method has a point at each.
        curves: by method in the order of the paper's tables, each by increasing size.
    """

    sizes: tuple[float, ...]
    curves: Mapping[str, tuple[Point, ...]]


def learning_curves(
    variants: Mapping[str, Sequence[Configuration]], weights: Weights = EQUAL_WEIGHTS
) -> LearningCurves | None:
    """From configurations that varied `data.train_limit`.

    Args:
        variants: complete configurations by method, as in `Comparison.variants`.
        weights: of FNRG, PNRG and TNRG in the CNRG that selects.

    Returns:
        None where no method was trained on two sizes.
    """
    curves = {}
    for method in in_table_order(variants):
        by_size: dict[float, list[Configuration]] = defaultdict(list)
        for configuration in variants[method]:
            if TRAIN_LIMIT in configuration.parameters:
                by_size[train_size(configuration)].append(configuration)
        points = tuple(
            Point(size=size, configuration=selected, candidates=len(by_size[size]))
            for size in sorted(by_size)
            for selected in select_variants({method: by_size[size]}, weights).values()
        )
        if points:
            curves[method] = points
    if not any(len(points) > 1 for points in curves.values()):
        return None
    sizes = {point.size for points in curves.values() for point in points}
    return LearningCurves(sizes=tuple(sorted(sizes)), curves=curves)
