"""A sweep from its configuration to its leaderboard."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from unirex_ray.config import Config
from unirex_ray.data.load import load_corpus
from unirex_ray.data.schema import Corpus
from unirex_ray.distributed.cluster import (
    Placement,
    check_cluster,
    connect,
    node_resources,
    place,
    trials_at_once,
)
from unirex_ray.distributed.job import TrainFunction, reason_of
from unirex_ray.errors import StoppedError
from unirex_ray.report.table import console as make_console
from unirex_ray.sweep.disk import SelectableWeights, check_disk, disk_plan, drop_unselected_weights
from unirex_ray.sweep.display import make_display
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.ends import Stop, signals_stop
from unirex_ray.sweep.finish import SweepOutcome, write_results
from unirex_ray.sweep.folder import SweepFolder
from unirex_ray.sweep.plan import SweepPlan, plan_sweep, prepare_corpus
from unirex_ray.sweep.recording import Recording, open_journal, take_over
from unirex_ray.sweep.schedule import Schedule, SweepExtent
from unirex_ray.sweep.space import Space
from unirex_ray.sweep.tune import fit
from unirex_ray.sweep.warm_start import WarmStart, read_warm_start
from unirex_ray.tracking.journaled_sweep import SweepBegun
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.protocol import (
    CODE_KEY,
    GROWING,
    INSTANCES,
    PLUGINS_KEY,
    WARM_START,
    protocol_hash,
    protocol_line,
    protocol_of,
)
from unirex_ray.tracking.provenance import code_version
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import (
    DATA_DIGEST,
    GIT_VERSION,
    GROWN_SETTINGS,
    NRG_WEIGHTS,
    PLANNED,
    PROTOCOL,
    PROTOCOL_LINE,
    RunStore,
    resolve_tracking_uri,
)
from unirex_ray.training.prepare import choose_precision
from unirex_ray.training.trial import train_trial

_OF_NEW_SEEDS = (
    "sweep.seeds grows: of a configuration that was not selected by its seeds so far, only the new ones have weights; "
    "where it comes out best, export_best and evaluate say which are missing"
)


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    """A sweep whose trials can start.

    Attributes:
        summary: the contents of `sweep.json`.
        tags: of every run.
        known: results of another sweep, for the searchers.
        go_on: see `run_sweep`.
    """

    plan: SweepPlan
    folder: SweepFolder
    corpus: Corpus
    placement: Placement
    summary: Mapping[str, Any]
    extent: SweepExtent
    tags: Mapping[str, str]
    known: WarmStart | None
    recording: Recording
    go_on: str

    @property
    def keeps_all(self) -> bool:
        """Whether no weights are deleted."""
        return self.plan.config.sweep.keep_weights == "all"


@signals_stop()
def run_sweep(
    config: Config,
    space: Space,
    *,
    fixed: Collection[str] = (),
    resume: bool = False,
    warm_start: str | None = None,
    other_code: bool = False,
    train_function: TrainFunction = train_trial,
    open_store: Callable[[str], RunStore] = MlflowStore,
    console: Console | None = None,
    go_on: str = "",
) -> SweepOutcome:
    """Search every method's configurations, record each trial, and select.

    Args:
        config: presets of the space, `--config` and command line, merged.
        fixed: keys that the user set: as parameters they are not searched, and `method` is swept alone.
        resume: continue the sweep in `output`, which may grow (see `SweepFolder.begin`); start it where there is none.
        warm_start: output of a finished sweep whose results the searchers take into account.
        other_code: whether to continue a sweep that was begun by other code.
        train_function: trains one trial; must be importable by the workers.
        go_on: the command that continues the sweep, for whoever stops it.

    Raises:
        UserError: before any trial starts, for whatever the user can put right.
        StoppedError: for a signal, when `sweep.hours` are over, and where the cluster is lost; a later call with
            `resume` goes on.
    """
    console, stop = console or make_console(), Stop(config.sweep.hours)
    plan = plan_sweep(config, space, fixed)
    check_cluster(plan.config)
    if plan.fixed:
        console.print(f"not searched, because you set them: {', '.join(plan.fixed)}", markup=False)
    with closing(SweepFolder(config.output, config.sweep.storage)) as folder:
        sweep = _begin(
            plan,
            folder,
            open_store,
            console,
            resume=resume,
            warm_start=warm_start,
            other_code=other_code,
            go_on=go_on,
        )
        with signals_stop(), sweep.recording as recording, _failure_recorded(sweep):
            driver = _run_trials(sweep, train_function, stop, console)
            outcome = _conclude(sweep, driver)
        if outcome.status != "incomplete":
            folder.delete_scratch()
        return replace(outcome, not_delivered=recording.not_delivered, page=recording.page)


def _begin(
    plan: SweepPlan,
    folder: SweepFolder,
    open_store: Callable[[str], RunStore],
    console: Console,
    *,
    resume: bool,
    warm_start: str | None,
    other_code: bool,
    go_on: str,
) -> _Sweep:
    """All that comes before the first trial, and every reason to refuse it; what is refused leaves no sweep behind."""
    stored = folder.find(resume=resume)
    journal = open_journal(folder.path, stored["sweep_id"] if stored else None)
    plan, choice = _with_precision(plan, stored)
    for note in choice:
        console.print(note, markup=False)
    if resume and stored is None:
        console.print(f"nothing to resume in {folder.path}: starting a new sweep", markup=False)
    corpus = _prepared_corpus(plan, console)
    uri = resolve_tracking_uri(plan.config)
    settings = plan.settings(corpus.digest(), corpus.truncation, plan.encoder_versions())
    known = read_warm_start(warm_start, corpus.name, settings, open_store) if warm_start is not None else None
    settings |= {WARM_START: known.sweep_id} if known else {}
    if stored is not None:
        settings = folder.check(settings, stored, other_code=other_code)
        if len(plan.config.sweep.seeds) > len(stored["settings"]["sweep.seeds"]):
            console.print(_OF_NEW_SEEDS, markup=False, soft_wrap=True)
    else:
        open_store(uri)  # before Ray starts, and before there is a sweep to continue
    connect()
    placement = place(plan.config, node_resources())
    needed = disk_plan(plan, corpus, placement.concurrency)
    disk = check_disk(needed, plan.config.sweep.storage or str(folder.path), (folder.trials, folder.shared))
    summary = folder.begin(settings, stored, uri)
    extent = plan.extent(summary["sweep_id"])
    settings = {**summary["settings"], INSTANCES: corpus.sizes()}
    tags = _tags_of_runs(corpus, settings)
    begun = _beginning(corpus, extent, settings, tags)
    if stored and not journal.events:
        journal = take_over(folder, begun, open_store(uri), plan.trial_config)
    recording = Recording(
        folder.path,
        journal,
        begun,
        lambda: open_store(uri),
        lambda text: console.print(text, markup=False, soft_wrap=True),
    )
    recording.begin()
    for line in (tags[PROTOCOL_LINE], _headline(extent, recording.sweep.trials(), placement), disk):
        console.print(line, markup=False, soft_wrap=True)
    return _Sweep(
        plan=plan,
        folder=folder,
        corpus=corpus,
        placement=placement,
        summary={**summary, "instances": corpus.sizes()},
        extent=extent,
        tags=tags,
        known=known,
        recording=recording,
        go_on=go_on,
    )


def _run_trials(sweep: _Sweep, train_function: TrainFunction, stop: Stop, console: Console) -> Driver:
    """Run what is left of the sweep.

    Raises:
        StoppedError: where it ends before it is done.
    """
    plan, folder, config = sweep.plan, sweep.folder, sweep.plan.config
    earlier = sweep.recording.sweep.trials(history=True)
    with make_display(console, sweep.extent, earlier) as display:
        schedule = Schedule(sweep.extent, plan.searchers, earlier, sweep.known.results if sweep.known else None)
        driver = Driver(
            schedule,
            sweep.recording.sweep,
            display,
            resolve=plan.trial_config,
            folder=folder.trial,
            results=folder.results,
            shared=folder.shared,
            tags=dict(sweep.tags),
            concurrency=trials_at_once(config, node_resources),
            on_end=None if sweep.keeps_all else SelectableWeights(schedule, folder.trial).trial_ended,
        )
        fit(
            driver,
            sweep.corpus,
            train_function,
            sweep.placement,
            name=f"tune-{sweep.extent.sweep_id}",
            scratch=folder.scratch,
            max_failures=config.sweep.max_failures,
            stop=stop,
            on_loss=lambda why: _end_without_cluster(sweep, why, console),
        )
    if driver.gave_up:
        raise StoppedError(driver.gave_up, exit_code=1)
    return driver


def _conclude(sweep: _Sweep, driver: Driver) -> SweepOutcome:
    """Select, write the results, and close the sweep's run."""
    outcome = write_results(
        sweep.plan,
        sweep.folder,
        sweep.recording.sweep,
        summary=sweep.summary,
        timings=driver.timings,
        concurrency=sweep.placement.concurrency,
    )
    if outcome.status != "incomplete":  # else what is selected may be another configuration in the end
        tried = (row.configuration for row in outcome.rows)
        drop_unselected_weights(tried, sweep.folder.trial, keep_all=sweep.keeps_all)
    if outcome.status == "completed":
        sweep.recording.sweep.finish()
    else:
        sweep.recording.sweep.fail(outcome.shortfall)
    return outcome


