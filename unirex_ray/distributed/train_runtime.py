"""Trials with several workers: a Ray Train worker group inside a Tune trial."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray import train
from ray.exceptions import RayActorError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Empty, Queue
from torch import Tensor

from unirex_ray.distributed.job import MESSAGE, EpochDone, Message, TrainFunction, TrialFailed, TrialJob, reason_of
from unirex_ray.distributed.tune_runtime import send, shared_corpus
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.training.learner import TrainingError

_POLL_SECONDS = 0.2


class TrainRuntime:
    """One worker of a Ray Train group; sums over gloo (CPU) or NCCL (GPU)."""

    def __init__(self, job: TrialJob) -> None:
        self.rank = int(train.get_context().get_world_rank())
        self.world = int(train.get_context().get_world_size())
        self.device: torch.device = get_device()
        self.checkpoints, self.shared = job.checkpoints(), job.shared

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum `tensor` over all workers, in place."""
        dist.all_reduce(tensor)

    def report(self, metrics: TrialMetrics, *, epoch: int, stage: str = "") -> None:
        """Report an epoch's metrics; those of rank 0 count."""
        train.report({MESSAGE: EpochDone(epoch=epoch, metrics=metrics, stage=stage)})


class _Forward(train.UserCallback):  # type: ignore[misc]
    """Forwards the reports of rank 0 from Ray Train's controller, which is another process."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self._queue.put(metrics[0][MESSAGE])


def run_on_workers(
    config: dict[str, Any],
    *,
    corpus: list[ray.ObjectRef],
    train_function: TrainFunction,
    worker: Mapping[str, float],
    storage: str,
    max_failures: int,
) -> None:
    """A Tune trial function: train `config["job"]` in a worker group, and forward its reports."""
    job: TrialJob = config["job"]
    send(
        fit_group(
            job, corpus, train_function, worker=worker, storage=storage, max_failures=max_failures, on_message=send
        )
    )


def fit_group(
    job: TrialJob,
    corpus: list[ray.ObjectRef],
    train_function: TrainFunction,
    *,
    worker: Mapping[str, float],
    storage: str,
    max_failures: int,
    on_message: Callable[[Message], None],
) -> Message:
    """Train a job in a Ray Train worker group.

    Args:
        worker: resources of each worker.
        storage: folder for Ray Train's own files, which are of no use after the trial.
        max_failures: restarts of the group after the loss of a worker; it continues from the trial's checkpoint.
        on_message: called with each report of rank 0, in this thread.

    Returns:
        The trial's result, or why it failed.
    """
    # Every report waits until the controller polls its workers.
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(_POLL_SECONDS)
    queue = Queue(actor_options={"num_cpus": 0})
    group = TorchTrainer(
        _work,
        train_loop_config={"job": job, "corpus": corpus, "train_function": train_function},
        torch_config=TorchConfig(backend="nccl" if job.config.train.gpu else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=job.config.train.workers, use_gpu=job.config.train.gpu, resources_per_worker=dict(worker)
        ),
        run_config=train.RunConfig(
            name=f"train-{job.trial_id}",
            storage_path=storage,
            callbacks=[_Forward(queue)],
            failure_config=train.FailureConfig(max_failures=max_failures),
        ),
    )
    fitting = run_in_thread(lambda: _fit(group, max_failures))
    while not fitting.done() or not queue.empty():
        try:
            on_message(queue.get(timeout=_POLL_SECONDS))
        except Empty:
            continue
    queue.shutdown()
    try:
        message: Message = fitting.result().return_value
    except train.WorkerGroupError as error:
        worker_error = next(iter(error.worker_failures.values()), error)
        message = TrialFailed(reason=reason_of(worker_error))
    except train.TrainingFailedError as error:
        message = TrialFailed(reason=reason_of(error))
    return message


def _fit(group: TorchTrainer, max_failures: int) -> Any:
    """Ray Train restarts a group that has lost a worker, but gives up where that happens while the group starts."""
    for tries_left in range(max_failures, -1, -1):
        try:
            return group.fit()
        except train.ControllerError as error:
            if not tries_left or not isinstance(error.controller_failure, RayActorError):
                raise
    raise AssertionError("the last try returns or raises")


def run_in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Run in another thread, as only the trial's own thread may report to Tune.

    It is a daemon: when the sweep stops the trial, this process ends, and its workers with it.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _work(loop: dict[str, Any]) -> Message:
    job: TrialJob = loop["job"]
    torch.set_num_threads(job.config.train.threads or 1)
    train_function: TrainFunction = loop["train_function"]
    try:
        return train_function(job.config, shared_corpus(loop["corpus"][0]), TrainRuntime(job))
    except TrainingError as error:
        # Every worker raises it in the same step, and would again.
        return TrialFailed(reason=reason_of(error))
