"""Status is written last: whenever a driver is killed, the store says `running` of exactly what has to run again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from helpers.memory_store import Backend, MemoryStore

from unirex_ray.config import Config, build_config, unflatten
from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, HighlightedToken
from unirex_ray.distributed.job import EpochDone, Job, TrialFailed
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.schedule import Schedule, SweepPlan
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialRecord, TrialSpec, TrialStatus
from unirex_ray.tracking.store import SweepRecord
from unirex_ray.training.state import TrialResult

HALVES = {metric.key: 0.5 for metric in NRG_METRICS}
METRICS = TrialMetrics(dev=HALVES, test=HALVES)
ARTIFACTS = {"rationales.html", "config.yaml", "rungs.txt"}


class Killed(BaseException):
    """Nothing catches it."""


# The MLflow store: killed before each of its writes in turn.


class Mortal:
    """An MLflow client whose process is killed when it has written so many times."""

    def __init__(self, client: Any, writes: int) -> None:
        self._client, self._left = client, writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._writer(method) if name.startswith(("log_", "set_", "update_", "delete_")) else method

    def _writer(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any, **options: Any) -> Any:
            if not self._left:
                raise Killed(method)
            self._left -= 1
            return method(*arguments, **options)

        return write


def deaths(store: MlflowStore, act: Callable[[], None]) -> Iterator[None]:
    """Let `act` be killed before its first write, its second one, and so on; ends when it comes through."""
    client, writes = store._client, 0
    while True:
        store._client = Mortal(client, writes)  # type: ignore[assignment]
        try:
            act()
        except Killed:
            yield
        else:
            return
        finally:
            store._client = client
        writes += 1


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('order')}/mlflow.db"


@pytest.fixture
def connect(uri: str, request: pytest.FixtureRequest) -> Callable[[], MlflowStore]:
    """A new process that takes the sweep up."""

    def connect() -> MlflowStore:
        store = MlflowStore(uri)
        store.open_sweep(experiment=request.node.name, sweep_id="s1", seeds=(0,), params={}, tags={})
        return store

    return connect


@pytest.fixture
def seen(uri: str, request: pytest.FixtureRequest) -> Callable[[], SweepRecord]:
    """What another process reads."""
    return lambda: MlflowStore(uri).sweeps(request.node.name)[0]


SPEC = TrialSpec(trial_id="s1-aa-ig-0000-s0", method="aa-ig", configuration=0, seed=0, parameters={})


@pytest.mark.parametrize("status", ["completed", "stopped", "failed"])
def test_a_trial_has_ended_only_when_all_else_about_it_is_written(
    connect: Callable[[], MlflowStore], seen: Callable[[], SweepRecord], status: TrialStatus
) -> None:
    store = connect()
    run_id = store.open_trial(SPEC, params={}, tags={})
    reason = None if status == "completed" else "why"
    statuses = []
    for _ in deaths(store, lambda: store.finish_trial(SPEC.trial_id, status, metrics=METRICS, reason=reason)):
        (record,) = seen().trials
        run = store._client.get_run(run_id)
        statuses.append(record.status)
        if record.status == "running":
            assert run.info.status == "RUNNING"  # MLflow's own follows
        else:
            assert run.data.metrics == METRICS.flat()
            assert (record.status, record.reason) == (status, reason)
    assert statuses[:2] == ["running", "running"]  # before the metrics, and before the status


@pytest.mark.parametrize("writes", [0, 1])
def test_a_trial_that_was_killed_before_its_status_is_run_and_finished_again(
    connect: Callable[[], MlflowStore], seen: Callable[[], SweepRecord], writes: int
) -> None:
    store = connect()
    run_id = store.open_trial(SPEC, params={}, tags={})
    store._client = Mortal(store._client, writes)  # type: ignore[assignment]
    with pytest.raises(Killed):
        store.finish_trial(SPEC.trial_id, "completed", metrics=replace(METRICS, dev={**HALVES, "auprc": 9.0}))

    again = connect()
    (record,) = again.trials()
    assert (record.status, record.metrics) == ("running", TrialMetrics())
    assert again.open_trial(SPEC, params={}, tags={}) == run_id
    again.finish_trial(SPEC.trial_id, "completed", metrics=METRICS)
    (record,) = seen().trials
    assert (record.status, record.metrics) == ("completed", METRICS)


def test_a_sweep_has_ended_only_when_all_else_about_it_is_written(
    connect: Callable[[], MlflowStore], seen: Callable[[], SweepRecord]
) -> None:
    store = connect()
    statuses = []
    for _ in deaths(store, store.finish_sweep):
        sweep = seen()
        run = store._client.get_run(sweep.run_id)
        statuses.append(sweep.status)
        if sweep.status == "running":
            assert run.info.status == "RUNNING"
    assert statuses[0] == "running"
    connect().finish_sweep()
    assert seen().status == "completed"


# The driver: what it hands to the store, and when.


class Recording(MemoryStore):
    """Notes every write; is killed before one of them."""

    def __init__(self, backend: Backend | None = None, killed_before: str = "") -> None:
        super().__init__(backend)
        self.events: list[str] = []
        self._killed_before = killed_before
        self.open_sweep(experiment="corpus", sweep_id="s1", seeds=(0,), params={}, tags={})

    def _note(self, event: str) -> None:
        if event == self._killed_before:
            raise Killed(event)
        self.events.append(event)

    def open_trial(self, spec: TrialSpec, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        self._note("open")
        return super().open_trial(spec, params=params, tags=tags)

    def log_epoch(self, trial_id: str, epoch: int, metrics: TrialMetrics, *, stage: str = "") -> None:
        self._note(f"epoch {epoch}")
        super().log_epoch(trial_id, epoch, metrics, stage=stage)

    def log_text(self, trial_id: str | None, path: str, text: str) -> None:
        self._note(path)
        super().log_text(trial_id, path, text)

    def finish_trial(
        self, trial_id: str, status: TrialStatus, *, metrics: TrialMetrics, reason: str | None = None
    ) -> None:
        self._note(status)
        super().finish_trial(trial_id, status, metrics=metrics, reason=reason)


class Screen:
    """Notes what it is told among the store's writes."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def started(self, spec: TrialSpec) -> None:
        self._events.append("shown: start")

    def epoch(self, spec: TrialSpec, epoch: int, metrics: TrialMetrics, stage: str) -> None:
        self._events.append(f"shown: epoch {epoch}")

    def ended(self, record: TrialRecord) -> None:
        self._events.append("shown: end")


