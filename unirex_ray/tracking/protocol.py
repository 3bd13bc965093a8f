"""Protocol: the settings that were not searched and can change a number; numbers of two protocols do not compare."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from unirex_ray.config import EMBEDDED_REVISION, Config, with_added_keys
from unirex_ray.metrics.table import METRICS_VERSION

METRICS_KEY = "version.metrics"
WINDOWS_KEY = "version.windows"
"""Recorded where long texts may be read from their end, see `data.encode`."""

ENCODERS_KEY = "version.encoders"
"""Which state of their files the encoders were in, by name; sweeps of version 0.1.0 did not record it."""

CODE_KEY = "version.code"
"""Which code trained and evaluated, see `provenance.core_version`; where a sweep was continued by other code, all of
them in order. Earlier versions did not record it."""

PLUGINS_KEY = "version.plugins"
"""Which code of other distributions was behind the corpus and the methods of a sweep; recorded where any was."""

THEN = " then "
"""Between the versions of a plugin's code where a sweep was continued by other code."""

WARM_START = "sweep.warm_start"
"""The finished sweep that the searchers knew of."""

GROWING = ("sweep.configurations", "sweep.patience", "sweep.seeds", "sweep.methods")
"""Settings that a later command may enlarge."""

DEFAULT_BUDGET = 9
"""Configurations per method where `sweep.configurations` is not set and the search is no grid."""

INSTANCES = "data.instances"
"""How many instances train, dev and test have, for people: the digest is what counts."""

SPACE = "space "
"""With a searched key behind it: the setting that says which values it may take."""

_LEAVES_NUMBERS_ALONE = (
    "method",
    "output",
    "tracking.",
    "data.source",
    "data.cache",
    INSTANCES,
    "model.trust_remote_code",
    "model.convergence_delta",
    "model.log_odds",
    "train.seed",  # each configuration runs `sweep.seeds`
    "train.workers",
    "train.gpu",
    "train.threads",
    "train.resources",
    "train.micro_batch_size",
    "train.activation_checkpointing",
    "train.token_budget",
    "train.explain_every",
    "train.checkpoint_steps",
    "sweep.methods",
    "sweep.concurrency",
    "sweep.hours",
    "sweep.autoscale",
    "sweep.spare_head",
    "sweep.max_failures",
    "sweep.storage",
    "sweep.keep_weights",
    "sweep.nrg_weights",  # chosen again, or refused, by `choose.weights_of`
)
"""Beginnings of keys that are no part of a protocol."""

_UNSAID = {
    ("sweep.patience", "null"),
    ("data.rationale_columns", "null"),
    ("data.train_limit", "null"),
    ("loss.warmup", "0.0"),
}
"""What settings that came later go by: earlier sweeps have the same protocol."""

Protocol = Mapping[str, str]
"""Every setting of a protocol by dotted key, as text."""


def recorded_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep's settings as it recorded them, with what earlier versions left unsaid."""
    versions: dict[str, Any] = {METRICS_KEY: METRICS_VERSION if METRICS_KEY in settings else 1}
    if settings.get("model.encoder") == "embedded" and f"{SPACE}model.encoder" not in settings:
        versions[ENCODERS_KEY] = f"embedded={EMBEDDED_REVISION}"
    return {**versions, **with_added_keys(settings)}


def plugin_codes(recorded: str) -> dict[str, str]:
    """Which code is behind each plugin, by its kind and name; more than one version with `THEN` between them.

    Args:
        recorded: under `PLUGINS_KEY`, e.g. `corpus haiku=my-corpora 1.0 (0123abcd), method mine=theirs 2 (abcd0123)`.
    """
    return {name: code for name, _, code in (entry.partition("=") for entry in recorded.split(", ") if entry)}


def plugins_text(codes: Mapping[str, str]) -> str:
    """The inverse of `plugin_codes`."""
    return ", ".join(f"{name}={code}" for name, code in sorted(codes.items()))


