"""What a sweep prints while it runs: a live table on a terminal, one plain line per event elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

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


class _LineDisplay:
    def __init__(self, console: Console, extent: SweepExtent, earlier: Sequence[TrialRecord]) -> None:
        self._console = console
        self._total = extent.most_trials
        self._ended = {record.spec.trial_id for record in earlier if record.status not in ("running", "lost")}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def started(self, spec: TrialSpec) -> None:
        goes_on = spec.trial_id in self._ended
        self._ended.discard(spec.trial_id)
        self._line("goes on" if goes_on else "start", spec, parameters_text(spec.parameters))

    def epoch(self, spec: TrialSpec, epoch: int, metrics: TrialMetrics, stage: str) -> None:
        self._line(f"epoch {epoch}", spec, f"{stage}  {_dev(metrics.dev)}".strip())

    def waits(self, spec: TrialSpec, reason: str) -> None:
        self._line("waits", spec, reason)

    def ended(self, record: TrialRecord) -> None:
        self._ended.add(record.spec.trial_id)
        self._line(record.status, record.spec, record.reason or _dev(record.metrics.dev))

    def _line(self, event: str, spec: TrialSpec, text: str) -> None:
        trial = f"{spec.method} {spec.configuration:04d} s{spec.seed}"
        line = f"{time.strftime('%H:%M:%S')} [{len(self._ended)}/{self._total}] {trial:<24} {event:<9} {text}"
        self._console.print(line, markup=False, soft_wrap=True)


@dataclass
class _Running:
    spec: TrialSpec
    since: float
    epoch: str = ""
    dev: Mapping[str, float] = field(default_factory=dict)


class _LiveDisplay:
    def __init__(self, console: Console, extent: SweepExtent, earlier: Sequence[TrialRecord]) -> None:
        self._extent = extent
        self._ended = {record.spec.trial_id: record for record in earlier if record.status not in ("running", "lost")}
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
        self._ended.pop(spec.trial_id, None)  # it was stopped, and is promoted
        self._running[spec.trial_id] = _Running(spec=spec, since=time.monotonic())

    def epoch(self, spec: TrialSpec, epoch: int, metrics: TrialMetrics, stage: str) -> None:
        running = self._running[spec.trial_id]
        running.epoch, running.dev = f"{stage} {epoch}".strip(), metrics.dev

    def waits(self, spec: TrialSpec, reason: str) -> None:
        self._console.print(f"{spec.trial_id} waits: {reason}", style="yellow", markup=False)

    def ended(self, record: TrialRecord) -> None:
        del self._running[record.spec.trial_id]
        self._ended[record.spec.trial_id] = record
        if record.status in ("failed", "lost"):
            self._console.print(f"{record.spec.trial_id} {record.status}: {record.reason}", style="red", markup=False)

    def _table(self) -> Table:
        table = Table(title=f"Sweep {self._extent.sweep_id}", box=box.SIMPLE_HEAD, title_justify="left")
        for header in ("Method", "Done", "Stopped", "Failed", "Lost", "Running", "Time", "Epoch", "Dev"):
            table.add_column(header)
        running = list(self._running.values())
        ended = Counter((record.spec.method, record.status) for record in self._ended.values())
        for method, budget in self._extent.budgets.items():
            counts = [ended[method, status] for status in ("completed", "stopped", "failed", "lost")]
            cells = [method, f"{counts[0]}/{budget * len(self._extent.seeds)}", *map(str, counts[1:])]
            of_method = [_cells(trial) for trial in running if trial.spec.method == method]
            for trial_cells in of_method or [("",) * 4]:
                table.add_row(*cells, *trial_cells)
                cells = [""] * 4
        return table


def _cells(trial: _Running) -> tuple[str, ...]:
    spec = trial.spec
    seconds = f"{time.monotonic() - trial.since:.0f} s"
    return f"{spec.configuration:04d} s{spec.seed}", seconds, trial.epoch, _dev(trial.dev)


def _dev(metrics: Mapping[str, float]) -> str:
    columns = [TASK_SCORE, *(metric for metric in NRG_METRICS if metric is not TASK_SCORE)]
    return "  ".join(f"{m.label} {metrics[m.key]:z.{m.decimals}f}" for m in columns if m.key in metrics)
