"""Training one configuration, for the command line and for Python."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unirex_ray.config import Config, build_config
from unirex_ray.config.given import Settings, given_tree
from unirex_ray.data.load import load_corpus
from unirex_ray.distributed.train import train_anywhere
from unirex_ray.files import writable_folder
from unirex_ray.methods import get_method
from unirex_ray.report.frame import DataFrame, frame_of
from unirex_ray.report.html import rationale_page
from unirex_ray.training.prepare import choose_precision, prepare
from unirex_ray.training.result_file import RESULT
from unirex_ray.training.state import TrialResult

WRITTEN = "config.yaml, metrics.json, instances.parquet, rationales.html"


def train_in_output(config: Config, tell: Callable[[str], None]) -> TrialResult:
    """Train a configuration, and write what `WRITTEN` names to its output.

    Args:
        tell: is given what is worth telling before training starts, and whether nothing was trained.

    Raises:
        UserError, TrainingError: as `train_anywhere`; the former for an output that cannot be written as well.
    """
    config, choice = choose_precision(config)
    if config.train.threads is None:
        threads = max(1, cpus_here() // config.train.workers)
        config = config.changed({"train.threads": threads})
    get_method(config.method)  # a wrong name is to be known before a large corpus is read
    output = writable_folder(config.output)
    corpus = load_corpus(config.data)
    for note in (*choice, *prepare(config, corpus)):
        tell(note)
    completed = _result_file(output)
    result = train_anywhere(config, corpus)
    if completed is not None and completed == _result_file(output):
        tell(
            f"the trial in {config.output!r} is complete: its results were read back, and nothing was trained; "
            "to train again, give another output"
        )
    metrics = dict(sorted(result.metrics.flat().items()))
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    page = rationale_page(result.highlights, title=f"{config.method} on {config.data.name}, seed {config.train.seed}")
    (output / "rationales.html").write_text(page, encoding="utf-8")
    return result


def cpus_here() -> int:
    """CPUs that this process may use, or fewer where OMP_NUM_THREADS says so, as libraries read it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    may_use = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(may_use, int(asked)) if asked.isdecimal() and int(asked) > 0 else may_use


def _result_file(output: Path) -> bytes | None:
    """What completes a trial: as it was before if the trial was read, and with other times if it was trained."""
    file = output / RESULT
    return file.read_bytes() if file.is_file() else None


def train(settings: Settings = None, **keys: Any) -> DataFrame:
    """Train and evaluate one configuration as `jobs/train.py` does: `unirex_ray.train(method="aa-ig", output="ig")`.

    Args:
        settings, keys: the configuration, see `given_tree`.

    Returns:
        The metrics of dev and of test, a row each. `load_model` reads the model from the output.

    Raises:
        UserError, TrainingError: as `train_in_output`; the former where pandas is not installed as well.
    """
    frame_of([])  # before the work, not behind it
    config = build_config(given_tree(settings, keys))
    metrics = train_in_output(config, print).metrics
    about = {"method": config.method, "seed": config.train.seed}
    return frame_of([{**about, "split": "dev", **metrics.dev}, {**about, "split": "test", **metrics.test}])