def protocol_of(settings: Mapping[str, Any]) -> Protocol:
    """The protocol of a sweep.

    Args:
        settings: as `SweepPlan.settings` gives them, or as a run store returns them, as text.
    """
    defaults = Config().flat()
    known = {**defaults, **recorded_settings(settings)}
    searched = {
        key.removeprefix(SPACE) for key, value in known.items() if key.startswith(SPACE) and ", when " not in value
    }
    budget = budget_of(known)
    values = {**known, "sweep.configurations": "the whole grid" if math.isinf(budget) else budget}
    if _text(known["train.precision"]) == "auto":
        values["train.precision"] = "bf16" if _text(known["train.gpu"]) == "true" else "fp32"
    return {
        key: _text(value)
        for key, value in sorted(values.items())
        if not key.startswith(_LEAVES_NUMBERS_ALONE) and key not in searched and (key, _text(value)) not in _UNSAID
    }


def evaluation_settings(*, max_length: int, bf16: bool) -> dict[str, str]:
    """The settings that can change the metrics of a given model on a given split.

    Args:
        max_length: tokens per input, as they were cut.
    """
    return {
        "data.max_length": str(max_length),
        "train.precision": "bf16" if bf16 else "fp32",
        METRICS_KEY: str(METRICS_VERSION),
    }


def protocol_hash(protocol: Protocol) -> str:
    """12 hex digits, equal for equal protocols."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]


def differing(protocols: Mapping[str, Protocol]) -> dict[str, dict[str, str]]:
    """The settings in which protocols differ: by key, the value of each protocol by its name."""
    keys = sorted({key for protocol in protocols.values() for key in protocol})
    values = {key: {name: protocol.get(key, "not recorded") for name, protocol in protocols.items()} for key in keys}
    return {key: by_name for key, by_name in values.items() if len(set(by_name.values())) > 1}


def protocol_line(settings: Mapping[str, Any]) -> str:
    """A protocol in one line for people: corpus, instances, encoder, epochs, K, seeds, configurations per method.

    Args:
        settings: see `protocol_of`, with `INSTANCES` where it was recorded.
    """
    protocol = protocol_of(settings)

    def numbers(key: str) -> str:
        return protocol.get(key, "searched").strip("[]")

    limit = "all" if protocol["data.limit"] == "null" else f"at most {protocol['data.limit']}"
    instances = _text(settings.get(INSTANCES, limit))
    if "data.train_limit" in protocol:
        learned_from = f", {protocol['data.train_limit']} of train learned from"
    else:
        learned_from = ", data.train_limit searched" if f"{SPACE}data.train_limit" in settings else ""
    layers = protocol.get("model.layers", "searched")
    budget = protocol["sweep.configurations"]
    budget = f"up to {budget} configurations" if budget.isdigit() else budget
    patience = f" (patience {protocol['sweep.patience']})" if "sweep.patience" in protocol else ""
    codes = [
        protocol[key] for key, between in ((CODE_KEY, ", "), (PLUGINS_KEY, THEN)) if between in protocol.get(key, "")
    ]
    mixed = f"; BEGUN BY OTHER CODE ({'; '.join(codes)})" if codes else ""
    encoder = protocol.get("model.encoder", "searched") + ("" if layers == "null" else f" ({layers} layers)")
    return (
        f"protocol {protocol_hash(protocol)}: {protocol['data.name']}, {instances} instances (train/dev/test)"
        f"{learned_from}; encoder {encoder}; epochs {numbers('train.epochs')}; K {numbers('loss.top_k_percents')}; "
        f"seeds {numbers('sweep.seeds')}; {budget} per method{patience}{mixed}"
    )


def budget_of(settings: Mapping[str, Any]) -> float:
    """Configurations per method that a sweep may try; infinite where it tries its whole grid."""
    budget = _text(settings["sweep.configurations"])
    if budget != "null":
        return int(float(budget))
    return math.inf if _text(settings["sweep.searcher"]) == "grid" else DEFAULT_BUDGET


def _text(value: Any) -> str:
    """As run stores keep it."""
    return value if isinstance(value, str) else json.dumps(value)
