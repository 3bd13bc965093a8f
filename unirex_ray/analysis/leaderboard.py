"""A sweep's configurations in order, from dev metrics alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unirex_ray.analysis.selection import (
    Configuration,
    score_methods,
    score_variants,
    select_best,
    select_variants,
    why_incomplete,
)
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Scores, Weights


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One configuration's rank and scores.

    Attributes:
        rank: among its method's complete configurations, from 1; None where it is unscored.
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


def leaderboard(
    configs: Mapping[str, Sequence[Configuration]], weights: Weights = EQUAL_WEIGHTS
) -> tuple[LeaderboardRow, ...]:
    """All configurations of a sweep: methods by falling global CNRG of their selected one, then by rank.

    Configurations that are not complete come last within their method.
    """
    selected = select_variants(configs, weights)
    best = select_best(selected, weights)
    overall = {method: scores.cnrg for method, scores in score_methods(selected, "dev", weights).scores.items()}
    rows = []
    for method in sorted(configs, key=lambda method: -overall.get(method, -1.0)):
        scores = score_variants(configs[method], weights).scores
        complete = [config for config in configs[method] if config.complete]
        for rank, config in enumerate(sorted(complete, key=lambda c: -scores[c.key].cnrg), start=1):
            rows.append(
                LeaderboardRow(
                    configuration=config,
                    rank=rank,
                    scores=scores[config.key],
                    global_cnrg=overall.get(method) if config is selected[method] else None,
                    best=config is best,
                    note="",
                )
            )
        rows += [
            LeaderboardRow(
                configuration=config, rank=None, scores=None, global_cnrg=None, best=False, note=why_incomplete(config)
            )
            for config in configs[method]
            if not config.complete
        ]
    return tuple(rows)
