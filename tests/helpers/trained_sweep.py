"""What a sweep leaves behind, made of real trials, and what is exported from it."""

import json
from pathlib import Path

from unirex_ray.analysis.selection import Configuration
from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.inference.export import Selected, export
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.report.table import to_csv
from unirex_ray.tracking.records import TrialRecord, TrialSpec
from unirex_ray.tracking.store import SweepRecord
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.trial import train_trial

METHODS = ("unirex-slm-fp", "unirex-aa-f-rand", "fresh-p", "a2r", "l2e")


def trained_sweep(folder: Path, config: Config, corpus: Corpus, methods=METHODS, seeds=(0, 1)) -> dict[str, dict]:
    """What a sweep leaves behind, made of real trials; returns the metrics that were recorded, by trial."""
    recorded, rows = {}, []
    for method in methods:
        rows.append({"method": method, "rank": 1, "configuration": 3, "seeds": list(seeds)})
        rows.append({"method": method, "rank": 2, "configuration": 0, "seeds": list(seeds)})
        for seed in seeds:
            trial_id = f"s1-{method}-0003-s{seed}"
            settings = config.changed({"method": method, "train.seed": seed})
            result = train_trial(settings, corpus, LocalRuntime(folder / "trials" / trial_id))
            recorded[trial_id] = result.metrics.flat()
    (folder / "leaderboard.csv").write_text(to_csv(rows))
    settings = {"data.name": corpus.name, "data.digest": corpus.digest()}
    (folder / "sweep.json").write_text(json.dumps({"sweep_id": "s1", "status": "completed", "settings": settings}))
    return recorded


def export_trial(swept: Path, folder: Path, method: str = "unirex-slm-fp") -> Config:
    """Export the trial of seed 0."""
    spec = TrialSpec(trial_id=f"s1-{method}-0003-s0", method=method, configuration=3, seed=0, parameters={})
    metrics = TrialMetrics(dev={"task_score": 80.0}, test={"task_score": 70.0})
    record = TrialRecord(spec=spec, status="completed", metrics=metrics, run_id="run")
    sweep = SweepRecord(sweep_id="s1", status="completed", seeds=(0,), trials=(record,), run_id="sweep run")
    configuration = Configuration(method=method, index=3, parameters={}, records=(record,), complete=True)
    selected = Selected(record=record, configuration=configuration, sweep=sweep)
    return export(selected, swept, folder, tracking_uri="sqlite:///runs.db")
