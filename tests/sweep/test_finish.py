"""What a sweep leaves behind, from trials on record, without a cluster."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.memory_store import MemoryStore, MemorySweep
from helpers.recorded_trials import raw
from rich.console import Console

from unirex_ray.config import Config, build_config
from unirex_ray.files import load_yaml
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.sweep.driver import Timing
from unirex_ray.sweep.finish import SweepOutcome, print_outcome, write_results
from unirex_ray.sweep.folder import SweepFolder
from unirex_ray.sweep.plan import SweepPlan, plan_sweep
from unirex_ray.sweep.space import parse_space
from unirex_ray.tracking.records import TrialSpec

SPACE = parse_space({"parameters": {"train.learning_rate": {"choice": [1e-5, 2e-5, 3e-5]}}}, "s.yaml")
SEEDS = (3, 1)
VALUES = {"unirex-slm-p": (0.5, 0.9, 0.7), "aa-ig": (0.6, 0.1, None)}
"""By configuration, how good its metrics are; None: it failed."""


def make_plan(output: Path, **overrides: Any) -> SweepPlan:
    sweep = {"sweep.methods": list(VALUES), "sweep.seeds": list(SEEDS), "output": str(output)}
    return plan_sweep(Config().changed({**sweep, **overrides}), SPACE)


def record_trials(values: dict[str, tuple[float | None, ...]] = VALUES) -> MemorySweep:
    sweep = MemoryStore().open_sweep(experiment="reviews", sweep_id="s1", seeds=SEEDS, params={}, tags={})
    for method, of_method in values.items():
        for number, value in enumerate(of_method):
            for seed in SEEDS:
                trial_id = f"s1-{method}-{number:04d}-s{seed}"
                parameters = {"train.learning_rate": 1e-5 * (1 + number)}
                sweep.open_trial(
                    TrialSpec(trial_id=trial_id, method=method, configuration=number, seed=seed, parameters=parameters),
                    params={},
                    tags={},
                )
                if value is None:
                    sweep.finish_trial(trial_id, "failed", metrics=TrialMetrics(), reason="loss is nan")
                else:
                    metrics = TrialMetrics.from_flat(raw(value + 0.01 * seed, 1 - value))
                    sweep.finish_trial(trial_id, "completed", metrics=metrics)
    return sweep


def finish(plan: SweepPlan, sweep: MemorySweep, folder: SweepFolder, **options: Any) -> SweepOutcome:
    summary = {"sweep_id": "s1", "status": "running", "settings": plan.settings("abc"), "instances": "24/12/12"}
    defaults: dict[str, Any] = {"summary": summary, "timings": {}, "concurrency": 2}
    return write_results(plan, folder, sweep, **{**defaults, **options})


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(str(tmp_path))


def test_leaderboard_and_best_configuration(folder: SweepFolder) -> None:
    plan, sweep = make_plan(folder.path), record_trials()
    outcome = finish(plan, sweep, folder)
    assert (outcome.sweep_id, outcome.digest, outcome.output) == ("s1", "abc", folder.path)
    assert [(row.configuration.method, row.configuration.index, row.rank) for row in outcome.rows] == [
        ("unirex-slm-p", 1, 1),
        ("unirex-slm-p", 2, 2),
        ("unirex-slm-p", 0, 3),
        ("aa-ig", 0, 1),
        ("aa-ig", 1, 2),
        ("aa-ig", 2, None),
    ]
    with (folder.path / "leaderboard.csv").open() as board:
        assert [row["configuration"] for row in csv.DictReader(board)] == ["1", "2", "0", "0", "1", "2"]

    # The best one, with the sweep's first seed, alone.
    best = build_config(load_yaml(folder.path / "best_config.yaml"))
    assert best == outcome.best
    assert (best.method, best.train.seed, best.train.learning_rate) == ("unirex-slm-p", 3, 2e-5)
    assert (best.sweep.methods, best.train.threads) == (None, 1)

    artifacts = sweep.runs["reviews/s1"]["artifacts"]
    for name in ("leaderboard.csv", "best_config.yaml", "sweep.json"):
        assert artifacts[name] == (folder.path / name).read_bytes()
    assert artifacts["search_space.txt"] == "train.learning_rate: choice 1e-05, 2e-05, 3e-05\n"
    console = Console(record=True, width=200)
    print_outcome(outcome, console)
    text = console.export_text(clear=False)
    assert f"written to {folder.path}: leaderboard.csv, best_config.yaml, sweep.json" in text
    assert "24/12/12 instances (train/dev/test)" in text
    assert "seeds 3, 1; up to 9 configurations per method" in text


def test_a_sweep_without_a_completed_configuration(folder: SweepFolder) -> None:
    folder.write("best_config.yaml", "method: aa-ig")  # the sweep had a best one before it grew
    outcome = finish(make_plan(folder.path), record_trials({"aa-ig": (None, None)}), folder)
    assert outcome.best is None
    assert [row.rank for row in outcome.rows] == [None, None]
    assert sorted(path.name for path in folder.path.glob("[!.]*")) == ["leaderboard.csv", "sweep.json"]
    console = Console(record=True, width=200)
    print_outcome(outcome, console)
    assert f"written to {folder.path}: leaderboard.csv, sweep.json" in console.export_text()


def timing(fixed_s: float) -> Timing:
    return Timing(wall_s=fixed_s + 6, train_s=3, evaluate_s=2, wait_s=1)


def test_the_summary(folder: SweepFolder) -> None:
    plan = make_plan(folder.path, **{"tracking.uri": "sqlite:////db"})
    before = {"sweep_id": "s1", "status": "running", "settings": plan.settings("abc"), "instances": "24/12/12"}
    before["seconds"] = {"earlier": {}}
    # The first trial of a process imports what the others find.
    timings = {"a": timing(50), "b": timing(1), "c": timing(2), "d": timing(4)}
    finish(plan, record_trials(), folder, summary=before, timings=timings)
    summary = json.loads((folder.path / "sweep.json").read_text())
    assert list(summary)[:3] == ["sweep_id", "status", "settings"]
    assert (summary["status"], summary["tracking_uri"], summary["concurrency"]) == ("completed", "sqlite:////db", 2)
    assert summary["settings"] == json.loads(json.dumps(plan.settings("abc")))
    assert list(summary["trials"].items())[:1] == [("s1-unirex-slm-p-0000-s1", "completed")]
    assert summary["trials"]["s1-aa-ig-0002-s3"] == "loss is nan"
    assert len(summary["trials"]) == 12
    assert summary["fixed_s_median_after_first"] == 2
    assert list(summary["seconds"]) == ["earlier", "a", "b", "c", "d"]
    assert summary["seconds"]["b"] == {"wall": 7, "train": 3, "evaluate": 2, "wait": 1, "fixed": 1}

    # A resumed sweep that ran nothing keeps the numbers.
    finish(plan, record_trials(), folder, summary=summary, timings={})
    assert json.loads((folder.path / "sweep.json").read_text()) == summary


def test_what_is_of_no_use_afterwards_is_deleted(folder: SweepFolder) -> None:
    scratch, shared = Path(folder.scratch), Path(folder.shared)
    for path in (scratch / "tune-s1", shared / "task-model"):
        path.mkdir(parents=True)
    folder.delete_scratch()
    assert not scratch.exists()
    assert not shared.exists()
    folder.delete_scratch()
