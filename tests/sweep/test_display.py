"""What a sweep tells of how far it is."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.display import Standing, make_display
from unirex_ray.tracking.records import TrialRecord, TrialSpec

EXTENT = SimpleNamespace(sweep_id="s1", most_trials=10, seeds=(0,), weights=(1, 1, 1), budgets={"aa-ig": 5, "sgt": 5})


def record(method: str, configuration: int, value: float, status: str = "completed") -> TrialRecord:
    name = f"s1-{method}-{configuration}"
    spec = TrialSpec(trial_id=name, method=method, configuration=configuration, seed=0, parameters={})
    return TrialRecord(spec=spec, status=status, metrics=TrialMetrics(dev={m.key: value for m in NRG_METRICS}))


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def standing(clock: list[float]) -> Standing:
    return Standing(EXTENT, [record("sgt", 4, 1.0), record("sgt", 3, 1.0, "lost")], lambda: clock[0])


def test_the_time_that_is_left_follows_from_what_ended_here(standing: Standing, clock: list[float]) -> None:
    assert (standing.count(), standing.left()) == ("1/10", "")
    told = []
    for number, seconds in enumerate((30, 60, 600)):
        clock[0] = 100 + seconds
        standing.add(record("aa-ig", number, 1.0, "failed"))
        told.append(standing.left())
    assert told == ["", "about 4 min left", "about 20 min left"]  # of 7 at 30 s, and of 6 at 200 s each
    assert standing.goes_on("s1-aa-ig-0")
    assert not standing.goes_on("s1-aa-ig-0")
    assert standing.count() == "3/10"


def test_at_the_end_nothing_is_left(standing: Standing, clock: list[float]) -> None:
    for number in range(9):
        clock[0] += 1
        standing.add(record("aa-ig", number, 1.0, "stopped"))
    assert (standing.count(), standing.left()) == ("10/10", "")


def test_no_method_is_cut_on_a_narrow_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with make_display(console, EXTENT, []) as display:
        trial = record("aa-ig", 0, 0.5)
        display.started(trial.spec)
        display.epoch(trial.spec, 1, trial.metrics, "task-model")
    extent = SimpleNamespace(**{**vars(EXTENT), "budgets": {"unirex-slm-fp": 5, "unirex-aa-f-rand": 5}})
    with make_display(console, extent, []):
        pass
    shown = console.file.getvalue()
    assert all(method in shown for method in ("aa-ig", "unirex-slm-fp", "unirex-aa-f-rand"))


def test_trials_of_one_method_stand_below_each_other_and_what_nobody_needs_takes_no_width() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with make_display(console, EXTENT, []) as display:
        for number in (0, 1):
            trial = record("aa-ig", number, 0.5)
            display.started(trial.spec)
            display.epoch(trial.spec, 7, trial.metrics, "")
    first, second = (line for line in console.file.getvalue().splitlines()[-20:] if re.search(r"000\d s0", line))
    assert first.index("0000 s0") == second.index("0001 s0")
    assert "Stopped" not in console.file.getvalue()
    with make_display(console, EXTENT, [record("sgt", 4, 1.0, "failed")]):
        pass
    assert re.search(r"Method +Done +Failed +Running ", console.file.getvalue())


@pytest.mark.parametrize("terminal", [False, True])
def test_the_best_so_far_is_told_when_it_changes(terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal, color_system=None)
    with make_display(console, EXTENT, []) as display:
        for number, value in enumerate((0.2, 0.1, 0.4)):
            trial = record("aa-ig", number, value)
            display.started(trial.spec)
            display.ended(trial)
    shown = console.file.getvalue()
    assert [f"aa-ig {number:04d} s0" in shown for number in range(3)] == [True] * 3  # lines that stay
    if terminal:
        assert re.search(r"Sweep s1; 3/10 trials; about \d+ s left; best so far: aa-ig 000", shown)
    else:
        told = [line.partition(";")[0] for line in shown.splitlines() if line.startswith("best")]
        assert told[0] == "best so far: aa-ig 0000"
        assert len(told) == len(set(told))
