"""Status is written last: whenever a driver is killed, the store says `running` of exactly what has to run again."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.mlflow_sweep import MlflowSweep
from unirex_ray.tracking.records import TrialSpec, TrialStatus
from unirex_ray.tracking.store import SweepRecord

HALVES = {metric.key: 0.5 for metric in NRG_METRICS}
METRICS = TrialMetrics(dev=HALVES, test=HALVES)


class Killed(BaseException):
    """Nothing catches it."""


class Mortal:
    """An MLflow client whose process is killed when it has written so many times."""

    def __init__(self, client: Any, writes: int) -> None:
        self._client, self._remaining = client, writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._writer(method) if name.startswith(("log_", "set_", "update_", "delete_")) else method

    def _writer(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any, **options: Any) -> Any:
            if not self._remaining:
                raise Killed(method)
            self._remaining -= 1
            return method(*arguments, **options)

        return write


def kill_before_each_write(sweep: MlflowSweep, act: Callable[[], None]) -> Iterator[None]:
    """Kill `act` before its first write, then before its second one, and so on; ends when it comes through."""
    client, writes = sweep._runs.client, 0
    while True:
        sweep._runs.client = Mortal(client, writes)  # type: ignore[assignment]
        try:
            act()
        except Killed:
            yield
        else:
            return
        finally:
            sweep._runs.client = client
        writes += 1


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('order')}/mlflow.db"


@pytest.fixture
def connect(uri: str, request: pytest.FixtureRequest) -> Callable[[], MlflowSweep]:
    """A new process that continues the sweep."""
    return lambda: MlflowStore(uri).open_sweep(
        experiment=request.node.name, sweep_id="s1", seeds=(0,), params={}, tags={}
    )


@pytest.fixture
def seen(uri: str, request: pytest.FixtureRequest) -> Callable[[], SweepRecord]:
    """What another process reads."""
    return lambda: MlflowStore(uri).sweeps(request.node.name)[0]


SPEC = TrialSpec(trial_id="s1-aa-ig-0000-s0", method="aa-ig", configuration=0, seed=0, parameters={})


@pytest.mark.slow
@pytest.mark.parametrize("status", ["completed", "stopped", "failed"])
def test_a_trial_has_ended_only_when_all_else_about_it_is_written(
    connect: Callable[[], MlflowSweep], seen: Callable[[], SweepRecord], status: TrialStatus
) -> None:
    sweep = connect()
    run_id = sweep.open_trial(SPEC, params={}, tags={})
    reason = None if status == "completed" else "why"
    statuses = []
    for _ in kill_before_each_write(
        sweep, lambda: sweep.finish_trial(SPEC.trial_id, status, metrics=METRICS, reason=reason)
    ):
        (record,) = seen().trials
        run = sweep._runs.client.get_run(run_id)
        statuses.append(record.status)
        if record.status == "running":
            assert run.info.status == "RUNNING"  # MLflow's own follows
        else:
            assert run.data.metrics == METRICS.flat()
            assert (record.status, record.reason) == (status, reason)
    assert statuses[:2] == ["running", "running"]  # before the metrics, and before the status


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 1])
def test_a_trial_that_was_killed_before_its_status_is_run_and_finished_again(
    connect: Callable[[], MlflowSweep], seen: Callable[[], SweepRecord], writes: int
) -> None:
    sweep = connect()
    run_id = sweep.open_trial(SPEC, params={}, tags={})
    sweep._runs.client = Mortal(sweep._runs.client, writes)  # type: ignore[assignment]
    with pytest.raises(Killed):
        sweep.finish_trial(SPEC.trial_id, "completed", metrics=replace(METRICS, dev={**HALVES, "auprc": 9.0}))

    again = connect()
    (record,) = again.trials()
    assert (record.status, record.metrics) == ("running", TrialMetrics())
    assert again.open_trial(SPEC, params={}, tags={}) == run_id
    again.finish_trial(SPEC.trial_id, "completed", metrics=METRICS)
    (record,) = seen().trials
    assert (record.status, record.metrics) == ("completed", METRICS)


@pytest.mark.slow
def test_a_sweep_has_ended_only_when_all_else_about_it_is_written(
    connect: Callable[[], MlflowSweep], seen: Callable[[], SweepRecord]
) -> None:
    sweep = connect()
    statuses = []
    for _ in kill_before_each_write(sweep, sweep.finish):
        recorded = seen()
        run = sweep._runs.client.get_run(recorded.run_id)
        statuses.append(recorded.status)
        if recorded.status == "running":
            assert run.info.status == "RUNNING"
    assert statuses[0] == "running"
    connect().finish()
    assert seen().status == "completed"
