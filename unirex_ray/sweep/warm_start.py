"""What a finished sweep found, for the searchers of another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirex_ray.analysis.selection import configurations
from unirex_ray.errors import UserError, one_line
from unirex_ray.metrics.table import nrg_metrics
from unirex_ray.sweep.searcher import ScoredConfiguration
from unirex_ray.tracking.choose import differences
from unirex_ray.tracking.protocol import CODE_KEY, WARM_START, protocol_of
from unirex_ray.tracking.store import SWEEP, RunStore, recorded_uri

_OF_THE_SEARCH = (
    "sweep.searcher",
    "sweep.configurations",
    "sweep.seed",
    "sweep.rungs",
    "sweep.reduction",
    "sweep.patience",
    CODE_KEY,
    WARM_START,
)
"""Settings that change what is tried, and no result of it."""


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """A finished sweep's configurations.

    Attributes:
        results: of complete configurations, by method, in the order of their suggestion.
    """

    sweep_id: str
    results: Mapping[str, tuple[ScoredConfiguration, ...]]


def read_warm_start(
    output: str, corpus: str, settings: Mapping[str, Any], open_store: Callable[[str], RunStore]
) -> WarmStart:
    """Read the sweep in a folder, whose results a searcher may take for its own.

    Args:
        corpus: its name.
        settings: of the sweep that is to start.

    Raises:
        UserError: if the folder holds no finished sweep, or one of another protocol, or of other methods, or the
            searcher of the new sweep learns from no result.
    """
    if settings["sweep.searcher"] not in ("tpe", "pareto"):
        raise UserError(
            f"--warm-start: sweep.searcher = {settings['sweep.searcher']!r} learns from no result; use tpe or pareto"
        )
    folder = Path(output).expanduser()
    try:
        begun = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        sweep_id, earlier, status = begun["sweep_id"], begun["settings"], begun["status"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--warm-start: {output!r} holds no readable sweep ({one_line(error)})") from None
    if status in ("running", "incomplete"):
        raise UserError(f"--warm-start: the sweep in {output!r} has not finished; finish it with --resume")
    protocols = {name: _of_results(values) for name, values in (("that sweep", earlier), ("this one", settings))}
    if protocols["that sweep"] != protocols["this one"]:
        raise UserError(f"--warm-start: the sweep in {output!r} is of another protocol: {differences(protocols)}")
    uri = recorded_uri(begun.get("tracking_uri"), folder)
    recorded = open_store(uri).sweeps(corpus) if uri else []
    sweep = next((sweep for sweep in recorded if sweep.sweep_id == sweep_id), None)
    if sweep is None:
        raise UserError(f"--warm-start: the runs of sweep {sweep_id} are not to be found ({uri or 'no database'})")
    results = {
        method: tuple(
            ScoredConfiguration(parameters=config.parameters, metrics=nrg_metrics(config.mean("dev")))
            for config in of_method
            if config.complete
        )
        for method, of_method in configurations(sweep.trials, seeds=sweep.seeds).items()
        if method in settings["sweep.methods"]
    }
    if not any(results.values()):
        raise UserError(f"--warm-start: the sweep in {output!r} has no complete configuration of these methods")
    return WarmStart(sweep_id=sweep_id, results=results)


def _of_results(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in protocol_of(settings).items() if key not in _OF_THE_SEARCH}
