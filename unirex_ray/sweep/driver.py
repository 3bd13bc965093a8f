"""A sweep's driver: passes every event of its trials to the schedule, the run store and the screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirex_ray.config import Config, config_hash, to_yaml
from unirex_ray.distributed.job import EpochDone, Message, TrialJob, TrialLost, TrialWaits
from unirex_ray.methods import get_method
from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.metrics.table import EVALUATE_S, TASK_SCORE, TRAIN_S, WAIT_S
from unirex_ray.report.html import RATIONALES, rationale_page
from unirex_ray.sweep.display import SweepDisplay
from unirex_ray.sweep.schedule import Schedule, Signal
from unirex_ray.tracking.records import TrialRecord, TrialSpec
from unirex_ray.tracking.store import CONFIG_HASH, SweepLog
from unirex_ray.training.checkpoint import CONFIG, CheckpointStore
from unirex_ray.training.result_file import RESULT
from unirex_ray.training.shared import shared_stage, stage_identity
from unirex_ray.training.state import TrialResult

_LOSSES = 3
"""In a row, to the same thing around them: the next ones would meet it as well."""

ARTIFACTS = (RATIONALES, INSTANCES, RESULT)
"""Files of a completed trial's results that its run holds as well."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one trial.

    Attributes:
        wall_s: from its suggestion until everything about it was recorded.
        train_s, evaluate_s, wait_s: what it reported (see `TrialResult`).
    """

    wall_s: float
    train_s: float
    evaluate_s: float
    wait_s: float

    @property
    def fixed_s(self) -> float:
        """What the trial cost beyond training and evaluating, and waiting for another trial to train its stage."""
        return self.wall_s - self.train_s - self.evaluate_s - self.wait_s


def settings_read(config: Config) -> dict[str, Any]:
    """The settings that a trial's method reads, flat: the parameters of its run."""
    reads = get_method(config.method).reads
    return {key: value for key, value in config.flat().items() if reads(key)}


