"""A sweep from its configuration to its leaderboard."""

from __future__ import annotations

import json
import math
import shutil
import signal
import statistics
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from unirex_ray.analysis.leaderboard import Place, leaderboard
from unirex_ray.analysis.selection import configurations, select_variants
from unirex_ray.config import Config, override, to_yaml
from unirex_ray.data.load import load_corpus
from unirex_ray.data.schema import Corpus
from unirex_ray.distributed.cluster import Placement, connect, node_resources, place
from unirex_ray.distributed.job import Trainer, reason_of
from unirex_ray.errors import UserError
from unirex_ray.methods import get_method
from unirex_ray.metrics.nrg import usable_weights
from unirex_ray.report.comparison import leaderboard_rows, print_leaderboard
from unirex_ray.report.table import console as make_console
from unirex_ray.report.table import to_csv
from unirex_ray.sweep.display import make_progress
from unirex_ray.sweep.driver import Driver, Timing
from unirex_ray.sweep.folder import BEST_CONFIG, LEADERBOARD, SWEEP, SweepFolder, settings_of
from unirex_ray.sweep.schedule import Schedule, SweepPlan
from unirex_ray.sweep.searcher import Searcher, make_searcher
from unirex_ray.sweep.space import Space
from unirex_ray.sweep.tune import fit
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.provenance import code_version
from unirex_ray.tracking.records import TrialRecord, TrialSpec
from unirex_ray.tracking.store import (
    DATA_DIGEST,
    GIT_VERSION,
    NRG_WEIGHTS,
    RunStore,
    resolve_tracking_uri,
)
from unirex_ray.training.checkpoint import BEST, LAST, CheckpointStore
from unirex_ray.training.prepare import check_method, prepare
from unirex_ray.training.trial import train_trial

_DEFAULT_BUDGET = 9


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """A finished sweep.

    Attributes:
        digest: of the data.
        places: every configuration, best first.
        best: resolved configuration of the best one with the sweep's first seed; None where none completed.
        output: the folder with `leaderboard.csv`, `best_config.yaml` and `sweep.json`.
    """

    sweep_id: str
    digest: str
    places: tuple[Place, ...]
    best: Config | None
    output: Path


def run_sweep(
    config: Config,
    space: Space,
    *,
    fixed: Collection[str] = (),
    resume: bool = False,
    trainer: Trainer = train_trial,
    open_store: Callable[[str], RunStore] = MlflowStore,
    console: Console | None = None,
) -> SweepOutcome:
    """Search every method's configurations, record each trial, and select.

    Args:
        config: presets of the space, `--config` and command line, merged.
        fixed: keys that the user gave: as parameters they leave the space, and `method` is swept alone.
        resume: go on with the sweep in `output`; start it where there is none.
        trainer: trains one trial; must be importable by the workers.

    Raises:
        UserError: before any trial starts, for whatever the user can put right.
    """
    console = console or make_console()
    only = "method" in fixed and "sweep.methods" not in fixed
    methods = (config.method,) if only or not config.sweep.methods else config.sweep.methods
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
        config = override(config, {"train.threads": 1})
    space, left = space.without(fixed)
    if left:
        console.print(f"fixed by you, so not searched: {', '.join(left)}", markup=False)
    space = space.checked(config)
    budgets, searchers = _searchers(config, space, methods)
    folder = SweepFolder(config.output)
    try:
        found = folder.find(resume=resume)
        if resume and found is None:
            console.print(f"nothing to resume in {folder.path}: starting a new sweep", markup=False)
        corpus = load_corpus(config.data)
        for name in methods:
            searched = {p.key: p.values for p in space.for_method(name, config).parameters}
            scarcest = min(searched.get("data.gold_percent", (config.data.gold_percent,)))
            for pooling in searched.get("model.pooling", (config.model.pooling,)):
                tried = {"method": name, "model.pooling": pooling, "data.gold_percent": scarcest}
                check_method(override(config, tried), corpus)
        usable_weights(config.sweep.nrg_weights, has_gold=corpus.has_gold("dev"))
        notes = [note for encoder in _encoders(config, space) for note in prepare(encoder, corpus)]
        for note in dict.fromkeys(notes):
            console.print(note, markup=False, soft_wrap=True)
        store = open_store(resolve_tracking_uri(config))
        connect()
        placement = place(config, node_resources())
        begun = folder.begin(settings_of(config, space, methods=methods, digest=corpus.digest()), found)
        plan = SweepPlan(
            sweep_id=begun["sweep_id"],
            budgets=budgets,
            seeds=config.sweep.seeds,
            rungs=config.sweep.rungs,
            reduction=config.sweep.reduction,
            weights=config.sweep.nrg_weights,
        )
        return _Sweep(config, space, plan, folder, store, corpus, placement, begun, console).run(searchers, trainer)
    finally:
        folder.close()


