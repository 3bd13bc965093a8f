"""A sweep as a function of the package."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.memory_store import MemoryStore
from helpers.sweep_in_process import fit, losing

import unirex_ray
import unirex_ray.sweep.start as module
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.sweep.run import run_sweep

Call = Callable[..., Any]


@pytest.fixture
def call(
    sweep: Callable[..., SweepOutcome], monkeypatch: pytest.MonkeyPatch, encoders: dict[str, str], tmp_path: Path
) -> Call:
    """`unirex_ray.sweep` on a space of three configurations."""
    (tmp_path / "space.yaml").write_text(
        "config: {sweep: {methods: [aa-ig, sgt], searcher: grid, seeds: [0]}, train: {epochs: 7}}\n"
        "parameters: {train.learning_rate: {choice: [1.0e-5, 2.0e-5, 3.0e-5]}}\n"
    )
    store = MemoryStore()
    monkeypatch.setattr(module, "run_sweep", partial(run_sweep, open_store=lambda uri: store))

    def call(trials: Any = fit, **keys: Any) -> Any:
        monkeypatch.setattr("unirex_ray.sweep.run.fit", trials)
        given = {"output": str(tmp_path / "out"), "model": {"encoder": encoders["bert"]}}
        return unirex_ray.sweep(given, space=str(tmp_path / "space.yaml"), data={"cache": str(tmp_path)}, **keys)

    return call


@pytest.mark.filterwarnings("error")
def test_it_gives_the_leaderboard(call: Call, tmp_path: Path) -> None:
    frame = call(train={"epochs": 2})
    assert sorted(frame["method"]) == ["aa-ig"] * 3 + ["sgt"] * 3
    assert frame["rank"].tolist() == [1, 2, 3] * 2
    assert frame.loc[0, "best"]
    assert frame.loc[0, "train.learning_rate"] == 3e-5
    assert "epochs: 2" in (tmp_path / "out" / "best_config.yaml").read_text()


def test_what_the_call_sets_is_not_searched(call: Call) -> None:
    assert len(call(train={"learning_rate": 1e-4})) == 2


def test_what_did_not_complete_is_a_warning_and_a_second_call_goes_on(call: Call) -> None:
    with pytest.warns(UserWarning, match="not all trials completed: 1 of 6 trials were lost"):
        call(trials=losing({"sgt-0002-s0"}))
    assert len(call(resume=True)) == 6


def test_the_folder_is_the_function_whatever_was_imported() -> None:
    assert callable(unirex_ray.sweep)
    assert unirex_ray.sweep.__name__ == "unirex_ray.sweep"
    assert "sweep" in unirex_ray.__all__
