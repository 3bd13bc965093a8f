"""What a Hugging Face hub reads of an exported folder: the front matter of its README."""

from __future__ import annotations

import re
from typing import Any

import yaml

from unirex_ray.config import Config, ModelConfig
from unirex_ray.metrics.table import METRICS
from unirex_ray.models.card import ModelCard
from unirex_ray.models.encoder import EMBEDDED_REPOSITORY
from unirex_ray.tracking.records import TrialRecord

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_TAGS = ("rationale-extraction", "explainability", "unirex")


def front_matter(record: TrialRecord, config: Config, card: ModelCard) -> str:
    """The YAML between two rules that a README begins with; raw metrics on test, in the units of the tables."""
    values: dict[str, Any] = {
        "library_name": "unirex_ray",
        "pipeline_tag": "multiple-choice" if card.multi_choice else "text-classification",
        "tags": [*_TAGS, config.method],
        "metrics": ["accuracy" if card.task_metric == "accuracy" else "f1"],
    }
    base = base_model(config.model)
    if base is not None:
        values["base_model"] = base
    results = _results(record, config.data.name, values["pipeline_tag"])
    if results:
        values["model-index"] = [{"name": f"{config.method} on {config.data.name}", "results": results}]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n\n"


def base_model(config: ModelConfig) -> str | None:
    """The hub's repository of an encoder; None where it comes from a folder."""
    if config.encoder == "embedded":
        return EMBEDDED_REPOSITORY
    # Of a folder that is there, a configuration has the absolute path.
    return config.encoder if _REPOSITORY.fullmatch(config.encoder) else None


def _results(record: TrialRecord, corpus: str, task: str) -> list[dict[str, Any]]:
    """As the hub's `model-index` has them; none where nothing was measured on test."""
    test = record.metrics.test
    measured = [
        {"type": metric.key, "name": metric.label, "value": test[metric.key]}
        for metric in METRICS
        if metric.key in test
    ]
    about = {"task": {"type": task}, "dataset": {"type": corpus, "name": corpus, "split": "test"}}
    return [{**about, "metrics": measured}] if measured else []