class Counting:
    def suggest(self, index: int, known: object) -> dict[str, float]:
        return {"train.learning_rate": 1e-5 * (1 + index)}


def resolve(spec: TrialSpec) -> Config:
    return build_config(unflatten({**spec.parameters, "method": spec.method, "train.seed": spec.seed}))


def drive(store: Recording) -> Driver:
    """A driver of two trials with a rung at epoch 1, at which one of two goes on; it takes up what the store knows."""
    plan = SweepPlan(sweep_id="s1", budgets={"aa-ig": 2}, seeds=(0,), rungs=(1,), reduction=2)
    return Driver(
        Schedule(plan, {"aa-ig": Counting()}, store.trials(history=True)),
        store,
        Screen(store.events),  # type: ignore[arg-type]
        resolve=resolve,
        folder=lambda trial_id: f"trials/{trial_id}",
        shared="stages",
        tags={},
        concurrency=2,
    )


def suggested(driver: Driver) -> str:
    job = driver.suggest()
    assert isinstance(job, Job)
    return job.trial_id


def epoch(value: float) -> EpochDone:
    return EpochDone(
        epoch=1, metrics=TrialMetrics(dev={m.key: value if m.higher_is_better else 1 - value for m in NRG_METRICS})
    )


def result() -> TrialResult:
    token = HighlightedToken(segment=0, start=0, end=5, score=1.0, selected=True, gold=True)
    shown = HighlightedInput(segments=("great fun",), tokens=(token,))
    instance = HighlightedInstance(id="0", inputs=(shown,), label="positive", predicted="positive", probability=0.9)
    return TrialResult(metrics=METRICS, epoch=1, perturbation="dropped", highlights=(instance,))


