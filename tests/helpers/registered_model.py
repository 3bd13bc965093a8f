"""The output of a sweep of one trial, and what `export_best --register` makes of it."""

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.job_module import job_module
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import trained_sweep

from unirex_ray.errors import exit_on_user_error
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST

NAME = "tiny-reviews"
METHOD = "unirex-slm-fp"
SPEC = TrialSpec(trial_id=f"s1-{METHOD}-0003-s0", method=METHOD, configuration=3, seed=0, parameters={})


class Registered(NamedTuple):
    """An exported folder, its store, the trial's run, and what the job printed."""

    folder: Path
    uri: str
    run_id: str
    printed: str


def swept_and_recorded(output: Path, encoder: str, uri: str) -> str:
    """Train one trial, and record it as one on reviews; returns its run."""
    recorded = trained_sweep(output, tiny_config(encoder, train__epochs=1), tiny_corpus((20, 8, 12)), (METHOD,), (0,))
    tags = {DATA_DIGEST: "abc1"}
    sweep = MlflowStore(uri).open_sweep(experiment="reviews", sweep_id="s1", seeds=(0,), params={}, tags=tags)
    run_id = sweep.open_trial(SPEC, params={}, tags=tags)
    metrics = TrialMetrics.from_flat(recorded[SPEC.trial_id])
    sweep.finish_trial(SPEC.trial_id, "completed", metrics=metrics)
    sweep.finish()
    return run_id


def store_of(output: Path) -> str:
    return f"sqlite:///{output}/mlflow.db"


def export_best(output: Path, folder: Path, *, name: str | None = NAME, uri: str | None = None) -> str:
    """Run the job on a trial that has learned nothing; returns what it prints."""
    out = io.StringIO()
    given = [f"--output={output}", f"--folder={folder}", "--even-if-not-better"]
    given += [] if name is None else [f"--register={name}"]
    given += [] if uri is None else [f"--tracking.uri={uri}"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", ["export_best.py", *given])
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        exit_on_user_error(job_module("export_best").main)
    return out.getvalue()


def registered(output: Path, encoder: str, uri: str | None = None) -> Registered:
    """Train, record, export and register.

    Args:
        uri: of the store; by default in the output.
    """
    store, folder = uri or store_of(output), output / "model"
    run_id = swept_and_recorded(output, encoder, store)
    return Registered(folder, store, run_id, export_best(output, folder, uri=uri))