@dataclass
class _Sweep:
    config: Config
    space: Space
    plan: SweepPlan
    folder: SweepFolder
    store: RunStore
    corpus: Corpus
    placement: Placement
    begun: dict[str, Any]
    console: Console

    def run(self, searchers: Mapping[str, Searcher], trainer: Trainer) -> SweepOutcome:
        tags = {DATA_DIGEST: self.corpus.digest(), GIT_VERSION: code_version()}
        weights = {NRG_WEIGHTS: json.dumps(self.plan.weights)}
        self.store.open_sweep(
            experiment=self.corpus.name,
            sweep_id=self.plan.sweep_id,
            seeds=self.plan.seeds,
            params=self.begun["settings"],
            tags={**tags, **weights},
        )
        before = tuple(self.store.trials(history=True))
        size = ", ".join(f"{method} {budget}" for method, budget in self.plan.budgets.items())
        self.console.print(
            f"sweep {self.plan.sweep_id}: configurations: {size}; seeds {', '.join(map(str, self.plan.seeds))}; "
            f"{self.placement.concurrency} at once; {sum(r.status != 'running' for r in before)} trials done before",
            markup=False,
            soft_wrap=True,
        )
        schedule = Schedule(self.plan, searchers, before)
        with make_progress(self.console, self.plan, before) as progress:
            driver = Driver(
                schedule,
                self.store,
                progress,
                resolve=self.resolve,
                folder=self.folder.trial,
                shared=str(self.folder.shared),
                tags=tags,
                concurrency=self.placement.concurrency,
            )
            try:
                with _terminable():
                    fit(
                        driver,
                        self.corpus,
                        trainer,
                        self.placement,
                        name=f"tune-{self.plan.sweep_id}",
                        scratch=str(self.folder.scratch),
                        max_failures=self.config.sweep.max_failures,
                    )
            except BaseException as error:
                self.store.fail_sweep("interrupted" if isinstance(error, KeyboardInterrupt) else reason_of(error))
                raise
        # A trial that was resumed reports the seconds of its earlier run as well.
        timings = {k: v for k, v in driver.timings.items() if k not in {r.spec.trial_id for r in before}}
        return self._finish(timings)

    def resolve(self, spec: TrialSpec) -> Config:
        config = override(self.config, {**spec.parameters, "method": spec.method, "train.seed": spec.seed})
        return get_method(spec.method).resolve(config)

    def _finish(self, timings: Mapping[str, Timing]) -> SweepOutcome:
        order = list(self.plan.budgets)
        records = sorted(
            self.store.trials(), key=lambda r: (order.index(r.spec.method), r.spec.configuration, r.spec.seed)
        )
        configs = configurations(records, seeds=self.plan.seeds)
        places = leaderboard(configs, self.plan.weights)
        files = [self.folder.write(LEADERBOARD, to_csv(leaderboard_rows(places)))]
        best = next((place.configuration for place in places if place.best), None)
        best_config = None
        if best is not None:
            best_config = self.resolve(best.records[0].spec)
            best_config = override(best_config, {"train.seed": self.plan.seeds[0], "sweep.methods": None})
            files.append(self.folder.write(BEST_CONFIG, to_yaml(best_config)))
        files.append(self.folder.write(SWEEP, json.dumps(self._summary(records, timings), indent=2)))
        for file in files:
            self.store.log_file(None, file)
        self.store.log_text(None, "search_space.txt", "".join(f"{p.describe()}\n" for p in self.space.parameters))
        if self.config.sweep.keep_weights == "selected":
            selected = {(c.method, c.index) for c in select_variants(configs, self.plan.weights).values()}
        else:
            selected = {(record.spec.method, record.spec.configuration) for record in records}
        for record in records:
            checkpoints = CheckpointStore(self.folder.trial(record.spec.trial_id))
            checkpoints.delete(LAST)
            if (record.spec.method, record.spec.configuration) not in selected:
                checkpoints.delete(BEST)
        self.store.finish_sweep()
        for folder in (self.folder.scratch, self.folder.shared):
            shutil.rmtree(folder, ignore_errors=True)
        return SweepOutcome(
            sweep_id=self.plan.sweep_id,
            digest=self.corpus.digest(),
            places=places,
            best=best_config,
            output=self.folder.path,
        )

    def _summary(self, records: Sequence[TrialRecord], timings: Mapping[str, Timing]) -> dict[str, Any]:
        before = self.begun.get("seconds", {})
        seconds = {
            trial_id: {**{name.removesuffix("_s"): value for name, value in asdict(t).items()}, "fixed": t.fixed_s}
            for trial_id, t in timings.items()
        }
        after_first = [timing.fixed_s for timing in list(timings.values())[1:]]
        fixed = statistics.median(after_first) if after_first else self.begun.get("fixed_s_median_after_first")
        return {
            **self.begun,
            "status": "completed",
            "tracking_uri": resolve_tracking_uri(self.config),
            "concurrency": self.placement.concurrency,
            "trials": {r.spec.trial_id: r.reason or r.status for r in records},
            "fixed_s_median_after_first": fixed,
            "seconds": {**before, **seconds},
        }


