"""One contract, run over every run store."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.memory_store import Backend, MemoryStore

from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import Evaluation, TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST, REASON, SWEEP_ID, RunStore

Connect = Callable[[], RunStore]


def spec(index: int = 0, seed: int = 0, method: str = "unirex-slm-fp") -> TrialSpec:
    return TrialSpec(
        trial_id=f"s1-{method}-{index:04d}-s{seed}",
        method=method,
        configuration=index,
        seed=seed,
        parameters={"train.learning_rate": 2e-5, "loss.comp_weight": 1, "model.head": "linear", "data.limit": None},
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(params=["memory", "mlflow"])
def connect(request: pytest.FixtureRequest, database: str) -> Connect:
    """Every call is a process of its own, as far as the store can tell."""
    backend: Backend = {}
    return lambda: MlflowStore(database) if request.param == "mlflow" else MemoryStore(backend)


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return f"corpus of {request.node.name}"


def open_sweep(store: RunStore, experiment: str, sweep_id: str = "s1") -> str:
    return store.open_sweep(
        experiment=experiment,
        sweep_id=sweep_id,
        seeds=(0, 1),
        params={"sweep.seeds": [0, 1], "long": "x" * 7000, "nothing": None},
        tags={DATA_DIGEST: "abc"},
    )


def test_a_completed_trial_reads_back(connect: Connect, experiment: str) -> None:
    store = connect()
    open_sweep(store, experiment)
    run_id = store.open_trial(spec(), params={"method": "unirex-slm-fp", "train.epochs": 2}, tags={DATA_DIGEST: "abc"})
    store.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 40.0, "task_score": 0.0}))
    store.log_epoch(spec().trial_id, 2, TrialMetrics(dev={"auprc": 60.0, "task_score": 50.0}))
    store.finish_trial(
        spec().trial_id,
        "completed",
        metrics=TrialMetrics(dev={"auprc": 40.0}, test={"auprc": 0.0}, time={"total_s": 3.5}),
    )

    (record,) = connect().sweeps(experiment)[0].trials
    assert record.spec == spec()
    assert {key: type(value) for key, value in record.spec.parameters.items()} == {
        "train.learning_rate": float,
        "loss.comp_weight": int,
        "model.head": str,
        "data.limit": type(None),
    }
    assert record.status == "completed"
    assert record.metrics.flat() == {"dev/auprc": 40.0, "test/auprc": 0.0, "time/total_s": 3.5}
    assert record.history == {}
    assert record.run_id == run_id
    assert record.reason is None
    assert record.tags[DATA_DIGEST] == "abc"
    assert record.tags[SWEEP_ID] == "s1"
    (with_history,) = store.trials(history=True)
    assert with_history.history == {
        1: TrialMetrics(dev={"auprc": 40.0, "task_score": 0.0}),
        2: TrialMetrics(dev={"auprc": 60.0, "task_score": 50.0}),
    }


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_an_unfinished_trial_has_a_reason_and_no_metrics(connect: Connect, experiment: str, status: str) -> None:
    store = connect()
    open_sweep(store, experiment)
    store.open_trial(spec(), params={}, tags={})
    store.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 40.0}))
    store.finish_trial(spec().trial_id, status, metrics=TrialMetrics(dev={"auprc": 40.0}), reason="why")
    (record,) = store.trials()
    assert (record.status, record.metrics, record.reason) == (status, TrialMetrics(), "why")


def test_a_killed_driver_continues_its_runs(connect: Connect, experiment: str) -> None:
    store = connect()
    sweep = open_sweep(store, experiment)
    first = store.open_trial(spec(0), params={"train.epochs": 3}, tags={})
    store.log_epoch(spec(0).trial_id, 1, TrialMetrics(dev={"auprc": 10.0}))

    resumed = connect()
    assert open_sweep(resumed, experiment) == sweep
    (record,) = resumed.trials(history=True)
    assert record.status == "running"
    assert record.history == {1: TrialMetrics(dev={"auprc": 10.0})}
    assert resumed.open_trial(spec(0), params={"train.epochs": 3, "train.seed": 0}, tags={}) == first
    resumed.log_epoch(spec(0).trial_id, 1, TrialMetrics(dev={"auprc": 99.0}))
    resumed.log_epoch(spec(0).trial_id, 2, TrialMetrics(dev={"auprc": 20.0}))
    resumed.finish_trial(spec(0).trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 20.0}))
    (record,) = resumed.trials(history=True)
    assert record.history == {1: TrialMetrics(dev={"auprc": 10.0}), 2: TrialMetrics(dev={"auprc": 20.0})}


def test_a_failed_trial_can_be_tried_again(connect: Connect, experiment: str) -> None:
    store = connect()
    open_sweep(store, experiment)
    first = store.open_trial(spec(), params={}, tags={})
    store.finish_trial(spec().trial_id, "failed", metrics=TrialMetrics(), reason="worker lost")
    assert store.open_trial(spec(), params={}, tags={}) == first
    (record,) = store.trials()
    assert (record.status, record.reason) == ("running", None)
    assert REASON not in record.tags
    store.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 1.0}))
    assert [r.status for r in store.trials()] == ["completed"]


def test_trials_have_one_order(connect: Connect, experiment: str) -> None:
    store = connect()
    open_sweep(store, experiment)
    specs = [spec(1, 0), spec(0, 1), spec(10, 0), spec(0, 0), spec(0, 0, "aa-ig")]
    for each in specs:
        store.open_trial(each, params={}, tags={})
    ids = [record.spec.trial_id for record in store.trials()]
    assert ids == [specs[4].trial_id, specs[3].trial_id, specs[1].trial_id, specs[0].trial_id, specs[2].trial_id]
    assert [record.spec.trial_id for record in store.sweeps(experiment)[0].trials] == ids


def test_sweeps_of_an_experiment(connect: Connect, experiment: str) -> None:
    assert connect().sweeps(experiment) == []
    store = connect()
    open_sweep(store, experiment, "s1")
    store.open_trial(spec(), params={}, tags={})
    store.finish_sweep()
    open_sweep(store, experiment, "s2")
    store.fail_sweep("out of memory")
    open_sweep(connect(), f"another {experiment}", "s3")
    one, two = connect().sweeps(experiment)
    assert (one.sweep_id, one.status, one.seeds, len(one.trials)) == ("s1", "completed", (0, 1), 1)
    assert one.tags[DATA_DIGEST] == "abc"
    assert (two.sweep_id, two.status, two.trials) == ("s2", "failed", ())
    assert two.tags[REASON] == "out of memory"


def test_reading_sweeps_leaves_the_open_one_open(connect: Connect, experiment: str) -> None:
    store = connect()
    open_sweep(store, f"another {experiment}")
    open_sweep(store, experiment)
    store.sweeps(f"another {experiment}")
    store.open_trial(spec(), params={}, tags={})
    assert len(connect().sweeps(experiment)[0].trials) == 1


def test_scores_are_written_back(connect: Connect, experiment: str) -> None:
    store = connect()
    open_sweep(store, experiment)
    run_id = store.open_trial(spec(), params={}, tags={})
    store.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 1.0}))
    store.log_scores(run_id, {"cnrg": 0.25})
    store.log_scores(run_id, {"cnrg": 0.125})
    (record,) = store.trials()
    assert record.metrics.flat() == {"dev/auprc": 1.0, "nrg/cnrg": 0.125}


def test_artifacts(connect: Connect, experiment: str, tmp_path: Path) -> None:
    store = connect()
    open_sweep(store, experiment)
    store.open_trial(spec(), params={}, tags={})
    picture = tmp_path / "cnrg.png"
    picture.write_bytes(b"png")
    store.log_text(spec().trial_id, "config.yaml", "a: 1\n")
    store.log_text(None, "leaderboard.csv", "a,b\n")
    store.log_file(None, picture, "plots")


def test_conforms(connect: Connect) -> None:
    store: RunStore = connect()
    assert all(hasattr(store, name) for name in vars(RunStore) if not name.startswith("_"))


def test_a_strange_sweep_name_is_refused(database: str) -> None:
    with pytest.raises(UserError, match="may hold letters"):
        open_sweep(MlflowStore(database), "corpus", "it's")


def test_epochs_of_earlier_stages_stay_beside_the_history(connect: Connect, experiment: str) -> None:
    store = connect()
    open_sweep(store, experiment)
    store.open_trial(spec(), params={}, tags={})
    store.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"task_score": 10.0}), stage="first")
    store.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 20.0}))
    store.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 20.0}))
    (record,) = store.trials(history=True)
    assert record.history == {1: TrialMetrics(dev={"auprc": 20.0})}
    assert record.metrics.flat() == {"dev/auprc": 20.0}


def test_evaluations_are_found_by_what_the_model_was_trained_on(connect: Connect, experiment: str) -> None:
    one = Evaluation(
        trial_id="s1-aa-ig-0000-s0",
        method="aa-ig",
        seed=0,
        trained_on=experiment,
        trained_digest="abc",
        corpus=f"target of {experiment}",
        digest="def",
        split="test",
        labels="negative: no, positive: yes",
        metrics=TrialMetrics(test={"comprehensiveness": 0.25, "task_score": 0.0}),
    )
    other = replace(one, trial_id="s1-aa-ig-0000-s1", seed=1)
    elsewhere = replace(one, corpus=f"another of {experiment}")
    store = connect()
    open_sweep(store, one.corpus)
    for evaluation in (one, other, elsewhere, replace(one, trial_id="s9", trained_on="else")):
        store.log_evaluation(
            evaluation, params={"data.limit": 3}, tags={"git.version": "1"}, texts={"rationales.html": "<p>"}
        )
    assert connect().evaluations(experiment) == [one, other, elsewhere]
    assert connect().evaluations("nothing") == []
    # An evaluation is neither a sweep nor a trial, and the same one again takes the place of the first.
    assert [(sweep.sweep_id, sweep.trials) for sweep in connect().sweeps(one.corpus)] == [("s1", ())]
    connect().log_evaluation(
        replace(one, metrics=TrialMetrics(test={"task_score": 50.0})), params={}, tags={}, texts={}
    )
    found = connect().evaluations(experiment)
    assert sorted(evaluation.trial_id for evaluation in found) == sorted(e.trial_id for e in (one, other, elsewhere))
    (again,) = [e for e in found if (e.trial_id, e.corpus) == (one.trial_id, one.corpus)]
    assert again.metrics.flat() == {"test/task_score": 50.0}
