"""The paper's own results (UNIREX, Tables 6-10), as printed there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS
from unirex_ray.metrics.table import AUPRC, COMPREHENSIVENESS, SUFFICIENCY, TASK_SCORE, TOKEN_F1

PUBLISHED_TABLES = Path(__file__).with_name("published.json")
"""Rows by the paper's corpus and row names; beside the raw numbers it holds the paper's printed NRG."""

_CORPORA = {"sst": "SST", "movies": "Movies", "cose": "CoS-E", "multirc": "MultiRC", "esnli": "e-SNLI"}
_KEYS = {
    "comp": COMPREHENSIVENESS.key,
    "suff": SUFFICIENCY.key,
    "auprc": AUPRC.key,
    "tf1": TOKEN_F1.key,
    "perf": TASK_SCORE.key,
}


def published(corpus: str) -> Mapping[str, Mapping[str, float]] | None:
    """The paper's raw test metrics of one corpus, by method and metric key without split.

    Returns:
        Sixteen methods in the paper's order with the five keys of `NRG_METRICS`; None where the paper has no table.
    """
    if corpus not in _CORPORA:
        return None
    tables = json.loads(PUBLISHED_TABLES.read_text(encoding="utf-8"))
    methods = {method.label: name for name, method in METHODS.items()}
    named = {
        methods[label]: dict(zip(tables["columns"], values, strict=True))
        for label, values in tables["tables"][_CORPORA[corpus]].items()
    }
    return {method: {key: row[column] for column, key in _KEYS.items()} for method, row in named.items()}


def require_published(corpus: str) -> Mapping[str, Mapping[str, float]]:
    """As `published`.

    Raises:
        UserError: where the paper has no table of that corpus, listing those that it has.
    """
    table = published(corpus)
    if table is None:
        raise UserError(f"--published: the paper has no table of data.name = {corpus!r}; it has {', '.join(_CORPORA)}")
    return table