def _with_precision(plan: SweepPlan, stored: Mapping[str, Any] | None) -> tuple[SweepPlan, tuple[str, ...]]:
    """Settle `train.precision = auto` for all trials, wherever they run: as the sweep began, or by this machine."""
    if any(parameter.key == "train.precision" for parameter in plan.space.parameters):
        return plan, ()
    precision = stored["settings"].get("train.precision") if stored else None
    if precision is None or plan.config.train.precision != "auto":
        config, choice = choose_precision(plan.config)
    else:
        config = plan.config.changed({"train.precision": precision})
        choice = () if precision == "auto" else (f"train.precision=auto: {precision}, as this sweep began",)
    return replace(plan, config=config), choice


def _prepared_corpus(plan: SweepPlan, console: Console) -> Corpus:
    corpus = load_corpus(plan.config.data)
    for note in prepare_corpus(plan, corpus):
        console.print(note, markup=False, soft_wrap=True)
    return corpus


def _tags_of_runs(corpus: Corpus, settings: Mapping[str, Any]) -> dict[str, str]:
    """What every run of the sweep carries."""
    return {
        DATA_DIGEST: corpus.digest(),
        GIT_VERSION: code_version(),
        PROTOCOL: protocol_hash(protocol_of(settings)),
        PROTOCOL_LINE: protocol_line(settings),
    }


