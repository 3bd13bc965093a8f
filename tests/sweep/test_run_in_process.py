"""A sweep from configuration to leaderboard whose trials run in this process, without Ray and MLflow."""

import io
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.installed import install
from helpers.memory_store import MemoryStore
from helpers.sweep_in_process import SPACE, losing, statuses, the_sweep
from helpers.tiny import tiny_corpus
from rich.console import Console

from unirex_ray.config import Config
from unirex_ray.config.plugins import registered_version
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import NRG_METRICS
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.sweep.folder import open_trial
from unirex_ray.sweep.searcher import OptunaSearcher, StudyHistory
from unirex_ray.tracking.protocol import PLUGINS_KEY, protocol_line, protocol_of
from unirex_ray.tracking.store import DATA_DIGEST, NRG_WEIGHTS, PROTOCOL_LINE


def test_a_sweep_from_configuration_to_leaderboard(sweep: Callable[..., SweepOutcome]) -> None:
    store, console = MemoryStore(), Console(record=True, width=200)
    outcome = sweep(store, console=console)
    assert isinstance(outcome.best, Config)
    assert (outcome.best.method, outcome.best.train.learning_rate) == ("aa-ig", 3e-5)
    assert [row.rank for row in outcome.rows] == [1, 2, 3] * 2

    run = the_sweep(store)
    assert (run["tags"]["status"], run["tags"][NRG_WEIGHTS]) == ("completed", "[1.0, 0.0, 1.0]")
    assert run["tags"][DATA_DIGEST] == outcome.digest == tiny_corpus().digest()
    assert run["params"]["space train.learning_rate"] == SPACE.parameters[0].describe()
    assert statuses(store) == ["completed"] * 6
    summary = json.loads((outcome.output / "sweep.json").read_text())
    assert (summary["sweep_id"], summary["concurrency"], len(summary["seconds"])) == (outcome.sweep_id, 2, 6)
    kept = sorted(path.parent.name.removeprefix(outcome.sweep_id) for path in outcome.output.glob("trials/*/best.pt"))
    assert kept == ["-aa-ig-0002-s0", "-sgt-0002-s0"]
    assert not (outcome.output / "stages").exists()

    precision, encoder, protocol, first, disk, *lines = console.export_text().splitlines()
    assert precision == "train.precision=auto: bf16, as this machine's CPU has avx512_bf16"
    assert ": tried on 32 tokens, hidden and padding tokens change nothing; losses drop them" in encoder
    assert protocol.startswith("protocol ")
    assert "reviews, 24/12/12 instances (train/dev/test); encoder " in protocol
    assert first == (
        f"sweep {outcome.sweep_id}: configurations: aa-ig 3, sgt 3; seeds: 0; concurrency: 2; "
        "a trial: 1 worker x 1 CPU; nodes: 1 x 2 CPUs; trials already ended: 0"
    )
    assert disk.startswith("disk: 2 MB of weights, 1 MB of them for each of 2 trials at once; ")
    assert "[0/6] aa-ig 0000 s0            start     learning_rate=1e-05" in lines[0]
    assert "[0/6] aa-ig 0000 s0            epoch 1   Task 0.10  Comp 0.100" in lines[1]
    ended = [line for line in lines if not line.startswith("best so far: ")]
    assert "[6/6] sgt 0002 s0              completed Task 0.30  Comp 0.300  Suff 0.700" in ended[-1]


