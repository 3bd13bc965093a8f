"""One contract, run over every run store."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.memory_store import Backend, MemoryStore

from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import Evaluation, JudgedModel, StudyRecord, TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST, PROTOCOL, PROTOCOL_LINE, REASON, SWEEP_ID, OpenSweep, RunStore

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


def open_sweep(store: RunStore, experiment: str, sweep_id: str = "s1") -> OpenSweep:
    return store.open_sweep(
        experiment=experiment,
        sweep_id=sweep_id,
        seeds=(0, 1),
        params={"sweep.seeds": [0, 1], "long": "x" * 7000, "nothing": None},
        tags={DATA_DIGEST: "abc"},
    )


def evaluation(trained_on: str, corpus: str) -> Evaluation:
    return Evaluation(
        trial_id="s1-aa-ig-0000-s0",
        method="aa-ig",
        seed=0,
        trained_on=trained_on,
        trained_digest="abc",
        corpus=corpus,
        digest="def",
        split="test",
        labels="negative: no, positive: yes",
        metrics=TrialMetrics(test={"comprehensiveness": 0.25, "task_score": 0.0}),
        settings={"data.max_length": "96", "train.precision": "fp32"},
        protocol="0a1b2c3d4e5f",
    )


def test_a_completed_trial_reads_back(connect: Connect, experiment: str) -> None:
    sweep = open_sweep(connect(), experiment)
    run_id = sweep.open_trial(spec(), params={"method": "unirex-slm-fp", "train.epochs": 2}, tags={DATA_DIGEST: "abc"})
    sweep.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 40.0, "task_score": 0.0}))
    sweep.log_epoch(spec().trial_id, 2, TrialMetrics(dev={"auprc": 60.0, "task_score": 50.0}))
    sweep.finish_trial(
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
    (with_history,) = sweep.trials(history=True)
    assert with_history.history == {
        1: TrialMetrics(dev={"auprc": 40.0, "task_score": 0.0}),
        2: TrialMetrics(dev={"auprc": 60.0, "task_score": 50.0}),
    }


def test_trials_of_a_sweep_that_grew_have_its_present_protocol(connect: Connect, experiment: str) -> None:
    def opened(protocol: str) -> OpenSweep:
        tags = {DATA_DIGEST: "abc", PROTOCOL: protocol, PROTOCOL_LINE: f"protocol {protocol}: ..."}
        return connect().open_sweep(experiment=experiment, sweep_id="s1", seeds=(0,), params={}, tags=tags)

    first = opened("0a1b")
    first.open_trial(spec(), params={}, tags={PROTOCOL: "0a1b", "own": "x"})
    first.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics())
    (record,) = opened("2c3d").trials()
    assert (record.tags[PROTOCOL], record.tags[PROTOCOL_LINE]) == ("2c3d", "protocol 2c3d: ...")
    assert (record.tags["own"], record.status) == ("x", "completed")


def test_a_run_says_whether_its_model_learned_anything(connect: Connect, experiment: str) -> None:
    sweep = open_sweep(connect(), experiment)
    sweep.open_trial(spec(), params={}, tags={})
    metrics = TrialMetrics(dev={"majority_p": 0.0004}, test={"majority_p": 0.51})
    sweep.finish_trial(spec().trial_id, "completed", metrics=metrics)
    (record,) = sweep.trials()
    assert {key: value for key, value in record.tags.items() if key.startswith("verdict")} == {
        "verdict.dev": "better than the majority class (p = 0.0004)",
        "verdict.test": "not better than the majority class (p = 0.51)",
    }


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_an_unfinished_trial_has_a_reason_and_no_metrics(connect: Connect, experiment: str, status: str) -> None:
    sweep = open_sweep(connect(), experiment)
    sweep.open_trial(spec(), params={}, tags={})
    sweep.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 40.0}))
    sweep.finish_trial(spec().trial_id, status, metrics=TrialMetrics(dev={"auprc": 40.0}), reason="why")
    (record,) = sweep.trials()
    assert (record.status, record.metrics, record.reason) == (status, TrialMetrics(), "why")


def test_a_killed_driver_continues_its_runs(connect: Connect, experiment: str) -> None:
    sweep = open_sweep(connect(), experiment)
    first = sweep.open_trial(spec(0), params={"train.epochs": 3}, tags={})
    sweep.log_epoch(spec(0).trial_id, 1, TrialMetrics(dev={"auprc": 10.0}))

    resumed = open_sweep(connect(), experiment)
    assert resumed.run_id == sweep.run_id
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
    sweep = open_sweep(connect(), experiment)
    first = sweep.open_trial(spec(), params={}, tags={})
    sweep.finish_trial(spec().trial_id, "failed", metrics=TrialMetrics(), reason="worker lost")
    assert sweep.open_trial(spec(), params={}, tags={}) == first
    (record,) = sweep.trials()
    assert (record.status, record.reason) == ("running", None)
    assert REASON not in record.tags
    sweep.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 1.0}))
    assert [r.status for r in sweep.trials()] == ["completed"]


def test_trials_have_one_order(connect: Connect, experiment: str) -> None:
    sweep = open_sweep(connect(), experiment)
    specs = [spec(1, 0), spec(0, 1), spec(10, 0), spec(0, 0), spec(0, 0, "aa-ig")]
    for trial in specs:
        sweep.open_trial(trial, params={}, tags={})
    ids = [record.spec.trial_id for record in sweep.trials()]
    assert ids == [specs[4].trial_id, specs[3].trial_id, specs[1].trial_id, specs[0].trial_id, specs[2].trial_id]
    assert [record.spec.trial_id for record in connect().sweeps(experiment)[0].trials] == ids


def test_sweeps_of_an_experiment(connect: Connect, experiment: str) -> None:
    assert connect().sweeps(experiment) == []
    store = connect()
    sweep = open_sweep(store, experiment, "s1")
    sweep.open_trial(spec(), params={}, tags={})
    sweep.finish()
    open_sweep(store, experiment, "s2").fail("out of memory")
    open_sweep(connect(), f"another {experiment}", "s3")
    one, two = connect().sweeps(experiment)
    assert (one.sweep_id, one.status, one.seeds, len(one.trials)) == ("s1", "completed", (0, 1), 1)
    assert one.tags[DATA_DIGEST] == "abc"
    assert (two.sweep_id, two.status, two.trials) == ("s2", "failed", ())
    assert two.tags[REASON] == "out of memory"


def test_reading_sweeps_leaves_the_open_sweep_open(connect: Connect, experiment: str) -> None:
    store = connect()
    open_sweep(store, f"another {experiment}")
    sweep = open_sweep(store, experiment)
    store.sweeps(f"another {experiment}")
    sweep.open_trial(spec(), params={}, tags={})
    assert len(connect().sweeps(experiment)[0].trials) == 1


def test_scores_are_written_back(connect: Connect, experiment: str) -> None:
    store = connect()
    sweep = open_sweep(store, experiment)
    run_id = sweep.open_trial(spec(), params={}, tags={})
    sweep.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 1.0}))
    store.log_scores(run_id, {"cnrg": 0.25})
    store.log_scores(run_id, {"cnrg": 0.125})
    (record,) = sweep.trials()
    assert record.metrics.flat() == {"dev/auprc": 1.0, "nrg/cnrg": 0.125}


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True], ids=["own corpus", "another corpus"])
def test_an_evaluation_during_an_open_sweep_leaves_the_sweeps_runs_alone(
    connect: Connect, experiment: str, elsewhere: bool
) -> None:
    store = connect()
    sweep = open_sweep(store, experiment)
    evaluated = evaluation(experiment, f"another {experiment}" if elsewhere else experiment)

    def evaluate(seed: int) -> None:
        sweeps, trials = store.sweeps(experiment), sweep.trials(history=True)
        store.log_evaluation(replace(evaluated, seed=seed), params={}, tags={}, files={"config.yaml": b"a: 1"})
        assert store.sweeps(experiment) == sweeps
        assert sweep.trials(history=True) == trials

    first = sweep.open_trial(spec(0), params={}, tags={})
    sweep.log_epoch(spec(0).trial_id, 1, TrialMetrics(dev={"auprc": 10.0}))
    evaluate(0)
    sweep.log_epoch(spec(0).trial_id, 2, TrialMetrics(dev={"auprc": 20.0}))
    sweep.finish_trial(spec(0).trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 20.0}))
    second = sweep.open_trial(spec(1), params={}, tags={})
    evaluate(1)
    assert sweep.open_trial(spec(1), params={}, tags={}) == second
    sweep.log_text(None, "leaderboard.csv", "a,b\n")
    sweep.finish_trial(spec(1).trial_id, "stopped", metrics=TrialMetrics(), reason="why")
    sweep.finish()

    one, two = sweep.trials(history=True)
    assert (one.run_id, one.status, two.run_id, two.status) == (first, "completed", second, "stopped")
    assert one.history == {1: TrialMetrics(dev={"auprc": 10.0}), 2: TrialMetrics(dev={"auprc": 20.0})}
    (recorded,) = connect().sweeps(experiment)
    assert (recorded.run_id, recorded.status) == (sweep.run_id, "completed")
    assert [record.run_id for record in recorded.trials] == [first, second]
    assert connect().sweeps(f"another {experiment}") == []


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True], ids=["own corpus", "another corpus"])
def test_two_open_sweeps_do_not_disturb_each_other(connect: Connect, experiment: str, elsewhere: bool) -> None:
    store = connect()
    corpora = {"s1": experiment, "s2": f"another {experiment}" if elsewhere else experiment}
    one, two = (open_sweep(store, corpus, sweep_id) for sweep_id, corpus in corpora.items())
    assert one.run_id != two.run_id
    ours, theirs = spec(), replace(spec(1), trial_id=spec(1).trial_id.replace("s1-", "s2-", 1))
    run_ids = [one.open_trial(ours, params={}, tags={}), two.open_trial(theirs, params={}, tags={})]
    one.log_epoch(ours.trial_id, 1, TrialMetrics(dev={"auprc": 10.0}))
    two.log_epoch(theirs.trial_id, 1, TrialMetrics(dev={"auprc": 20.0}))
    one.finish_trial(ours.trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 10.0}))
    one.fail("out of memory")
    two.finish_trial(theirs.trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 20.0}))
    two.finish()

    for sweep, trial, run_id, value in ((one, ours, run_ids[0], 10.0), (two, theirs, run_ids[1], 20.0)):
        (record,) = sweep.trials(history=True)
        assert (record.spec, record.run_id, record.tags[SWEEP_ID]) == (trial, run_id, trial.trial_id[:2])
        assert record.metrics == record.history[1] == TrialMetrics(dev={"auprc": value})
    recorded = {sweep.sweep_id: sweep for corpus in set(corpora.values()) for sweep in connect().sweeps(corpus)}
    assert [(recorded[name].status, recorded[name].run_id) for name in corpora] == [
        ("failed", one.run_id),
        ("completed", two.run_id),
    ]
    assert [[trial.run_id for trial in recorded[name].trials] for name in corpora] == [[run_ids[0]], [run_ids[1]]]


def test_artifacts(connect: Connect, experiment: str, tmp_path: Path) -> None:
    sweep = open_sweep(connect(), experiment)
    run_id = sweep.open_trial(spec(), params={}, tags={})
    picture = tmp_path / "cnrg.png"
    picture.write_bytes(b"png")
    sweep.log_text(spec().trial_id, "config.yaml", "a: 1\n")
    sweep.log_text(None, "leaderboard.csv", "a,b\n")
    sweep.log_file(None, picture)
    connect().log_files(run_id, {"instances.parquet": b"\x00\xff"})
    assert connect().artifact(sweep.run_id, "cnrg.png") == b"png"
    assert connect().artifact(run_id, "instances.parquet") == b"\x00\xff"
    assert connect().artifact(run_id, "nothing.parquet") is None
    assert connect().artifact(sweep.run_id, "instances.parquet") is None


def test_a_report_stands_in_the_run_and_a_later_one_replaces_it(connect: Connect, experiment: str) -> None:
    sweep = open_sweep(connect(), experiment)
    for text in ("first", "second"):
        connect().describe(sweep.run_id, f"{text} **won**")
        connect().log_files(sweep.run_id, {"report.html": text.encode()})
    assert connect().artifact(sweep.run_id, "report.html") == b"second"


def study(corpus: str, trial_id: str, *, digest: str = "abc", simulated: bool = False) -> StudyRecord:
    model = JudgedModel(
        trial_id=trial_id,
        trained_on=corpus,
        trained_digest=digest,
        metrics={"study/accuracy": 80.0, "study/alignment": 4},
    )
    return StudyRecord(
        study="0" * 16,
        answers="1" * 16,
        simulated=simulated,
        corpus=corpus,
        digest="def",
        metrics={"study/accuracy/unirex-slm-fp": 80.0},
        models=(model,),
    )


def test_a_study_is_no_sweep_no_trial_and_no_evaluation(connect: Connect, experiment: str) -> None:
    sweep = open_sweep(connect(), experiment)
    sweep.open_trial(spec(), params={}, tags={DATA_DIGEST: "abc"})
    sweep.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 20.0}))
    sweep.finish()
    before = connect().sweeps(experiment)
    run = connect().log_study(study(experiment, spec().trial_id), params={}, tags={}, files={"a.json": b"{}"})
    assert connect().sweeps(experiment) == before
    assert connect().evaluations(experiment) == []
    assert connect().artifact(run, "a.json") == b"{}"
    connect().describe(run, "what was found")
    again = open_sweep(connect(), experiment)  # as a sweep that goes on
    assert [record.metrics.flat() for record in again.trials()] == [{"dev/auprc": 20.0}]


def test_a_study_of_models_that_are_not_recorded_here(connect: Connect, experiment: str) -> None:
    for trial_id in ("s9-aa-ig-0000-s0", "it's"):
        assert connect().log_study(study(experiment, trial_id), params={}, tags={}, files={})
    assert connect().sweeps(experiment) == []


def test_conforms(connect: Connect, experiment: str) -> None:
    store: RunStore = connect()
    sweep: OpenSweep = open_sweep(store, experiment)
    for part, protocol in ((store, RunStore), (sweep, OpenSweep)):
        assert all(hasattr(part, name) for name in vars(protocol) if not name.startswith("_"))


def test_a_strange_sweep_name_is_refused(database: str) -> None:
    with pytest.raises(UserError, match="may hold letters"):
        open_sweep(MlflowStore(database), "corpus", "it's")


def test_epochs_of_earlier_stages_stay_out_of_the_history(connect: Connect, experiment: str) -> None:
    sweep = open_sweep(connect(), experiment)
    sweep.open_trial(spec(), params={}, tags={})
    sweep.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"task_score": 10.0}), stage="first")
    sweep.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 20.0}))
    sweep.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 20.0}))
    (record,) = sweep.trials(history=True)
    assert record.history == {1: TrialMetrics(dev={"auprc": 20.0})}
    assert record.metrics.flat() == {"dev/auprc": 20.0}


@pytest.mark.slow
def test_evaluations_are_found_by_what_the_model_was_trained_on(connect: Connect, experiment: str) -> None:
    one = evaluation(experiment, f"target of {experiment}")
    other = replace(one, trial_id="s1-aa-ig-0000-s1", seed=1, settings={}, protocol=None)
    elsewhere = replace(one, corpus=f"another of {experiment}")
    store = connect()
    open_sweep(store, one.corpus)
    for logged in (one, other, elsewhere, replace(one, trial_id="s9", trained_on="else")):
        store.log_evaluation(
            logged, params={"data.limit": 3}, tags={"git.version": "1"}, files={"rationales.html": b"<p>"}
        )
    assert connect().evaluations(experiment) == [one, other, elsewhere]
    assert connect().evaluations("nothing") == []
    # With other settings it is another one.
    shorter = replace(one, trained_on=f"short {experiment}", settings={**one.settings, "data.max_length": "16"})
    connect().log_evaluation(shorter, params={}, tags={}, files={})
    assert connect().evaluations(experiment) == [one, other, elsewhere]
    assert connect().evaluations(f"short {experiment}") == [shorter]
    # An evaluation is neither a sweep nor a trial, and the same one again replaces the first.
    assert [(sweep.sweep_id, sweep.trials) for sweep in connect().sweeps(one.corpus)] == [("s1", ())]
    connect().log_evaluation(
        replace(one, metrics=TrialMetrics(test={"task_score": 50.0})), params={}, tags={}, files={}
    )
    evaluations = connect().evaluations(experiment)
    assert sorted(e.trial_id for e in evaluations) == sorted(e.trial_id for e in (one, other, elsewhere))
    (again,) = [e for e in evaluations if (e.trial_id, e.corpus) == (one.trial_id, one.corpus)]
    assert again.metrics.flat() == {"test/task_score": 50.0}
