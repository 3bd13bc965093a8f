"""A sweep from the name of its space, for the command line and for Python."""

from __future__ import annotations

import warnings
from os import fspath
from pathlib import Path
from typing import Any

from unirex_ray.config import Config, Tree, build_config, check_remote_code, flatten
from unirex_ray.config.given import Settings, given_tree
from unirex_ray.report.comparison import leaderboard_table
from unirex_ray.report.frame import DataFrame, frame_of
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.shipped import space_file
from unirex_ray.sweep.space import load_space


def start_sweep(space: str | None, tree: Tree, **options: Any) -> tuple[SweepOutcome, Config]:
    """Run a sweep over a space.

    Args:
        space: see `space_file`.
        tree: what the user set, which lies above the space's presets and is not searched.
        options: of `run_sweep`.

    Returns:
        The outcome, and the configuration that the presets and the tree give.

    Raises:
        UserError, StoppedError: as `run_sweep`.
    """
    file = space_file(space, tree)
    read = load_space(file)
    check_remote_code(file, read.presets, tree)
    config = build_config(read.presets, tree)
    return run_sweep(config, read, fixed={key for key, _ in flatten(tree)}, **options), config


def sweep(
    settings: Settings = None,
    *,
    space: str | Path | None = None,
    resume: bool = False,
    warm_start: str | Path | None = None,
    other_code: bool = False,
    **keys: Any,
) -> DataFrame:
    """Search every method's configurations as `jobs/sweep.py` does: `unirex_ray.sweep(space="paper", data={...})`.

    Args:
        settings, keys: the configuration, see `given_tree`.
        space: name of a shipped space, or a YAML file.
        resume, warm_start, other_code: see `run_sweep`.

    Returns:
        The leaderboard, best first: a row per configuration. Trials that did not complete are a warning.

    Raises:
        UserError, StoppedError: as `run_sweep`; where pandas is not installed.
    """
    frame_of([])  # before hours of work, not behind them
    tree = given_tree(settings, keys)
    file, warm = (None if path is None else fspath(path) for path in (space, warm_start))
    own = {"resume": resume, "warm_start": warm, "other_code": other_code}
    outcome, _ = start_sweep(file, tree, go_on="the same call with resume=True", **own)
    if outcome.shortfall:
        warnings.warn(f"not all trials completed: {outcome.shortfall}", stacklevel=2)
    if outcome.not_delivered:
        warnings.warn(f"MLflow lacks the last {outcome.not_delivered} events: run the job `sync`", stacklevel=2)
    return frame_of(leaderboard_table(outcome.leaderboard).records)
