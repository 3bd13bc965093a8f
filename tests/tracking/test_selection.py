"""By what configurations were selected, as events and in MLflow."""

import base64
import json
import math
import zlib
from pathlib import Path

import pytest
from mlflow import MlflowClient

from unirex_ray.tracking.journal import Event, Journal
from unirex_ray.tracking.journaled_sweep import JournaledSweep, SweepBegun, deliver
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.mlflow_ui import pages
from unirex_ray.tracking.records import TrialSpec

BEGUN = SweepBegun(experiment="reviews", sweep_id="s1", seeds=(0,), params={"space loss.comp_weight": "x"}, tags={})
FIRST = {"t0": {"cnrg": 1.0}, "t1": {"cnrg": 0.25}}


@pytest.fixture
def events() -> list[Event]:
    return []


def journaled(folder: Path, events: list[Event]) -> JournaledSweep:
    return JournaledSweep(Journal(folder / "journal.jsonl"), BEGUN, folder, events.append)


def test_only_what_has_changed_is_written(tmp_path: Path, events: list[Event]) -> None:
    sweep = journaled(tmp_path, events)
    sweep.log_selection(FIRST)
    sweep.log_selection(FIRST)
    second = {"t0": {"cnrg": 1.0}, "t1": {"cnrg": 0.5}, "t2": {"cnrg": 0.0}}
    journaled(tmp_path, events).log_selection(second)  # another process
    assert [event["scores"] for event in events] == [FIRST, {key: second[key] for key in ("t1", "t2")}]


def test_what_is_no_longer_scored_is_nan(tmp_path: Path, events: list[Event]) -> None:
    sweep = journaled(tmp_path, events)
    sweep.log_selection(FIRST)
    for _ in range(2):
        sweep.log_selection({"t0": FIRST["t0"]})
    assert len(events) == 2
    assert {*events[1]["scores"]} == {"t1"}
    assert all(map(math.isnan, events[1]["scores"]["t1"].values()))


def test_mlflow_has_it_and_a_view_of_it(tmp_path: Path, events: list[Event]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    sweep = MlflowStore(uri).open_sweep(**vars(BEGUN))
    spec = TrialSpec(trial_id="t0", method="aa-ig", configuration=0, seed=0, parameters={})
    run_id = sweep.open_trial(spec, params={}, tags={})
    journaled(tmp_path, events).log_selection(FIRST)
    deliver(events[0], sweep, tmp_path)  # of t1 there is no run: somebody deleted it
    client = MlflowClient(uri)
    assert client.get_run(run_id).data.metrics == {"select/cnrg": 1.0}
    assert sweep.trials()[0].metrics.flat() == {}  # no metric of the trial's own

    tags = client.get_experiment_by_name("reviews").tags  # type: ignore[union-attr]
    kind, _, packed = tags["mlflow.sharedViewState.s1"].partition(";")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert kind == "deflate"
    assert state["selectedColumns"][:2] == ["tags.`method`", "metrics.`select/cnrg`"]
    assert state["selectedColumns"][-1] == "params.`loss.comp_weight`"
    assert len(tags["mlflow.sharedViewState.s1"]) < 5000
    found = client.search_runs(["1"], state["searchFilter"], order_by=[f"{state['orderByKey']} ASC"])
    assert [run.info.run_id for run in found] == [run_id]
    assert pages(uri)["sweep s1"] == sweep.page

    def description() -> str:
        return str(client.get_run(sweep.run_id).data.tags["mlflow.note.content"])

    link = f"[The trials of this sweep, by method]({sweep.page})"
    assert description() == link
    MlflowStore(uri).describe(sweep.run_id, "One method is ahead.")
    assert description() == f"One method is ahead.\n\n{link}"
