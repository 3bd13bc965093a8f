"""What a sweep prints while it runs: a live table on a terminal, one plain line per event elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from unirex_ray.analysis.leaderboard import leaderboard
from unirex_ray.analysis.selection import configurations
from unirex_ray.metrics.table import NRG_METRICS, TASK_SCORE, TrialMetrics
from unirex_ray.report.table import parameters_text
from unirex_ray.sweep.schedule import SweepExtent
from unirex_ray.tracking.records import TrialRecord, TrialSpec


class SweepDisplay(Protocol):
    """Is told every event of a sweep, and displays them while it is entered."""

    def __enter__(self) -> Self:
        """Start to display."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def started(self, spec: TrialSpec) -> None:
        """A trial is about to start."""

    def epoch(self, spec: TrialSpec, epoch: int, metrics: TrialMetrics, stage: str) -> None:
        """A trial reported an epoch's dev metrics; `stage` is empty for its last stage."""

    def waits(self, spec: TrialSpec, reason: str) -> None:
        """A trial has found no place for long."""

    def ended(self, record: TrialRecord) -> None:
        """A trial completed, failed, was lost or was stopped."""


def make_display(console: Console, extent: SweepExtent, earlier: Sequence[TrialRecord]) -> SweepDisplay:
    """The kind that suits the console.

    Args:
        earlier: what is recorded of a sweep that is resumed.
    """
    return (_LiveDisplay if console.is_terminal else _LineDisplay)(console, extent, earlier)