def test_a_trial_is_on_record_before_it_is_shown_and_handed_out() -> None:
    store = Recording()
    trial_id = suggested(drive(store))
    assert store.events == ["open", "shown: start"]
    assert [(record.spec.trial_id, record.status) for record in store.trials()] == [(trial_id, "running")]


def test_a_driver_that_was_killed_before_a_trial_was_on_record_has_handed_nothing_out() -> None:
    store = Recording(killed_before="open")
    with pytest.raises(Killed):
        drive(store).suggest()
    assert (store.events, store.trials()) == ([], [])
    assert suggested(drive(Recording(store.runs))) == SPEC.trial_id


def test_of_a_completed_trial_everything_is_written_before_its_status() -> None:
    store = Recording()
    driver = drive(store)
    trial_id = suggested(driver)
    assert driver.take(trial_id, epoch(0.5))
    assert store.events[2:] == ["epoch 1", "shown: epoch 1"]
    driver.take(trial_id, result())
    *artifacts, status, shown = store.events[4:]
    assert sorted(artifacts) == sorted(ARTIFACTS)
    assert (status, shown) == ("completed", "shown: end")


def test_of_a_trial_that_loses_at_a_rung_everything_is_written_before_its_status() -> None:
    store = Recording()
    driver = drive(store)
    better, worse = suggested(driver), suggested(driver)
    assert driver.take(better, epoch(0.5))
    del store.events[:]
    assert not driver.take(worse, epoch(0.4))
    assert store.events[:2] == ["epoch 1", "shown: epoch 1"]
    assert sorted(store.events[2:-2]) == ["config.yaml", "rungs.txt"]
    assert store.events[-2:] == ["stopped", "shown: end"]


@pytest.mark.parametrize(
    "fail",
    [
        lambda driver, trial_id: driver.take(trial_id, TrialFailed(reason="why")),
        lambda driver, trial_id: driver.take(trial_id, epoch(float("nan"))),
        lambda driver, trial_id: driver.take(
            trial_id, replace(result(), metrics=TrialMetrics(dev={"auprc": float("inf")}))
        ),
        lambda driver, trial_id: driver.lost(trial_id, "why"),
        lambda driver, trial_id: driver.over(trial_id),
    ],
    ids=["it raises", "an epoch is not finite", "its result is not finite", "its process is lost", "it just ends"],
)
def test_a_failed_trial_is_recorded_once_and_its_status_last(fail: Callable[[Driver, str], None]) -> None:
    store = Recording()
    driver = drive(store)
    trial_id = suggested(driver)
    fail(driver, trial_id)
    driver.lost(trial_id, "again")
    assert store.events[2:] == ["config.yaml", "failed", "shown: end"]
    (record,) = store.trials()
    assert record.reason
    assert record.reason != "again"


@pytest.mark.parametrize("killed_before", [*sorted(ARTIFACTS), "completed"])
def test_a_trial_whose_driver_was_killed_while_writing_is_running_and_is_taken_up(killed_before: str) -> None:
    store = Recording(killed_before=killed_before)
    driver = drive(store)
    trial_id = suggested(driver)
    driver.take(trial_id, epoch(0.5))
    with pytest.raises(Killed):
        driver.take(trial_id, result())
    (record,) = store.trials()
    assert (record.status, record.metrics) == ("running", TrialMetrics())

    again = Recording(store.runs)
    driver = drive(again)
    assert suggested(driver) == trial_id
    driver.take(trial_id, result())
    (record,) = again.trials()
    assert (record.status, record.metrics) == ("completed", METRICS)
    (run,) = [run for run in again.runs.values() if "parent" in run]
    # Of what was written before the kill, nothing is lost.
    assert {"rationales.html", "config.yaml"} <= set(run["artifacts"])