def _beginning(corpus: Corpus, extent: SweepExtent, settings: Mapping[str, Any], tags: Mapping[str, str]) -> SweepBegun:
    """What the sweep's run says of it."""
    grown = {key: settings[key] for key in (*GROWING, CODE_KEY, PLUGINS_KEY) if key in settings}
    return SweepBegun(
        experiment=corpus.name,
        sweep_id=extent.sweep_id,
        seeds=extent.seeds,
        params=settings,
        tags={
            **tags,
            NRG_WEIGHTS: json.dumps(extent.weights),
            GROWN_SETTINGS: json.dumps(grown),
            PLANNED: str(extent.most_trials),
        },
    )


def _headline(extent: SweepExtent, earlier: Sequence[TrialRecord], placement: Placement) -> str:
    budgets = ", ".join(f"{method} {budget}" for method, budget in extent.budgets.items())
    ended = sum(record.status not in ("running", "lost") for record in earlier)
    room = f" (room for {placement.room} now)" if placement.room < placement.concurrency else ""
    return (
        f"sweep {extent.sweep_id}: configurations: {budgets}; seeds: {', '.join(map(str, extent.seeds))}; "
        f"concurrency: {placement.concurrency}{room}; a trial: {placement.plan}; trials already ended: {ended}"
    )


@contextmanager
def _failure_recorded(sweep: _Sweep) -> Iterator[None]:
    """Record a sweep as failed where it ends in an exception; a `StoppedError` then says how far it came."""
    try:
        yield
    except StoppedError as error:
        raise StoppedError(_record_stop(sweep, str(error)), exit_code=error.exit_code) from error.__cause__
    except BaseException as error:
        with suppress(OSError):  # the journal is on a full disk, say: the error itself says so
            sweep.recording.sweep.fail(reason_of(error))
        raise


def _record_stop(sweep: _Sweep, why: str) -> str:
    """Record a sweep as stopped; returns what its user is told."""
    log = sweep.recording.sweep
    ended = sum(record.status not in ("running", "lost") for record in log.trials())
    told = f"{why} after {ended} of {sweep.extent.most_trials} trials"
    with suppress(OSError):
        log.fail(told)
    return f"{told}\ngo on with: {sweep.go_on}" if sweep.go_on else told


def _end_without_cluster(sweep: _Sweep, why: StoppedError, console: Console) -> None:
    """What is left to do when Ray is gone."""
    told = _record_stop(sweep, str(why))
    sweep.recording.close(in_haste=True)
    console.show_cursor()
    print(f"\n{told}", file=sys.stderr, flush=True)
