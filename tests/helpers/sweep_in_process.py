"""A sweep whose trials run in this process, one after the other, without Ray; and how they may end."""

from collections.abc import Callable
from typing import Any

from helpers.fake_trainer import highlight
from helpers.memory_store import MemoryStore

from unirex_ray.distributed.job import EpochDone, TrialFailed, TrialJob, TrialLost, ended_by
from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.schedule import Signal
from unirex_ray.sweep.space import parse_space
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.state import TrialResult

SPACE = parse_space({"parameters": {"train.learning_rate": {"choice": [1e-5, 2e-5, 3e-5]}}}, "s.yaml")
Fit = Callable[..., None]


def fit(driver: Driver, *_: object, **__: object) -> None:
    """One trial after the other; its metrics follow from its learning rate."""
    while isinstance(job := driver.suggest(), TrialJob):
        for name in ("best.pt", "result.json", INSTANCES):
            CheckpointStore(job.folder).write(name, job.trial_id.encode())
        assert job.shared is not None
        CheckpointStore(job.shared).write("best.pt", b"")
        value = job.config.train.learning_rate * 1e4
        dev = {m.key: value if m.higher_is_better else 1 - value for m in NRG_METRICS}
        metrics = TrialMetrics(dev=dev, test=dev, time={"train_s": 0.0})
        driver.on_message(job.trial_id, EpochDone(epoch=1, metrics=TrialMetrics(dev=dev)))
        result = TrialResult(metrics=metrics, epoch=1, perturbation="dropped", highlights=(highlight(),))
        driver.on_message(job.trial_id, result)
        driver.on_exit(job.trial_id)
    assert job is Signal.DONE


FULL_DISK = ended_by(OSError(28, "No space left on device"))


def losing(lost: set[str], loss: TrialFailed | TrialLost = FULL_DISK) -> Fit:
    """Loses these trials, by the end of their identifiers; the others complete."""

    def fit_others(driver: Driver, *rest: object, **options: object) -> None:
        suggest = driver.suggest

        def next_one() -> TrialJob | Signal:
            while isinstance(job := suggest(), TrialJob) and job.trial_id.endswith(tuple(lost)):
                driver.on_message(job.trial_id, loss)
                driver.on_exit(job.trial_id)
            return job

        driver.suggest = next_one  # type: ignore[method-assign]
        fit(driver)

    return fit_others


def breaking(error: BaseException) -> Fit:
    """Ends in an error when the first trial runs."""

    def fit_one(driver: Driver, *_: object, **__: object) -> None:
        driver.suggest()
        raise error

    return fit_one


def the_sweep(store: MemoryStore) -> dict[str, Any]:
    (run,) = [run for run in store.runs.values() if "experiment" in run]
    return run


def statuses(store: MemoryStore) -> list[str]:
    return [record.status for sweep in store.sweeps("tiny") for record in sweep.trials]
