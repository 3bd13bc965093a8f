"""A finished sweep keeps a table of its trials, which is read instead of its runs while the two agree."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.mlflow_runs import MlflowRuns
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.mlflow_sweep import MlflowSweep
from unirex_ray.tracking.records import TrialRecord, TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST
from unirex_ray.tracking.trial_table import TRIALS, from_parquet, to_parquet

NUMBERS = st.floats(allow_nan=False) | st.just(math.inf)
KEYS = st.sampled_from(["auprc", "task_score", "loss", "comprehensiveness"])
METRICS = st.dictionaries(KEYS, NUMBERS)
TEXT = st.text(max_size=8)
RECORDS = st.builds(
    TrialRecord,
    spec=st.builds(
        TrialSpec,
        trial_id=TEXT,
        method=TEXT,
        configuration=st.integers(0, 2**40),
        seed=st.integers(0, 2**32),
        parameters=st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | NUMBERS | TEXT),
    ),
    status=st.sampled_from(["running", "completed", "stopped", "failed"]),
    metrics=st.builds(TrialMetrics, dev=METRICS, test=METRICS, time=METRICS),
    reason=st.none() | TEXT,
    run_id=st.none() | TEXT,
    tags=st.dictionaries(TEXT, TEXT),
)


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_a_table_gives_back_what_went_in(records: list[TrialRecord]) -> None:
    assert from_parquet(to_parquet(records)) == records


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no table at all"])
def test_a_damaged_table_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match=r"trials\.parquet is damaged"):
        from_parquet(data)


def spec(index: int) -> TrialSpec:
    return TrialSpec(trial_id=f"s1-{index}", method="aa-ig", configuration=index, seed=0, parameters={"a": 0.5})


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def opened(uri: str) -> MlflowSweep:
    return MlflowStore(uri).open_sweep(
        experiment="sst", sweep_id="s1", seeds=(0,), params={}, tags={DATA_DIGEST: "abc"}
    )


def add(sweep: MlflowSweep, index: int) -> str:
    run = sweep.open_trial(spec(index), params={}, tags={DATA_DIGEST: "abc", "git.version": "v1"})
    sweep.log_epoch(spec(index).trial_id, 1, TrialMetrics(dev={"auprc": 1.0}))
    # In no order, and with a test metric that is not finite, which fails no trial.
    dev, test = {"task_score": 80.0, "auprc": 60.0 + index, "loss": 0.5}, {"task_score": 70.0, "auprc": math.nan}
    metrics = TrialMetrics(time={"total_s": 2.5}, test=test, dev=dev)
    sweep.finish_trial(spec(index).trial_id, "completed", metrics=metrics)
    return run


@pytest.fixture
def finished(uri: str) -> list[str]:
    """The runs of a sweep of three trials, one of which failed."""
    sweep = opened(uri)
    runs = [add(sweep, index) for index in range(2)]
    runs.append(sweep.open_trial(spec(2), params={}, tags={DATA_DIGEST: "abc"}))
    sweep.finish_trial(spec(2).trial_id, "failed", metrics=TrialMetrics(), reason="NaN in epoch 1")
    sweep.finish()
    return runs


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that MLflow loads, as they are asked for."""
    found: list[str] = []
    original = MlflowRuns.each

    def each(*args: object) -> object:
        for run in original(*args):  # type: ignore[arg-type]
            found.append(run.info.run_id)
            yield run

    monkeypatch.setattr(MlflowRuns, "each", each)
    return found


def read(uri: str) -> dict[str, TrialRecord]:
    (sweep,) = MlflowStore(uri).sweeps("sst")
    return {str(trial.run_id): trial for trial in sweep.trials}


def plain(trials: dict[str, TrialRecord]) -> list[object]:
    """Comparable although nan is unlike nan."""
    bare = TrialMetrics()
    return [(replace(t, metrics=bare), repr(sorted(t.metrics.flat().items()))) for t in trials.values()]


def test_it_holds_what_the_runs_hold(uri: str, finished: list[str], loaded: list[str]) -> None:
    from_table = read(uri)
    assert list(from_table) == finished
    assert math.isnan(from_table[finished[0]].metrics.test["auprc"])
    assert not set(loaded) & set(finished)
    client = MlflowClient(uri)
    client.set_tag(MlflowStore(uri).sweeps("sst")[0].run_id, "trials.digest", "")
    assert plain(read(uri)) == plain(from_table)
    assert set(finished) < set(loaded)


def scored(uri: str, runs: list[str]) -> None:
    MlflowStore(uri).log_scores(runs[0], {"cnrg": 0.5, "auprc": 0.25})


