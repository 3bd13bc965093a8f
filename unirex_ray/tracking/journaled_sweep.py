"""A sweep that is written to its journal: what its events say, to whom they go on, and what follows from them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.journal import Event, Journal
from unirex_ray.tracking.records import TrialRecord, TrialSpec, TrialStatus
from unirex_ray.tracking.store import REASON, SELECTED_SCORES, STATUS, OpenSweep, RunStore, SweepStatus, sort_key


@dataclass(frozen=True, kw_only=True)
class SweepBegun:
    """What a sweep is opened with, see `RunStore.open_sweep`; `at`: None before its journal has it."""

    experiment: str
    sweep_id: str
    seeds: Sequence[int]
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    at: float | None = None

    def open_in(self, store: RunStore) -> OpenSweep:
        """The sweep's runs in a store."""
        return store.open_sweep(**vars(self))


ENDS = ("completed", "failed")
"""Kinds of event that close a sweep; one that is continued has a "sweep" behind them."""


class JournaledSweep:
    """A `SweepLog` whose every call is an event of its journal, on disk when the call returns; for several threads.

    Args:
        output: of the sweep; the files that it logs lie there.
        pass_on: is given each event when it is on disk.

    Attributes:
        status: of the sweep, as of the last event.
    """

    def __init__(self, journal: Journal, begun: SweepBegun, output: Path, pass_on: Callable[[Event], None]) -> None:
        self._journal, self._begun, self._output, self._pass_on = journal, begun, output, pass_on
        self._trials = trials_of(journal.events)
        self._selection = {
            trial_id: dict(scores)
            for event in journal.events
            if event["event"] == "selection"
            for trial_id, scores in event["scores"].items()
        }
        self._lock = threading.Lock()
        self.status = _status_behind(journal.events[-1]["event"] if journal.events else "")

    def begin(self) -> None:
        """Note how the sweep is opened, now and after each resume; everything else comes behind it."""
        self._note("sweep", **vars(self._begun))

    def open_trial(self, spec: TrialSpec, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """See `SweepLog`."""
        self._note("trial", spec={**vars(spec), "parameters": dict(spec.parameters)}, params=params, tags=tags)
        return spec.trial_id

    def log_epoch(
        self,
        trial_id: str,
        epoch: int,
        metrics: TrialMetrics,
        *,
        stage: str = "",
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """See `SweepLog`."""
        self._note("epoch", trial_id=trial_id, epoch=epoch, metrics=metrics.flat(), stage=stage, tags=dict(tags))

    def finish_trial(
        self, trial_id: str, status: TrialStatus, *, metrics: TrialMetrics, reason: str | None = None
    ) -> None:
        """See `SweepLog`."""
        self._note("ended", trial_id=trial_id, status=status, metrics=metrics.flat(), reason=reason)

    def log_text(self, trial_id: str | None, path: str, text: str) -> None:
        """See `SweepLog`."""
        self._note("text", trial_id=trial_id, path=path, text=text)

    def log_file(self, trial_id: str | None, file: Path) -> None:
        """See `SweepLog`; the journal holds the name alone."""
        self._note("file", trial_id=trial_id, file=str(file.relative_to(self._output)))

    def log_selection(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        """See `SweepLog`; only what has changed since the last selection is an event."""
        before, nothing = self._selection, dict.fromkeys(SELECTED_SCORES, math.nan)
        gone = dict.fromkeys(before.keys() - scores.keys(), nothing)
        changed = {t: dict(s) for t, s in {**scores, **gone}.items() if repr(before.get(t)) != repr(dict(s))}
        self._selection = {**before, **changed}
        if changed:
            self._note("selection", scores=changed)

    def trials(self, *, history: bool = False) -> list[TrialRecord]:
        """See `SweepLog`."""
        with self._lock:
            records = list(self._trials.values())
        return sorted(records if history else (replace(record, history={}) for record in records), key=sort_key)

    def finish(self) -> None:
        """See `SweepLog`."""
        self._note("completed")

    def fail(self, reason: str) -> None:
        """See `SweepLog`; where the disk is full, the store is told nevertheless."""
        try:
            self._note("failed", reason=reason)
        except OSError:
            self._pass_on({"event": "failed", "reason": reason, "at": time.time()})
            raise

    def _note(self, kind: str, **content: Any) -> None:
        with self._lock:
            event = self._journal.append({"event": kind, **content})
            self.status = _status_behind(kind)
            _apply(event, self._trials)
            self._pass_on(event)


def _status_behind(kind: str) -> SweepStatus:
    """A sweep's status when an event of this kind is its last one."""
    return cast(SweepStatus, kind) if kind in ENDS else "running"


def deliver(event: Event, sweep: OpenSweep, output: Path) -> None:
    """Do to a sweep's runs what an event says; a second time changes nothing.

    Args:
        output: of the sweep, where the files lie that it names.

    Raises:
        FileNotFoundError: where such a file is gone.
    """
    sweep.as_of(event["at"])
    kind, trial_id = event["event"], event.get("trial_id")
    if kind == "trial":
        sweep.open_trial(TrialSpec(**event["spec"]), params=event["params"], tags=event["tags"])
    elif kind == "epoch":
        metrics = TrialMetrics.from_flat(event["metrics"])
        sweep.log_epoch(event["trial_id"], event["epoch"], metrics, stage=event["stage"], tags=event["tags"])
    elif kind == "ended":
        metrics = TrialMetrics.from_flat(event["metrics"])
        sweep.finish_trial(event["trial_id"], event["status"], metrics=metrics, reason=event["reason"])
    elif kind == "text":
        sweep.log_text(trial_id, event["path"], event["text"])
    elif kind == "file":
        sweep.log_file(trial_id, output / event["file"])
    elif kind == "selection":
        sweep.log_selection(event["scores"])
    elif kind == "completed":
        sweep.finish()
    elif kind == "failed":
        sweep.fail(event["reason"])


def trial_of(event: Event) -> str | None:
    """The trial that an event is about; None for the sweep itself."""
    found: str | None = event["spec"]["trial_id"] if event["event"] == "trial" else event.get("trial_id")
    return found


def trials_of(events: Iterable[Event]) -> dict[str, TrialRecord]:
    """The records of the trials, by identifier, with their history."""
    trials: dict[str, TrialRecord] = {}
    for event in events:
        _apply(event, trials)
    return trials


def _apply(event: Event, trials: dict[str, TrialRecord]) -> None:
    if event["event"] == "trial":
        spec = TrialSpec(**event["spec"])
        before = trials.get(spec.trial_id, TrialRecord(spec=spec, status="running"))
        tags = {**before.tags, **event["tags"], STATUS: "running"}
        tags.pop(REASON, None)
        trials[spec.trial_id] = TrialRecord(spec=spec, status="running", history=before.history, tags=tags)
    elif event["event"] == "epoch" and not event["stage"]:
        record = trials[event["trial_id"]]
        # What was reported first stays, as it does in a run store.
        history = {event["epoch"]: TrialMetrics.from_flat(event["metrics"]), **record.history}
        trials[event["trial_id"]] = replace(record, history=history, tags={**record.tags, **event["tags"]})
    elif event["event"] == "ended":
        record, status, reason = trials[event["trial_id"]], event["status"], event["reason"]
        trials[event["trial_id"]] = replace(
            record,
            status=status,
            metrics=TrialMetrics.from_flat(event["metrics"] if status == "completed" else {}),
            reason=reason,
            tags={**record.tags, STATUS: status, **({REASON: reason} if reason else {})},
        )


def beginning_of(events: Iterable[Event]) -> SweepBegun | None:
    """How a sweep was opened last; None in an empty journal."""
    beginnings = [event for event in events if event["event"] == "sweep"]
    return SweepBegun(**{key: value for key, value in beginnings[-1].items() if key != "event"}) if beginnings else None
