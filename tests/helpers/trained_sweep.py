"""What a sweep leaves behind, made of real trials."""

import json
from pathlib import Path

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.report.table import to_csv
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