def show(outcome: SweepOutcome, console: Console | None = None) -> None:
    """Print the leaderboard, and where it lies."""
    console = console or make_console()
    print_leaderboard(outcome.places, console)
    written = [LEADERBOARD, *([BEST_CONFIG] if outcome.best else []), SWEEP]
    console.print(f"written to {outcome.output}: {', '.join(written)}", markup=False, soft_wrap=True)


def _encoders(config: Config, space: Space) -> Iterator[Config]:
    """A configuration for each encoder and depth that the space may ask for."""
    parameters = {parameter.key: parameter for parameter in space.parameters}
    encoders, layers = parameters.get("model.encoder"), parameters.get("model.layers")
    for encoder in encoders.values if encoders else (config.model.encoder,):
        applies = layers is not None and encoder in layers.when.get("model.encoder", (encoder,))
        for depth in layers.values if layers is not None and applies else (config.model.layers,):
            yield override(config, {"model.encoder": encoder, "model.layers": depth})


def _searchers(config: Config, space: Space, methods: Sequence[str]) -> tuple[dict[str, int], dict[str, Searcher]]:
    """Budgets and searchers by method; no budget is larger than the method's space."""
    budgets: dict[str, int] = {}
    searchers: dict[str, Searcher] = {}
    for method in methods:
        mine = space.for_method(method, config)
        size = len(mine.grid()) if mine.finite else math.inf
        wanted = config.sweep.configurations or (size if config.sweep.searcher == "grid" else _DEFAULT_BUDGET)
        budget = int(min(wanted, size)) if wanted is not math.inf else 1
        budgets[method] = budget
        searchers[method] = make_searcher(
            config.sweep.searcher, mine, budget=budget, seed=config.sweep.seed, weights=config.sweep.nrg_weights
        )
    return budgets, searchers


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that a stopped job leaves no run open."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
