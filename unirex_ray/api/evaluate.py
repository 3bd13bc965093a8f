"""Evaluating trained models on a corpus, for Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirex_ray.analysis.transfer import evaluation_rows
from unirex_ray.config.given import Settings, given_tree
from unirex_ray.data.schema import SPLITS, Split
from unirex_ray.errors import UserError, did_you_mean
from unirex_ray.inference.evaluate import evaluate_folder
from unirex_ray.report.frame import DataFrame, frame_of
from unirex_ray.report.transfer import transfer_table


def evaluate(
    model: str | Path,
    settings: Settings = None,
    *,
    split: Split = "test",
    label_map: Mapping[str, str] | None = None,
    **keys: Any,
) -> DataFrame:
    """Evaluate models as `jobs/evaluate.py` does: `unirex_ray.evaluate("output/model", data={"name": "irony"})`.

    It writes the same file, and records in MLflow.

    Args:
        model: an exported model, or the output of a sweep: the selected configurations.
        settings, keys: the configuration, see `given_tree`.
        label_map: see `match_labels`.

    Returns:
        A row per method, means over its seeds.

    Raises:
        UserError: for an unknown split; for models that do not fit the corpus, or are none; where pandas is not
            installed.
    """
    frame_of([])  # before the work, not behind it
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}{did_you_mean(str(split), SPLITS)}; choose one of {', '.join(SPLITS)}")
    evaluated = evaluate_folder(str(model), given_tree(settings, keys), split=split, label_map=label_map)
    return frame_of(transfer_table(evaluation_rows(evaluated.evaluations)).records)