def test_a_sweep_on_a_cluster_that_grows_tells_its_room_and_what_it_asks_for(
    sweep: Callable[..., SweepOutcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    console = Console(record=True, width=200)
    outcome = sweep(MemoryStore(), console=console, changes={"sweep": {"autoscale": True, "concurrency": 3}})
    assert "; concurrency: 3 (room for 2 now); a trial: 1 worker x 1 CPU; nodes: 1 x 2 CPUs;" in console.export_text()
    assert json.loads((outcome.output / "sweep.json").read_text())["concurrency"] == 3


def test_a_sweep_with_lost_trials_keeps_what_its_resume_may_select(sweep: Callable[..., SweepOutcome]) -> None:
    store = MemoryStore()
    outcome = sweep(store, trials=losing({"sgt-0002-s0"}))
    assert (outcome.status, dict(outcome.statuses)) == ("incomplete", {"completed": 5, "lost": 1})
    assert the_sweep(store)["tags"]["status"] == "failed"
    kept = {path.parent.name.removeprefix(outcome.sweep_id) for path in outcome.output.glob("trials/*/best.pt")}
    assert kept == {"-aa-ig-0002-s0", "-sgt-0001-s0"}
    assert (outcome.output / "stages").exists()
    console = Console(record=True, width=200)
    outcome = sweep(store, resume=True, console=console)
    assert (outcome.status, outcome.shortfall) == ("completed", "")
    assert len(list(outcome.output.glob("trials/*/best.pt"))) == 2
    assert "trials already ended: 5" in console.export_text()


def test_a_sweep_whose_trials_lie_on_a_storage_has_their_results_beside_it_and_their_weights_there(
    sweep: Callable[..., SweepOutcome], tmp_path: Path
) -> None:
    store, storage = MemoryStore(), f"file://{tmp_path}/bucket"
    console = Console(record=True, width=300)
    outcome = sweep(store, console=console, changes={"sweep": {"storage": storage}})
    own = tmp_path / "bucket" / outcome.sweep_id
    assert f"at {storage}" in console.export_text()
    selected = {f"{outcome.sweep_id}-{name}-0002-s0" for name in ("aa-ig", "sgt")}
    assert {path.parent.name for path in own.rglob("best.pt")} == selected
    assert not [*outcome.output.rglob("*.pt")]
    for folder in (outcome.output / "trials").iterdir():
        assert {path.name for path in folder.iterdir()} == {"result.json", "instances.parquet", "rationales.html"}
        assert (folder / "result.json").read_bytes() == folder.name.encode()
    for run in [run for run in store.runs.values() if "spec" in run]:
        assert run["artifacts"]["instances.parquet"] == run["spec"].trial_id.encode()
    assert sorted(path.name for path in own.iterdir()) == ["trials"]
    for trial_id in selected:
        assert open_trial(outcome.output, trial_id).read("best.pt") == trial_id.encode()


def test_a_sweep_that_grows_by_a_method_of_others_records_which_code_it_is(
    sweep: Callable[..., SweepOutcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
from unirex_ray.methods import Method, Stage
from unirex_ray.models.design import Design
STAGE = Stage(name="joint", criteria=("task", "suff"), design=Design(extractor="aa-ig"))
MINE, YOURS = (Method(name=name, label=name, stages=(STAGE,)) for name in ("mine", "yours"))
"""
    entries = 'mine = "theirs:MINE"\nyours = "theirs:YOURS"'
    project = f'[project]\nname = "theirs"\nversion = "1"\n[project.entry-points."unirex_ray.methods"]\n{entries}'
    install(tmp_path / "site", project, {"theirs.py": source}, monkeypatch)
    store = MemoryStore()
    before = protocol_of(sweep(store).settings)
    sweep(store, resume=True, changes={"sweep": {"methods": ["aa-ig", "sgt", "mine"]}})
    sweep(store, resume=True, changes={"sweep": {"methods": ["aa-ig", "sgt", "mine", "yours"]}})
    assert statuses(store) == ["completed"] * 12
    (grown,) = store.sweeps("tiny")
    assert PLUGINS_KEY not in before
    assert protocol_of(grown.settings) == {
        **before,
        PLUGINS_KEY: ", ".join(f"method {name}={registered_version('method', name)}" for name in ("mine", "yours")),
    }
    install(tmp_path / "other", project, {"theirs.py": f"{source}# changed"}, monkeypatch)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path / "site")])
    with pytest.raises(UserError, match=r"with other settings: version\.plugins was \"method mine=theirs 1 "):
        sweep(store, resume=True, changes={"sweep": {"methods": ["aa-ig", "sgt", "mine", "yours"]}})
    sweep(store, resume=True, other_code=True, changes={"sweep": {"methods": ["aa-ig", "sgt", "mine", "yours"]}})
    (mixed,) = store.sweeps("tiny")
    assert mixed.settings[PLUGINS_KEY].count(" then theirs 1 (") == 2


@pytest.mark.parametrize("recorded", ["bf16", "auto"])
def test_a_sweep_keeps_the_precision_that_it_began_with(
    sweep: Callable[..., SweepOutcome], monkeypatch: pytest.MonkeyPatch, recorded: str
) -> None:
    """On whatever machine it goes on; version 0.1.0 recorded `auto`, and went on with what that meant."""
    store = MemoryStore()
    begun = sweep(store)
    assert begun.settings["train.precision"] == "bf16"
    assert {run["params"]["train.precision"] for run in store.runs.values()} == {"bf16"}
    summary = begun.output / "sweep.json"
    summary.write_text(summary.read_text().replace('"train.precision": "bf16"', f'"train.precision": "{recorded}"'))
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    console = Console(record=True, width=200)
    resumed = sweep(store, resume=True, console=console, changes={"sweep": {"seeds": [0, 1]}})
    assert resumed.settings["train.precision"] == recorded
    told = "train.precision=auto: bf16, as this sweep began" in console.export_text()
    assert told == (recorded == "bf16")
    assert resumed.best is not None
    assert resumed.best.train.precision == recorded
    with pytest.raises(UserError, match=f'train.precision was "{recorded}", now "fp32"'):
        sweep(store, resume=True, changes={"train": {"precision": "fp32"}, "sweep": {"seeds": [0, 1]}})


def measured(store: MemoryStore) -> dict[str, dict[str, float]]:
    """The metrics of each trial's run, but for those of its configuration against others."""
    return {
        run_id: {key: value for key, value in run["metrics"].items() if not key.startswith("select/")}
        for run_id, run in store.runs.items()
        if "spec" in run
    }


@pytest.mark.slow
def test_a_finished_sweep_grows_by_configurations_seeds_and_methods(sweep: Callable[..., SweepOutcome]) -> None:
    store = MemoryStore()
    small = {"sweep": {"configurations": 2, "methods": ["aa-ig"]}}
    first = sweep(store, changes=small)
    assert first.rows[0].configuration.complete
    kept = measured(store)
    line = the_sweep(store)["tags"][PROTOCOL_LINE]
    with pytest.raises(UserError, match="already holds the sweep"):
        sweep(store, changes={"sweep": {"configurations": 3}})
    grown = sweep(store, changes={"sweep": {"configurations": 3, "seeds": [0, 5]}}, resume=True)
    assert grown.sweep_id == first.sweep_id
    (record,) = store.sweeps("tiny")
    assert record.seeds == (0, 5)
    assert Counter((t.spec.method, t.spec.seed) for t in record.trials) == dict.fromkeys(
        [(method, seed) for method in ("aa-ig", "sgt") for seed in (0, 5)], 3
    )
    rates = [t.spec.parameters["train.learning_rate"] for t in record.trials if t.spec.method == "aa-ig"]
    assert Counter(rates) == {1e-5: 2, 2e-5: 2, 3e-5: 2}  # nothing twice, nothing left out
    assert kept.items() <= measured(store).items()
    assert protocol_of(record.settings) == protocol_of(grown.settings)
    assert record.tags[PROTOCOL_LINE] == protocol_line(grown.settings) != line
    with pytest.raises(UserError, match=r"sweep\.seeds was"):
        sweep(store, changes=small, resume=True)


@pytest.mark.slow
def test_a_warm_start_gives_a_searcher_what_another_sweep_found(
    sweep: Callable[..., SweepOutcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, tpe = MemoryStore(), {"sweep": {"searcher": "tpe", "configurations": 2, "methods": ["aa-ig"]}}
    earlier = sweep(store, changes=tpe)
    (tmp_path / "out").rename(tmp_path / "earlier")
    (tmp_path / "earlier" / "mlflow.db").touch()
    histories: list[StudyHistory] = []
    suggest = OptunaSearcher.suggest

    def watched(self: OptunaSearcher, index: int, history: StudyHistory) -> Any:
        histories.append(history)
        return suggest(self, index, history)

    monkeypatch.setattr(OptunaSearcher, "suggest", watched)
    later = sweep(store, changes=tpe | {"sweep": {**tpe["sweep"], "seed": 4}}, warm_start=str(tmp_path / "earlier"))
    assert later.settings["sweep.warm_start"] == earlier.sweep_id
    results = {row.configuration.parameters["train.learning_rate"]: row.configuration for row in earlier.rows}
    first = histories[0].population
    assert {c.parameters["train.learning_rate"]: c.metrics for c in first} == {
        rate: {metric.key: configuration.mean("dev")[metric.key] for metric in NRG_METRICS}
        for rate, configuration in results.items()
    }
    # Only one of three is unseen; the earlier trials are none of this sweep's.
    assert {row.configuration.parameters["train.learning_rate"] for row in later.rows} == {1e-5, 2e-5, 3e-5} - {
        *results
    }
    with pytest.raises(UserError, match=f'sweep.warm_start was "{earlier.sweep_id}", now null'):
        sweep(store, changes=tpe | {"sweep": {**tpe["sweep"], "seed": 4}}, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sweep": {"searcher": "grid"}}, r"sweep.searcher = 'grid' learns from no result; use tpe or pareto"),
        ({"train": {"epochs": 3}}, r"another protocol: train.epochs \(10 in that sweep, 3 in this one\)"),
        ({"sweep": {"searcher": "tpe", "methods": ["sgt"]}}, "no complete configuration of these methods"),
    ],
)
def test_a_warm_start_that_makes_no_sense_is_refused_before_any_trial(
    sweep: Callable[..., SweepOutcome], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    store, tpe = MemoryStore(), {"sweep": {"searcher": "tpe", "configurations": 1, "methods": ["aa-ig"]}}
    sweep(store, changes=tpe)
    (tmp_path / "out").rename(tmp_path / "earlier")
    (tmp_path / "earlier" / "mlflow.db").touch()
    merged = {**changes, "sweep": {**tpe["sweep"], **changes.get("sweep", {})}}
    trials = len(store.runs)
    with pytest.raises(UserError, match=message):
        sweep(store, changes=merged, warm_start=str(tmp_path / "earlier"))
    assert len(store.runs) == trials
    for folder, problem in (("nowhere", "holds no readable sweep"), ("earlier", "has not finished")):
        if folder == "earlier":
            file = tmp_path / "earlier" / "sweep.json"
            file.write_text(file.read_text().replace('"completed"', '"running"', 1))
        with pytest.raises(UserError, match=problem):
            sweep(store, changes=tpe, warm_start=str(tmp_path / folder))


@pytest.mark.slow
def test_a_terminal_gets_a_table(sweep: Callable[..., SweepOutcome]) -> None:
    screen = io.StringIO()
    sweep(MemoryStore(), console=Console(file=screen, force_terminal=True, width=120))
    last = screen.getvalue().rpartition("Method")[2].split()
    for method in ("aa-ig", "sgt"):
        assert last[last.index(method) + 1] == "3/3"
    heads = [word for word in ("Done", "Stopped", "Failed", "Lost", "Running") if any(word in cell for cell in last)]
    assert heads == ["Done", "Running"]  # none was stopped, failed or lost