def test_scores_that_were_written_since_are_read(uri: str, finished: list[str], loaded: list[str]) -> None:
    before = read(uri)
    scored(uri, finished)
    after = read(uri)
    assert after[finished[0]].metrics.nrg == {"cnrg": 0.5, "auprc": 0.25}
    unscored = {run: replace(trial, metrics=replace(trial.metrics, nrg={})) for run, trial in after.items()}
    assert plain(unscored) == plain(before)
    assert set(loaded) & set(finished) == {finished[0]}


def test_scores_of_an_earlier_comparison_stay_out_of_it(uri: str, finished: list[str]) -> None:
    scored(uri, finished)
    opened(uri).finish()
    MlflowStore(uri).log_scores(finished[0], {"cnrg": math.nan, "auprc": math.nan})
    assert read(uri)[finished[0]].metrics.nrg == {}


def deleted(uri: str, runs: list[str]) -> None:
    MlflowClient(uri).delete_run(runs[1])


def grown(uri: str, runs: list[str]) -> None:
    add(opened(uri), 3)


def continued(uri: str, runs: list[str]) -> None:
    opened(uri)


def changed(uri: str, runs: list[str]) -> None:
    scored(uri, runs)
    MlflowClient(uri).log_metric(runs[0], "dev/auprc", 1.0)


def added(uri: str, runs: list[str]) -> None:
    """By something that knows nothing of the table."""
    client = MlflowClient(uri)
    tags = {k: v for k, v in client.get_run(runs[0]).data.tags.items() if k != "mlflow.runName"}
    client.create_run(client.get_run(runs[0]).info.experiment_id, tags={**tags, "trial_id": "s1-9"})


def lost(uri: str, runs: list[str]) -> None:
    for file in Path(uri.removeprefix("sqlite:///")).parent.rglob(TRIALS):
        file.unlink()


def damaged(uri: str, runs: list[str]) -> None:
    for file in Path(uri.removeprefix("sqlite:///")).parent.rglob(TRIALS):
        file.write_bytes(file.read_bytes()[:-4] + b"PAR0")


@pytest.mark.parametrize("event", [deleted, grown, continued, changed, added, lost, damaged])
def test_the_runs_count_where_it_does_not_agree_with_them(
    uri: str, finished: list[str], loaded: list[str], event: Callable[[str, list[str]], None]
) -> None:
    event(uri, finished)
    loaded.clear()
    found = read(uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("sst")
    assert experiment is not None
    active = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    trials = {run_id for run_id, run in active.items() if "trial_id" in run.data.tags}
    assert set(found) == trials
    assert trials <= set(loaded)
    for run_id in trials:
        expected = active[run_id].data.metrics.get("dev/auprc")
        assert found[run_id].metrics.dev.get("auprc") == expected


def test_a_resumed_sweep_reads_no_trial_again(uri: str, finished: list[str], loaded: list[str]) -> None:
    again = opened(uri)
    new = add(again, 3)
    # It was lost, and goes on.
    again.open_trial(spec(2), params={}, tags={DATA_DIGEST: "abc"})
    metrics = TrialMetrics(dev={"task_score": 1.0}, test={"task_score": 2.0})
    again.finish_trial(spec(2).trial_id, "completed", metrics=metrics)
    loaded.clear()
    again.finish()
    assert not {finished[0], finished[1]} & {*loaded}
    from_table = read(uri)
    assert from_table.keys() == {*finished, new}
    MlflowClient(uri).set_tag(MlflowStore(uri).sweeps("sst")[0].run_id, "trials.digest", "")
    assert plain(read(uri)) == plain(from_table)


@pytest.mark.parametrize("event", [deleted, lost, damaged])
def test_a_resumed_sweep_reads_all_where_its_table_is_not_theirs(
    uri: str, finished: list[str], loaded: list[str], event: Callable[[str, list[str]], None]
) -> None:
    again = opened(uri)
    event(uri, finished)
    again.finish()
    loaded.clear()
    from_table = read(uri)
    assert not {*finished} & {*loaded}
    assert len(from_table) == (2 if event is deleted else 3)
    MlflowClient(uri).set_tag(MlflowStore(uri).sweeps("sst")[0].run_id, "trials.digest", "")
    assert plain(read(uri)) == plain(from_table)


def test_a_protocol_that_has_grown_is_that_of_old_trials_as_well(uri: str, finished: list[str]) -> None:
    tags = {DATA_DIGEST: "abc", "protocol": "1234"}
    MlflowStore(uri).open_sweep(experiment="sst", sweep_id="s1", seeds=(0,), params={}, tags=tags).finish()
    assert {trial.tags["protocol"] for trial in read(uri).values()} == {"1234"}