class Standing:
    """How far a sweep is.

    Args:
        earlier: what is recorded of a sweep that is resumed.
        clock: in seconds.

    Attributes:
        ended: trials that have ended and do not go on, by identifier.
        best: the configuration that is the best so far, on dev and against what has completed; empty where none is.
    """

    def __init__(
        self, extent: SweepExtent, earlier: Sequence[TrialRecord], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ended = {record.spec.trial_id: record for record in earlier if record.status not in ("running", "lost")}
        self._extent, self._clock, self._began = extent, clock, clock()
        self._here = 0
        self.best, self._look_again = "", clock()

    def goes_on(self, trial_id: str) -> bool:
        """Note that a trial starts; returns whether it had been stopped."""
        return self.ended.pop(trial_id, None) is not None

    def add(self, record: TrialRecord) -> None:
        """Note that a trial has ended."""
        self.ended[record.spec.trial_id] = record
        self._here += 1
        if record.status == "completed" and self._clock() >= self._look_again:  # to rank thousands takes a while
            self._find_best()

    def count(self) -> str:
        """Trials that have ended, of the most that there may be."""
        return f"{len(self.ended)}/{self._extent.most_trials}"

    def left(self) -> str:
        """For how long it goes on if all trials are run, at the pace since its start, in words; empty at first and at
        the end."""
        remaining = self._extent.most_trials - len(self.ended)
        if self._here < 2 or remaining <= 0:
            return ""
        return f"about {_duration(remaining * (self._clock() - self._began) / self._here)} left"

    def _find_best(self) -> None:
        began = self._clock()
        completed = [record for record in self.ended.values() if record.status == "completed"]
        row = leaderboard(configurations(completed, seeds=self._extent.seeds), self._extent.weights).best
        self.best = f"{row.configuration.method} {row.configuration.index:04d}" if row else ""
        self._look_again = self._clock() + 20 * (self._clock() - began)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(1, round(seconds)):.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"


class _LineDisplay:
    def __init__(self, console: Console, extent: SweepExtent, earlier: Sequence[TrialRecord]) -> None:
        self._console, self._standing, self._best = console, Standing(extent, earlier), ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def started(self, spec: TrialSpec) -> None:
        self._line(
            "goes on" if self._standing.goes_on(spec.trial_id) else "start", spec, parameters_text(spec.parameters)
        )

    def epoch(self, spec: TrialSpec, epoch: int, metrics: TrialMetrics, stage: str) -> None:
        self._line(f"epoch {epoch}", spec, f"{stage}  {_dev(metrics.dev)}".strip())

    def waits(self, spec: TrialSpec, reason: str) -> None:
        self._line("waits", spec, reason)

    def ended(self, record: TrialRecord) -> None:
        self._standing.add(record)
        self._line(record.status, record.spec, record.reason or _dev(record.metrics.dev))
        if self._standing.best != self._best:
            self._best, left = self._standing.best, self._standing.left()
            self._console.print(f"best so far: {self._best}{left and f'; {left}'}", markup=False, soft_wrap=True)

    def _line(self, event: str, spec: TrialSpec, text: str) -> None:
        trial = _name(spec)
        line = f"{time.strftime('%H:%M:%S')} [{self._standing.count()}] {trial:<24} {event:<9} {text}"
        self._console.print(line, markup=False, soft_wrap=True)


@dataclass
class _Running:
    spec: TrialSpec
    since: float
    epoch: str = ""
    dev: Mapping[str, float] = field(default_factory=dict)


class _LiveDisplay:
    def __init__(self, console: Console, extent: SweepExtent, earlier: Sequence[TrialRecord]) -> None:
        self._extent, self._standing = extent, Standing(extent, earlier)
        self._running: dict[str, _Running] = {}
        self._console = console
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def started(self, spec: TrialSpec) -> None:
        self._standing.goes_on(spec.trial_id)
        self._running[spec.trial_id] = _Running(spec=spec, since=time.monotonic())

    def epoch(self, spec: TrialSpec, epoch: int, metrics: TrialMetrics, stage: str) -> None:
        running = self._running[spec.trial_id]
        running.epoch, running.dev = f"{stage} {epoch}".strip(), metrics.dev

    def waits(self, spec: TrialSpec, reason: str) -> None:
        self._console.print(f"{_name(spec)} waits: {reason}", style="yellow", markup=False)

    def ended(self, record: TrialRecord) -> None:
        del self._running[record.spec.trial_id]
        self._standing.add(record)
        told = record.reason or _dev(record.metrics.dev)
        style = "red" if record.status in ("failed", "lost") else None
        self._console.print(f"{_name(record.spec)} {record.status}: {told}", style=style, markup=False)

    def _table(self) -> Group:
        best, left = self._standing.best, self._standing.left()
        told = [
            f"Sweep {self._extent.sweep_id}",
            f"{self._standing.count()} trials",
            left,
            best and f"best so far: {best}",
        ]
        table = Table(box=box.SIMPLE_HEAD)
        running = list(self._running.values())
        records = [*self._standing.ended.values()]
        ended = Counter((record.spec.method, record.status) for record in records)
        statuses = {record.status for record in records}
        # Columns that would hold nothing but zeros leave their width to the others.
        others = [status for status in ("stopped", "failed", "lost") if status in statuses]
        for header in ("Method", "Done", *map(str.capitalize, others), "Running", "Time", "Epoch", "Dev"):
            table.add_column(header, no_wrap=header in ("Method", "Running"))  # or several would look alike
        for method, budget in self._extent.budgets.items():
            counts = [str(ended[method, status]) for status in others]
            cells = [method, f"{ended[method, 'completed']}/{budget * len(self._extent.seeds)}", *counts]
            of_method = [_cells(trial) for trial in running if trial.spec.method == method]
            for trial_cells in of_method or [("",) * 4]:
                table.add_row(*cells, *trial_cells)
                cells = [""] * len(cells)
        # As the table's own title it would wrap where the table ends.
        return Group(Text("; ".join(filter(None, told)), style="table.title"), table)


def _name(spec: TrialSpec) -> str:
    return f"{spec.method} {spec.configuration:04d} s{spec.seed}"


def _cells(trial: _Running) -> tuple[str, ...]:
    spec = trial.spec
    seconds = f"{time.monotonic() - trial.since:.0f} s"
    return f"{spec.configuration:04d} s{spec.seed}", seconds, trial.epoch, _dev(trial.dev)


def _dev(metrics: Mapping[str, float]) -> str:
    columns = [TASK_SCORE, *(metric for metric in NRG_METRICS if metric is not TASK_SCORE)]
    return "  ".join(f"{m.label} {metrics[m.key]:z.{m.decimals}f}" for m in columns if m.key in metrics)