class Driver:
    """Passes each event to the schedule, the run store and the screen; the only writer of the sweep's runs.

    A trial is on record before it starts, and its status is the last thing to be recorded when it ends: whenever the
    driver is killed, the journal says `running` of exactly the trials that have to run again.

    Args:
        resolve: a trial's whole configuration.
        folder: of a trial's checkpoints, by its identifier.
        results: folder on this machine for its results, where they are read from; the same by default.
        shared: folder of the stages that trials have in common.
        tags: of every run.
        concurrency: tells how many trials may run at once by now.
        on_end: called with each trial when it is on record as ended.

    Attributes:
        gave_up: why no more trials start, where the same thing outside them ended several in a row; else empty.
        timings: of the trials that this driver ran to their result at one go, in the order in which they ended. Trials
            that were begun before report those seconds as well, and are left out.
    """

    def __init__(
        self,
        schedule: Schedule,
        sweep: SweepLog,
        display: SweepDisplay,
        *,
        resolve: Callable[[TrialSpec], Config],
        folder: Callable[[str], str],
        results: Callable[[str], str] | None = None,
        shared: str,
        tags: dict[str, str],
        concurrency: Callable[[], int],
        on_end: Callable[[TrialSpec], None] | None = None,
    ) -> None:
        self._schedule, self._sweep, self._display = schedule, sweep, display
        self._resolve, self._folder, self._shared, self._tags = resolve, folder, shared, tags
        self._results = results or folder
        self._concurrency, self._on_end = concurrency, on_end
        self._resumed = {record.spec.trial_id for record in schedule.records}
        self._live: dict[str, tuple[TrialSpec, float]] = {}
        # The stage that each live trial shares with others, and those of which there are weights by now.
        self._sharing: dict[str, str] = {}
        self._trained: set[str] = set()
        self._ended: set[str] = set()
        self._seconds: dict[str, dict[str, float]] = {}
        self._losses: list[str] = []
        self.gave_up = ""
        self.timings: dict[str, Timing] = {}

    def suggest(self) -> TrialJob | Signal:
        """The next trial, on record as running; `WAIT` also while enough trials run."""
        if self.gave_up:
            return Signal.DONE
        if len(self._live) >= self._concurrency():
            return Signal.WAIT
        started = time.perf_counter()
        spec = self._schedule.next(self._would_wait)
        if isinstance(spec, Signal):
            return spec
        config = self._resolve(spec)
        if (stage := shared_stage(config)) is not None:
            self._sharing[spec.trial_id] = stage_identity(config, stage)
        tags = {**self._tags, CONFIG_HASH: config_hash(config, get_method(spec.method).reads)}
        tags |= self._schedule.verdicts(spec.trial_id)
        self._sweep.open_trial(spec, params=settings_read(config), tags=tags)
        self._live[spec.trial_id] = (spec, started)
        if spec.trial_id in self._ended:  # stopped at a rung, and promoted
            self._ended.discard(spec.trial_id)
            self._resumed.add(spec.trial_id)
        self._display.started(spec)
        return TrialJob(trial_id=spec.trial_id, config=config, folder=self._folder(spec.trial_id), shared=self._shared)

    def _would_wait(self, spec: TrialSpec) -> bool:
        """Whether running trials are about to train the stage that this one begins with."""
        config = self._resolve(spec)
        stage = shared_stage(config)
        return stage is not None and stage_identity(config, stage) in {*self._sharing.values()} - self._trained

    def _note_trained(self, spec: TrialSpec, message: Message) -> None:
        """Others can take over the stage that a trial shares with them, where its report is from behind that stage."""
        first, *later = get_method(spec.method).stages
        reports_later_stage = isinstance(message, EpochDone) and later and message.stage != first.name
        if spec.trial_id in self._sharing and (isinstance(message, TrialResult) or reports_later_stage):
            self._trained.add(self._sharing[spec.trial_id])

    def on_message(self, trial_id: str, message: Message) -> bool:
        """A trial reported; returns whether it continues."""
        spec, _ = self._live[trial_id]
        if isinstance(message, TrialWaits):
            self._display.waits(spec, message.reason)
            return True
        self._note_trained(spec, message)
        if isinstance(message, EpochDone) and message.stage:
            # An earlier stage has no scores that a rung could judge.
            self._sweep.log_epoch(trial_id, message.epoch, message.metrics, stage=message.stage)
            self._display.epoch(spec, message.epoch, message.metrics, message.stage)
            return True
        if isinstance(message, EpochDone):
            record = self._schedule.on_report(trial_id, message.epoch, message.metrics)
            if record.status != "failed":
                # That a trial goes on stands with its epoch; that it does not, in its end.
                verdicts = self._schedule.verdicts(trial_id) if record.status == "running" else {}
                self._sweep.log_epoch(trial_id, message.epoch, message.metrics, tags=verdicts)
                self._display.epoch(spec, message.epoch, message.metrics, "")
            if record.status != "running":
                self._end(record)
            return record.status == "running"
        if isinstance(message, TrialResult):
            seconds = message.metrics.time
            self._seconds[trial_id] = {m.key: seconds.get(m.key, 0.0) for m in (TRAIN_S, EVALUATE_S, WAIT_S)}
            record = self._schedule.on_complete(trial_id, message.metrics)
            if record.status == "completed":
                self._keep_artifacts(spec, message)
        elif isinstance(message, TrialLost):
            record = self._schedule.on_lost(trial_id, message.reason)
            self._note_loss(message)
        else:
            record = self._schedule.on_fail(trial_id, message.reason)
        self._end(record)
        return True

    def on_wait(self, trial_id: str, reason: str) -> None:
        """A trial that is to run has found no place for long."""
        spec, _ = self._live[trial_id]
        self._display.waits(spec, reason)

    def on_process_lost(self, trial_id: str, reason: str) -> None:
        """A trial's process was lost more often than allowed."""
        self._end(self._schedule.on_lost(trial_id, reason))

    def on_exit(self, trial_id: str) -> None:
        """A trial left the cluster."""
        _, started = self._live.pop(trial_id)
        self._sharing.pop(trial_id, None)
        if trial_id not in self._seconds:
            # Does nothing to a trial that has ended already.
            self._end(self._schedule.on_lost(trial_id, "ended without a result"))
        elif trial_id not in self._resumed:
            self.timings[trial_id] = Timing(wall_s=time.perf_counter() - started, **self._seconds[trial_id])

    def _keep_artifacts(self, spec: TrialSpec, result: TrialResult) -> None:
        score = result.metrics.test.get(TASK_SCORE.key)
        page = rationale_page(
            result.highlights,
            title=f"{spec.method} {spec.configuration:04d}, seed {spec.seed}",
            subtitle="" if score is None else f"test {TASK_SCORE.label.lower()} {score:.2f}, best epoch {result.epoch}",
        )
        files, left = CheckpointStore(self._results(spec.trial_id)), CheckpointStore(self._folder(spec.trial_id))
        if left.folder != files.folder:
            for name in (INSTANCES, CONFIG, RESULT):
                if (data := left.read(name)) is not None:
                    files.write(name, data)
        files.write(RATIONALES, page.encode())
        for name in ARTIFACTS:
            if name in files.names():  # earlier versions left no results by instance
                self._sweep.log_file(spec.trial_id, Path(files.folder) / name)

    def _end(self, record: TrialRecord) -> None:
        trial_id = record.spec.trial_id
        if trial_id in self._ended:
            return
        self._ended.add(trial_id)
        self._sweep.log_text(trial_id, "config.yaml", to_yaml(self._resolve(record.spec)))
        rungs = "".join(f"{key}: {words}\n" for key, words in self._schedule.verdicts(trial_id).items())
        if rungs:
            self._sweep.log_text(trial_id, "rungs.txt", rungs)
        self._sweep.finish_trial(trial_id, record.status, metrics=record.metrics, reason=record.reason)
        self._display.ended(record)
        if self._on_end is not None:
            self._on_end(record.spec)
        if record.status != "lost":
            self._losses = []

    def _note_loss(self, loss: TrialLost) -> None:
        """Give up where a full disk, say, would end one trial after the other."""
        # What stands in quotes, a trial's folder for instance, is each trial's own.
        cause = loss.reason.partition("'")[0]
        if loss.awaits_others:
            self._losses = [*self._losses, cause] if cause in self._losses[:1] else [cause]
        if len(self._losses) == _LOSSES:
            self.gave_up = f"stopped, as {_LOSSES} trials in a row were lost to the same ({loss.reason}),"
