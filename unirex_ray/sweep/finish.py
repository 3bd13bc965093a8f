"""What a sweep leaves behind when all its trials have ended."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from unirex_ray.analysis.leaderboard import Leaderboard, LeaderboardRow, leaderboard
from unirex_ray.analysis.selection import configurations
from unirex_ray.config import Config, to_yaml
from unirex_ray.report.comparison import leaderboard_table
from unirex_ray.sweep.driver import Timing
from unirex_ray.sweep.folder import LEADERBOARD, SweepFolder
from unirex_ray.sweep.plan import SweepPlan
from unirex_ray.sweep.schedule import has_settled
from unirex_ray.tracking.protocol import INSTANCES, protocol_line
from unirex_ray.tracking.records import TrialStatus
from unirex_ray.tracking.store import BEST_CONFIG, SELECTED_SCORES, SWEEP, SweepLog, resolve_tracking_uri


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """A finished sweep.

    Attributes:
        settings: everything that decides its numbers, flat, with the number of instances.
        leaderboard: every configuration, best first.
        best: resolved configuration of the best one with the sweep's first seed; None where none completed, or
            none has models that are better than the majority class.
        statuses: how many trials ended in which way.
        ended_early: by method whose search `sweep.patience` ended, how many configurations it tried, of how many.
        not_delivered: how many events of its journal MLflow has not taken.
        page: see `Recording`.
        output: the folder with `leaderboard.csv`, `best_config.yaml` and `sweep.json`.
    """

    sweep_id: str
    settings: Mapping[str, Any]
    leaderboard: Leaderboard
    best: Config | None
    statuses: Mapping[TrialStatus, int]
    output: Path
    ended_early: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    not_delivered: int = 0
    page: str = ""

    @property
    def digest(self) -> str:
        """Of the data."""
        return str(self.settings["data.digest"])

    @property
    def status(self) -> Literal["completed", "incomplete", "failed"]:
        """`incomplete` where trials were lost, which a resumed sweep runs again; `failed` where none completed."""
        if self.statuses.get("lost"):
            return "incomplete"
        return "completed" if self.statuses.get("completed") else "failed"

    @property
    def shortfall(self) -> str:
        """Which trials it lacks, in words; empty where every trial completed, or was stopped at a rung."""
        of = f"of {sum(self.statuses.values())} trials"
        told: dict[TrialStatus, str] = {
            "failed": "failed, and would again: their reasons stand in the leaderboard above and in sweep.json",
            "lost": "were lost with their process, node or disk: the same command with --resume runs them again",
        }
        return "; ".join(f"{self.statuses[s]} {of} {why}" for s, why in told.items() if self.statuses.get(s))

    @property
    def rows(self) -> tuple[LeaderboardRow, ...]:
        """Those of the leaderboard."""
        return self.leaderboard.rows


def write_results(
    plan: SweepPlan,
    folder: SweepFolder,
    sweep: SweepLog,
    *,
    summary: Mapping[str, Any],
    timings: Mapping[str, Timing],
    concurrency: int,
) -> SweepOutcome:
    """Select from the trials on record, and write leaderboard, best configuration and summary, also to the run store.

    Args:
        summary: the contents of `sweep.json` so far, with the number of instances.
        timings: of the trials that this process ran, by identifier, in the order in which they ended.
        concurrency: how many trials ran at once.
    """
    methods, seeds = list(plan.budgets), plan.config.sweep.seeds
    records = sorted(sweep.trials(), key=lambda r: (methods.index(r.spec.method), r.spec.configuration, r.spec.seed))
    ranked = leaderboard(configurations(records, seeds=seeds), plan.config.sweep.nrg_weights)
    settings = {**summary["settings"], INSTANCES: summary["instances"]}
    files = [folder.write(LEADERBOARD, leaderboard_table(ranked, protocol_line(settings)).csv())]
    best = None
    (folder.path / BEST_CONFIG).unlink(missing_ok=True)  # of an earlier end of a sweep that has grown
    if ranked.best is not None:
        config = plan.trial_config(ranked.best.configuration.records[0].spec)
        best = config.changed({"train.seed": seeds[0], "sweep.methods": None})
        files.append(folder.write(BEST_CONFIG, to_yaml(best)))
    tried = Counter(method for method, _ in {(record.spec.method, record.spec.configuration) for record in records})
    ended_early = {
        method: (tried[method], most)
        for method, most in plan.budgets.items()
        if tried[method] < most
        and method in ranked.variants
        and has_settled(ranked.variants[method], plan.config.sweep.patience)
    }
    sweep.log_selection(_selection(ranked))
    outcome = SweepOutcome(
        sweep_id=summary["sweep_id"],
        settings=settings,
        leaderboard=ranked,
        best=best,
        statuses=Counter(record.status for record in records),
        output=folder.path,
        ended_early=ended_early,
    )
    summary = {
        **summary,
        "status": outcome.status,
        "tracking_uri": resolve_tracking_uri(plan.config),
        "concurrency": concurrency,
        "ended_early": outcome.ended_early,
        "trials": {record.spec.trial_id: record.reason or record.status for record in records},
        **_seconds(summary, timings),
    }
    files.append(folder.write(SWEEP, json.dumps(summary, indent=2)))
    for file in files:
        sweep.log_file(None, file)
    sweep.log_text(None, "search_space.txt", "".join(f"{p.describe()}\n" for p in plan.space.parameters))
    return outcome


def _selection(ranked: Leaderboard) -> dict[str, dict[str, float]]:
    """By trial: by what its configuration was selected, or was not (see `SweepLog.log_selection`)."""
    return {
        record.spec.trial_id: {key: value for key, value in row.scores.by_key().items() if key in SELECTED_SCORES}
        for row in ranked.rows
        if row.scores is not None
        for record in row.configuration.records
    }


def print_outcome(outcome: SweepOutcome, console: Console) -> None:
    """Print the leaderboard and the names of the files."""
    leaderboard_table(outcome.leaderboard, protocol_line(outcome.settings)).print(console)
    for method, (tried, most) in outcome.ended_early.items():
        told = f"{method}: {tried} of up to {most} configurations were tried, as the last ones brought none that is"
        console.print(
            f"{told} selected (sweep.patience); a method with more of them has had more chances",
            markup=False,
            soft_wrap=True,
        )
    files = [LEADERBOARD, *([BEST_CONFIG] if outcome.best else []), SWEEP]
    console.print(f"written to {outcome.output}: {', '.join(files)}", markup=False, soft_wrap=True)


def _seconds(summary: Mapping[str, Any], timings: Mapping[str, Timing]) -> dict[str, Any]:
    """The part of the summary that says how long trials took; what an interrupted sweep wrote stays."""
    seconds = {
        trial_id: {**{name.removesuffix("_s"): value for name, value in asdict(t).items()}, "fixed": t.fixed_s}
        for trial_id, t in timings.items()
    }
    after_first = [timing.fixed_s for timing in list(timings.values())[1:]]
    median = statistics.median(after_first) if after_first else summary.get("fixed_s_median_after_first")
    return {"fixed_s_median_after_first": median, "seconds": {**summary.get("seconds", {}), **seconds}}
