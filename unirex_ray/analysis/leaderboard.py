"""A sweep's configurations in order, from dev metrics alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unirex_ray.analysis.selection import (
    Configuration,
    Ranking,
    rank_on_dev,
    rank_variants,
    why_unscored,
    with_most_data,
)
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Scores, Weights


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One configuration's rank and scores.

    Attributes:
        rank: among its method's complete configurations (of those on most train instances, see `with_most_data`), from
            1; None where it is unscored.
        scores: in variant scope, on dev: they compare with others of the same method only.
        global_cnrg: on dev, of the method's selected configuration against the other methods'; else None.
        best: whether it is the sweep's one best configuration.
        note: why it is unscored; else empty.
    """

    configuration: Configuration
    rank: int | None
    scores: Scores | None
    global_cnrg: float | None
    best: bool
    note: str


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """A sweep's configurations.

    Attributes:
        rows: methods by falling global CNRG of their selected configuration, then by rank; configurations that are not
            complete come last within their method.
        variants: by method, its complete configurations against each other.
        methods: the methods' selected configurations against each other.
    """

    rows: tuple[LeaderboardRow, ...]
    variants: Mapping[str, Ranking]
    methods: Ranking

    @property
    def best(self) -> LeaderboardRow | None:
        """The sweep's one best configuration; None where none is complete, or none better than the majority class."""
        return next((row for row in self.rows if row.best), None)


def leaderboard(configs: Mapping[str, Sequence[Configuration]], weights: Weights = EQUAL_WEIGHTS) -> Leaderboard:
    """Rank all configurations of a sweep by dev metrics."""
    compared, _ = with_most_data(configs)
    variants = {method: rank_variants(of_method, weights) for method, of_method in compared.items()}
    selected = {method: ranking.order[0] for method, ranking in variants.items() if ranking.order}
    methods = rank_on_dev(selected, weights)
    position = {configuration.method: number for number, configuration in enumerate(methods.order)}
    rows = []
    for method in sorted(configs, key=lambda method: position.get(method, len(position))):
        ranking = variants[method]
        for number, config in enumerate(ranking.order, start=1):
            scores = methods.population.scores.get(method) if config is selected[method] else None
            rows.append(
                LeaderboardRow(
                    configuration=config,
                    rank=number,
                    scores=ranking.population.scores[config.key],
                    global_cnrg=None if scores is None else scores.cnrg,
                    best=config is methods.best,
                    note="",
                )
            )
        rows += [
            LeaderboardRow(
                configuration=config, rank=None, scores=None, global_cnrg=None, best=False, note=why_unscored(config)
            )
            for config in configs[method]
            if config.key not in ranking.population.scores
        ]
    return Leaderboard(rows=tuple(rows), variants=variants, methods=methods)
