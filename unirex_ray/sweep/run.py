"""A sweep from its configuration to its leaderboard."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
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
from unirex_ray.sweep.warm_start import read_warm_start
from unirex_ray.tracking.journaled_sweep import SweepBegun
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.protocol import (
    CODE_KEY,
    GROWING,
    INSTANCES,
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
    SweepLog,
    resolve_tracking_uri,
)
from unirex_ray.training.prepare import choose_precision
from unirex_ray.training.trial import train_trial


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
        StoppedError: for a signal, and where the cluster is lost; a later call with `resume` goes on.
    """
    console, stop = console or make_console(), Stop(config.sweep.hours)
    plan = plan_sweep(config, space, fixed)
    check_cluster(plan.config)
    if plan.fixed:
        console.print(f"not searched, because you set them: {', '.join(plan.fixed)}", markup=False)
    with closing(SweepFolder(config.output, config.sweep.storage)) as folder:
        stored = folder.find(resume=resume)
        journal = open_journal(folder.path, stored["sweep_id"] if stored else None)
        plan, choice = _with_precision(plan, stored)
        for note in choice:
            console.print(note, markup=False)
        if resume and stored is None:
            console.print(f"nothing to resume in {folder.path}: starting a new sweep", markup=False)
        corpus = _prepared_corpus(plan, console)
        uri = resolve_tracking_uri(config)
        settings = plan.settings(corpus.digest(), corpus.truncation, plan.encoder_versions())
        known = read_warm_start(warm_start, corpus.name, settings, open_store) if warm_start is not None else None
        settings |= {WARM_START: known.sweep_id} if known else {}
        if stored is not None:
            folder.check(settings, stored, other_code=other_code)
        else:
            open_store(uri)  # before Ray starts, and before there is a sweep to continue
        connect()
        placement = place(plan.config, node_resources())
        needed = disk_plan(plan, corpus, placement.concurrency)
        disk = check_disk(needed, config.sweep.storage or str(folder.path), (folder.trials, folder.shared))
        summary = folder.begin(settings, stored, uri, other_code=other_code)
        extent = plan.extent(summary["sweep_id"])
        settings = {**summary["settings"], INSTANCES: corpus.sizes()}
        tags = _tags_of_runs(corpus, settings)
        begun = _beginning(corpus, extent, settings, tags)
        if stored and not journal.events:
            journal = take_over(folder.path, begun, open_store(uri), plan.trial_config)
        recording = Recording(
            folder.path,
            journal,
            begun,
            lambda: open_store(uri),
            lambda text: console.print(text, markup=False, soft_wrap=True),
        )
        recording.begin()
        sweep = recording.sweep
        earlier = sweep.trials(history=True)
        console.print(tags[PROTOCOL_LINE], markup=False, soft_wrap=True)
        console.print(_headline(extent, earlier, placement), markup=False, soft_wrap=True)
        console.print(disk, markup=False, soft_wrap=True)
        keeps_selected = config.sweep.keep_weights == "selected"
        with signals_stop(), recording, _failure_recorded(sweep, extent.most_trials, go_on):
            with make_display(console, extent, earlier) as display:
                schedule = Schedule(extent, plan.searchers, earlier, known.results if known else None)
                weights = SelectableWeights(schedule, folder.trial)
                driver = Driver(
                    schedule,
                    sweep,
                    display,
                    resolve=plan.trial_config,
                    folder=folder.trial,
                    results=folder.results,
                    shared=folder.shared,
                    tags=tags,
                    concurrency=trials_at_once(plan.config, node_resources),
                    on_end=weights.trial_ended if keeps_selected else None,
                )
                names = {"name": f"tune-{extent.sweep_id}", "scratch": folder.scratch}
                fit(
                    driver,
                    corpus,
                    train_function,
                    placement,
                    **names,
                    max_failures=config.sweep.max_failures,
                    stop=stop,
                    on_loss=lambda why: _end_without_cluster(recording, extent.most_trials, why, go_on, console),
                )
            if driver.gave_up:
                raise StoppedError(driver.gave_up, exit_code=1)
            outcome = write_results(
                plan,
                folder,
                sweep,
                summary={**summary, "instances": corpus.sizes()},
                timings=driver.timings,
                concurrency=placement.concurrency,
            )
            if outcome.status != "incomplete":  # else what is selected may be another configuration in the end
                tried = (row.configuration for row in outcome.rows)
                drop_unselected_weights(tried, folder.trial, keep_all=not keeps_selected)
            if outcome.status == "completed":
                sweep.finish()
            else:
                sweep.fail(outcome.shortfall)
        if outcome.status != "incomplete":
            folder.delete_scratch()
        return replace(outcome, not_delivered=recording.not_delivered)


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
    grown = {key: settings[key] for key in (*GROWING, CODE_KEY)}
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
def _failure_recorded(sweep: SweepLog, trials: int, go_on: str) -> Iterator[None]:
    """Record the sweep as failed where it ends in an exception; a `StoppedError` then says how far it came.

    Args:
        trials: how many the sweep has at most.
        go_on: see `run_sweep`.
    """
    try:
        yield
    except StoppedError as error:
        told = _record_stop(sweep, trials, str(error), go_on)
        raise StoppedError(told, exit_code=error.exit_code) from error.__cause__
    except BaseException as error:
        with suppress(OSError):  # the journal is on a full disk, say: the error itself says so
            sweep.fail(reason_of(error))
        raise


def _record_stop(sweep: SweepLog, trials: int, why: str, go_on: str) -> str:
    """Record a sweep as stopped; returns what its user is told."""
    ended = sum(record.status not in ("running", "lost") for record in sweep.trials())
    told = f"{why} after {ended} of {trials} trials"
    with suppress(OSError):
        sweep.fail(told)
    return f"{told}\ngo on with: {go_on}" if go_on else told


def _end_without_cluster(recording: Recording, trials: int, why: StoppedError, go_on: str, console: Console) -> None:
    """What is left to do when Ray is gone."""
    told = _record_stop(recording.sweep, trials, str(why), go_on)
    recording.close(in_haste=True)
    console.show_cursor()
    print(f"\n{told}", file=sys.stderr, flush=True)
