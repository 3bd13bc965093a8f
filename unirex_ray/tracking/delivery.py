"""Brings a sweep's journal to a run store, which may be away, in a thread of its own."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from unirex_ray.errors import StoreAwayError, UserError, first_line
from unirex_ray.files import replace_text
from unirex_ray.tracking.journal import Event
from unirex_ray.tracking.journaled_sweep import ENDS, deliver, trial_of, trials_of
from unirex_ray.tracking.store import OpenSweep

DELIVERED = "journal.delivered.json"
"""File in a sweep's output: how many events of the journal a store has, and in which run."""

_FIRST_WAIT, _LONGEST_WAIT, _LAST_WAIT = 1.0, 30.0, 2.0
"""Seconds between tries: they double up to the longest; while the sweep waits for its end, they are short."""

_PATIENCE_SECONDS, _HASTE_SECONDS = 60.0, 2.0
"""For how long the end waits for a store that is away, and how long it takes at all where somebody stops the sweep."""
_TELL_SECONDS = 10.0


class Delivery:
    """Delivers events in their order, each until the store takes it.

    A store that fails is opened again before the next try: what it has taken by then, it finds.

    Args:
        output: of the sweep.
        events: of the journal so far; those that the store has are not delivered again.
        open_sweep: in the store; raises while that is away.
        say: tells the user that the store is away, or is back; called from the thread.

    Attributes:
        problem: why the store did not take an event at the last try; empty where it did.
        page: of the sweep, see `OpenSweep`; empty before the store has answered.
    """

    def __init__(
        self, output: Path, events: Sequence[Event], open_sweep: Callable[[], OpenSweep], say: Callable[[str], None]
    ) -> None:
        self._output, self._open_sweep, self._say = output, open_sweep, say
        self._events = tuple(events)
        self._waiting = deque(enumerate(self._events, start=1))
        self._count = len(self._events)
        self._began = self._events[0]["at"] if self._events else None  # which tells one journal from another
        self._begun_at = max((number for number, event in self._waiting if event["event"] == "sweep"), default=0)
        self._sweep: OpenSweep | None = None
        self._settled: frozenset[str | None] | None = None  # not known before the store was asked
        self._closing = self._abandoned = False
        self.problem = self.page = ""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def connect(self) -> OpenSweep:
        """Open the sweep in the store now, so that what is wrong with it ends the command before any work.

        Raises:
            UserError: where the store is unusable.
            StoreAwayError: where it does not answer.
        """
        try:
            self._sweep = self._opened()
        except UserError:
            raise
        except Exception as error:  # of MLflow, SQLAlchemy, requests and the operating system
            raise StoreAwayError(f"MLflow does not take the sweep's run ({first_line(error)[:200]})") from error
        return self._sweep

    def start(self) -> None:
        """Deliver what is there and what is put, from now on."""
        self._thread.start()

    def put(self, event: Event) -> None:
        """Deliver this as well; returns at once."""
        with self._news:
            self._count += 1
            self._began = self._began or event["at"]
            self._waiting.append((self._count, event))
            if event["event"] == "sweep":
                self._begun_at = self._count
            self._news.notify_all()

    def close(self, *, in_haste: bool = False) -> int:
        """Wait until everything is delivered, and end.

        Args:
            in_haste: wait for two seconds at most; else while the store answers, and a minute where it does not.

        Returns:
            How many events it has not taken.
        """
        began = told = time.monotonic()
        limit = _HASTE_SECONDS if in_haste else _PATIENCE_SECONDS
        with self._news:
            self._closing = True
            self._news.notify_all()
            while self._waiting and self._thread.is_alive():
                if time.monotonic() - began > limit and (in_haste or self.problem):
                    break
                self._news.wait(0.2)
                if time.monotonic() - told > _TELL_SECONDS:
                    told = time.monotonic()
                    self._say(f"{len(self._waiting)} events are still on their way to MLflow")
            self._abandoned = True
            self._news.notify_all()
            left = len(self._waiting)
        self._thread.join(_LAST_WAIT)  # it may be in the middle of a request that nobody answers
        return left

    def _run(self) -> None:
        wait = _FIRST_WAIT
        while self._is_due():
            try:
                self._sweep = self._sweep or self._opened()
                self._deliver_first(self._sweep)
                wait = _FIRST_WAIT
            except Exception as error:  # of MLflow, SQLAlchemy, requests and the operating system
                self._sweep = None
                self._on_failure(error)
                self._pause(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _is_due(self) -> bool:
        """Waits for an event; false at the end."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closing)
            return bool(self._waiting) and not self._abandoned

    def _opened(self) -> OpenSweep:
        sweep = self._open_sweep()
        self.page = sweep.page
        if self._settled is None:
            self._settled = self._skip_what_is_there(sweep)
        return sweep

    def _skip_what_is_there(self, sweep: OpenSweep) -> frozenset[str | None]:
        """Leave out what was delivered to this run; where trials are gone from it, see which are there for good."""
        run_id, delivered = self._delivered()
        known = {trial_of(event) for event in self._events[:delivered] if event["event"] == "trial"}
        if delivered and run_id == sweep.run_id and sweep.has_trials(len(known)):
            # Opening the sweep has set it running again: its end, where it is the last event, is to be told once more.
            there = min(delivered, len(self._events) - (self._events[-1]["event"] in ENDS))
            with self._news:
                for _ in range(there):
                    self._waiting.popleft()
            return frozenset()
        last = {trial_id: record.status for trial_id, record in trials_of(self._events).items()}
        return frozenset(
            record.spec.trial_id
            for record in sweep.trials()
            if record.status == last.get(record.spec.trial_id) and record.status in ("completed", "failed")
        )

    def _deliver_first(self, sweep: OpenSweep) -> None:
        with self._news:
            if not self._waiting:
                return
            number, event = self._waiting[0]
        if not self._needs_no(number, event):
            deliver(event, sweep, self._output)
        with self._news:
            self._waiting.popleft()
            self._news.notify_all()
        if self.problem:
            self.problem = ""
            self._say(f"MLflow answers again; {len(self._waiting)} events follow")
        self._note_delivered(sweep.run_id, number)

    def _needs_no(self, number: int, event: Event) -> bool:
        """Whether an event has nothing to add to the store."""
        if event["event"] in ENDS:
            return number < self._begun_at  # it went on
        if event["event"] == "file" and not (self._output / event["file"]).exists():
            self._say(f"not in MLflow, as it is gone: {event['file']}")
            return True
        return number <= len(self._events) and trial_of(event) in (self._settled or ())

    def _on_failure(self, error: Exception) -> None:
        before, self.problem = self.problem, first_line(error)[:200]
        if not before:
            self._say(f"MLflow takes nothing ({self.problem}); the sweep goes on, and its runs follow")

    def _pause(self, seconds: float) -> None:
        with self._news:
            closing = self._closing
            self._news.wait_for(
                lambda: self._abandoned or self._closing != closing,
                timeout=min(seconds, _LAST_WAIT) if closing else seconds,
            )

    def _delivered(self) -> tuple[str | None, int]:
        """The run, and how many events of this journal it has; none where that is not known."""
        try:
            content = json.loads((self._output / DELIVERED).read_text(encoding="utf-8"))
            return str(content["run_id"]), int(content["events"]) if content["began"] == self._began else 0
        except (OSError, ValueError, KeyError, TypeError):
            return None, 0

    def _note_delivered(self, run_id: str, number: int) -> None:
        content = {"run_id": run_id, "began": self._began, "events": number}
        with suppress(OSError):  # on a full disk, say: it saves work, and no more
            replace_text(self._output / DELIVERED, json.dumps(content))
