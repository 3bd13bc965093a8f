"""What a sweep decides before its first trial, and every reason to refuse it; needs neither Ray nor a run store."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unirex_ray.analysis.selection import TRAIN_LIMIT
from unirex_ray.config import Config, SweepConfig, without_share
from unirex_ray.config.plugins import Kind, registered_version
from unirex_ray.data.encode import WINDOWS_VERSION
from unirex_ray.data.load import train_sample
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.methods import get_method
from unirex_ray.metrics.nrg import usable_weights
from unirex_ray.metrics.table import METRICS_VERSION
from unirex_ray.models.encoder import encoder_version
from unirex_ray.sweep.schedule import SweepExtent
from unirex_ray.sweep.searcher import Searcher, make_searcher
from unirex_ray.sweep.space import MethodSpace, Space
from unirex_ray.tracking.protocol import (
    CODE_KEY,
    DEFAULT_BUDGET,
    ENCODERS_KEY,
    METRICS_KEY,
    PLUGINS_KEY,
    SPACE,
    WINDOWS_KEY,
    plugins_text,
)
from unirex_ray.tracking.provenance import core_version
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.training.prepare import check_method, prepare

_MAY_CHANGE = (
    "method",
    "output",
    "tracking.",
    "data.source",
    "data.cache",
    "train.explain_every",
    "train.resources",
    "sweep.concurrency",
    "sweep.hours",
    "sweep.autoscale",
    "sweep.spare_head",
    "sweep.max_failures",
    "sweep.keep_weights",
)
"""Beginnings of keys that may change when a sweep is resumed: no number depends on them, or another recorded setting
(`sweep.methods`, `data.digest`) stands for them."""
_LARGEST_GRID = 100_000
"""Configurations that are all tried unless the user says how many."""


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """A sweep that can be run.

    Attributes:
        config: what all trials have in common.
        space: what is searched: without the keys that the user fixed, values in the types of the configuration.
        fixed: the keys of the space that are not searched, as the user fixed them.
        budgets: most configurations by method, in the order in which methods take turns.
        searchers: by method.
    """

    config: Config
    space: Space
    fixed: tuple[str, ...]
    budgets: Mapping[str, int]
    searchers: Mapping[str, Searcher]

    def trial_config(self, spec: TrialSpec) -> Config:
        """The whole configuration of a trial."""
        config = self.config.changed({**spec.parameters, "method": spec.method, "train.seed": spec.seed})
        return get_method(spec.method).resolve(config)

    def encoder_versions(self) -> str:
        """Which state of their files the encoders are in that the plan may ask for, see `encoder_version`."""
        models = {config.model.encoder: config.model for config in encoder_configs(self)}
        return ", ".join(f"{name}={encoder_version(model)}" for name, model in models.items())

    def plugin_versions(self) -> str:
        """Which code of other distributions the corpus and the methods are; empty where none is."""
        used: list[tuple[Kind, str]] = [("corpus", self.config.data.name), *(("method", name) for name in self.budgets)]
        versions = {f"{kind} {name}": registered_version(kind, name) for kind, name in used}
        return plugins_text({name: version for name, version in versions.items() if version})

    def settings(self, digest: str, truncation: str = "head", encoders: str | None = None) -> dict[str, Any]:
        """Everything that decides the sweep's numbers, flat: configuration, methods, search space, corpus.

        Args:
            digest: of the corpus.
            truncation: of the corpus, see `Corpus`.
            encoders: see `encoder_versions`.
        """
        flat = {k: v for k, v in without_share(self.config.flat()).items() if not k.startswith(_MAY_CHANGE)}
        described = {SPACE + parameter.key: parameter.describe() for parameter in self.space.parameters}
        versions: dict[str, Any] = {
            METRICS_KEY: METRICS_VERSION,
            CODE_KEY: core_version(),
            **({WINDOWS_KEY: WINDOWS_VERSION} if truncation != "head" else {}),
        }
        versions |= {ENCODERS_KEY: encoders} if encoders else {}
        versions |= {PLUGINS_KEY: plugins} if (plugins := self.plugin_versions()) else {}
        return {**flat, "sweep.methods": list(self.budgets), "data.digest": digest, **versions, **described}

    def extent(self, sweep_id: str) -> SweepExtent:
        """Which trials the sweep consists of, by the name that it got."""
        sweep = self.config.sweep
        return SweepExtent(
            sweep_id=sweep_id,
            budgets=self.budgets,
            seeds=sweep.seeds,
            rungs=sweep.rungs,
            reduction=sweep.reduction,
            patience=sweep.patience,
            weights=sweep.nrg_weights,
        )


def plan_sweep(config: Config, space: Space, fixed: Collection[str] = ()) -> SweepPlan:
    """Decide which trials a sweep consists of, and refuse whatever can be refused without its corpus.

    The corpus may be large: it is read after this, and refused by `prepare_corpus`.

    Args:
        config: presets of the space, `--config` and command line, merged.
        fixed: keys that the user set: as parameters they are not searched, and `method` is swept alone.

    Raises:
        UserError: for methods that are unknown or repeated, rungs that stop nothing, a space that does not fit the
            configuration, and a grid of ranges.
    """
    only_method = "method" in fixed and "sweep.methods" not in fixed
    methods = (config.method,) if only_method or not config.sweep.methods else config.sweep.methods
    for name in methods:
        get_method(name)
    if len(set(methods)) < len(methods):
        raise UserError(f"sweep.methods must be distinct, but got {list(methods)}")
    if config.sweep.rungs and config.sweep.rungs[-1] >= config.train.epochs:
        raise UserError(
            f"sweep.rungs = {list(config.sweep.rungs)}: a rung at or beyond train.epochs = {config.train.epochs} "
            "stops nothing; lower it, or set --sweep.rungs=[]"
        )
    if config.train.threads is None:
        config = config.changed({"train.threads": 1})
    space, removed = space.without(fixed)
    space = space.checked(config)
    spaces = {method: space.for_method(method, config) for method in methods}
    budgets = {method: _budget(config.sweep, spaces[method]) for method in methods}
    _check_sizes(config.sweep, space, [name for name in methods if budgets[name] < _grid_size(spaces[name])])
    searchers = {
        method: make_searcher(
            config.sweep.searcher,
            spaces[method],
            budget=budgets[method],
            seed=config.sweep.seed,
            weights=config.sweep.nrg_weights,
        )
        for method in methods
    }
    return SweepPlan(config=config, space=space, fixed=removed, budgets=budgets, searchers=searchers)


def prepare_corpus(plan: SweepPlan, corpus: Corpus) -> tuple[str, ...]:
    """Refuse a corpus that the plan does not fit, and tokenise it for every encoder that the plan may ask for.

    Returns:
        Notes on the corpus for the user.

    Raises:
        UserError: for a method that cannot learn from the corpus in some configuration, weights that give no weight to
            any score of it, and an encoder that cannot be found or is asked for more than it has.
    """
    demanding = [*_demanding_configs(plan)]
    fewest = train_sample(corpus, demanding[0].data)  # that of all of them
    for config in demanding:
        check_method(config, fewest)
    usable_weights(plan.config.sweep.nrg_weights, has_gold=corpus.has_gold("dev"))
    notes = [note for config in encoder_configs(plan) for note in prepare(config, corpus, [*plan.budgets])]
    return tuple(dict.fromkeys(notes))


def _grid_size(space: MethodSpace) -> float:
    return space.grid_size if space.finite else math.inf


def _check_sizes(sweep: SweepConfig, space: Space, with_a_part: Sequence[str]) -> None:
    """Where train sizes are searched, each method has to reach the largest one, at which methods are compared.

    Args:
        with_a_part: methods that try a part of their grid.
    """
    if all(parameter.key != TRAIN_LIMIT for parameter in space.parameters):
        return
    if sweep.searcher != "grid" or with_a_part or sweep.rungs or sweep.patience is not None:
        raise UserError(
            f"{space.name} searches {TRAIN_LIMIT}, so that each method has to try its whole grid: use "
            "--sweep.searcher=grid without sweep.configurations, sweep.rungs and sweep.patience"
        )


def _budget(sweep: SweepConfig, space: MethodSpace) -> int:
    """What the user asks for, or else the whole grid or the default; at most what the space has."""
    grid = sweep.searcher == "grid"
    size = space.grid_size if grid or space.finite else math.inf
    if grid and sweep.configurations is None and size > _LARGEST_GRID:
        raise UserError(
            f"the grid of {space.method} has {size:,} configurations, which no sweep comes to the end of; "
            f"list fewer values, or try some of them with --sweep.configurations=100"
        )
    return int(min(size, sweep.configurations or (size if grid else DEFAULT_BUDGET)))


def _demanding_configs(plan: SweepPlan) -> Iterator[Config]:
    """For each method, the configurations that ask most of a corpus: every pooling, with the fewest instances."""
    for method in plan.budgets:
        searched = {p.key: p.values for p in plan.space.for_method(method, plan.config).parameters}
        gold_percent = min(searched.get("data.gold_percent", (plan.config.data.gold_percent,)))
        limits = searched.get(TRAIN_LIMIT, (plan.config.data.train_limit,))
        fewest = {"data.gold_percent": gold_percent, TRAIN_LIMIT: min(limits, key=lambda n: n or math.inf)}
        for pooling in searched.get("model.pooling", (plan.config.model.pooling,)):
            yield plan.config.changed({"method": method, "model.pooling": pooling, **fewest})


def encoder_configs(plan: SweepPlan) -> Iterator[Config]:
    """A configuration for each encoder, depth and number of train instances that the space may ask for."""
    config, parameters = plan.config, {parameter.key: parameter for parameter in plan.space.parameters}
    encoders, layers, sizes = (parameters.get(key) for key in ("model.encoder", "model.layers", TRAIN_LIMIT))
    for encoder in encoders.values if encoders else (config.model.encoder,):
        applies = layers is not None and encoder in layers.when.get("model.encoder", (encoder,))
        for depth in layers.values if layers is not None and applies else (config.model.layers,):
            for size in sizes.values if sizes else (config.data.train_limit,):
                yield config.changed({"model.encoder": encoder, "model.layers": depth, TRAIN_LIMIT: size})
