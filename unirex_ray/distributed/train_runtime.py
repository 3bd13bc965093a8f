"""Trials with several workers: a Ray Train worker group inside a Tune actor, which trains one trial after another."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
import torch
import torch.distributed as dist
from ray import train
from ray.exceptions import RayActorError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from unirex_ray.config import TrainConfig
from unirex_ray.distributed.cluster import PATIENCE_SECONDS, place_waited_for
from unirex_ray.distributed.job import (
    EpochDone,
    Message,
    TrainFunction,
    TrialFailed,
    TrialJob,
    TrialLost,
    TrialWaits,
    ended_by,
    reason_of,
)
from unirex_ray.distributed.tune_runtime import send, shared_corpus
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.training.learner import TrainingError

_POLL_SECONDS, _END_SECONDS = 0.2, 20.0
_IDLE_SECONDS = 10.0
"""For which a group without a trial keeps its places."""


@ray.remote(num_cpus=0)
class _Mailbox:
    """Between the process of a trial, which gives jobs and answers, and its workers, which send messages."""

    def __init__(self) -> None:
        self._given: dict[str, list[Any]] = {"job": [], "answer": []}
        self._news = asyncio.Condition()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._has_workers = False

    async def give(self, kind: Literal["job", "answer"], content: Any) -> None:
        """The next job, or None where there are no more; or whether the trial goes on after the next message."""
        async with self._news:
            self._given[kind].append(content)
            self._news.notify_all()

    async def take(self, kind: Literal["job", "answer"], number: int) -> Any:
        """One of what was given, by its number; waits for it."""
        self._has_workers = True
        async with self._news:
            await self._news.wait_for(lambda: number < len(self._given[kind]))
        return self._given[kind][number]

    async def has_workers(self) -> bool:
        """Whether any of them has come."""
        return self._has_workers

    async def say(self, message: Message) -> None:
        """Send a message."""
        await self._messages.put(message)

    async def hear(self) -> Message:
        """Waits for a message."""
        return await self._messages.get()


class _Line:
    """One worker's end of the mailbox: all of a group take the same jobs and say the same; what rank 0 says is sent."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._is_first = train.get_context().get_world_rank() == 0
        self._jobs, self._messages = itertools.count(), itertools.count()

    def job(self) -> TrialJob | None:
        """The next one; None where there are no more."""
        job: TrialJob | None = ray.get(self._mailbox.take.remote("job", next(self._jobs)))
        return job

    def say(self, message: Message) -> bool:
        """Send a message, and wait for the answer: whether the trial goes on.

        No worker waits for another one: an answer that stops a trial may take long, and their sums would time out.
        """
        if self._is_first:
            self._mailbox.say.remote(message)
        goes_on: bool = ray.get(self._mailbox.take.remote("answer", next(self._messages)))
        return goes_on


class _Stopped(Exception):  # noqa: N818 -- nothing is wrong
    """The sweep stopped the trial."""


class TrainRuntime:
    """One worker of a Ray Train group; sums over gloo (CPU) or NCCL (GPU)."""

    def __init__(self, job: TrialJob, line: _Line) -> None:
        self.rank = int(train.get_context().get_world_rank())
        self.world = int(train.get_context().get_world_size())
        self.device: torch.device = get_device()
        self.checkpoints, self.shared = job.checkpoints(), job.shared
        self._line = line

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum `tensor` over all workers, in place."""
        dist.all_reduce(tensor)

    def report(self, metrics: TrialMetrics, *, epoch: int, stage: str = "") -> None:
        """Send an epoch's metrics, of rank 0, to the sweep; does not return if it stops the trial."""
        if not self._line.say(EpochDone(epoch=epoch, metrics=metrics, stage=stage)):
            raise _Stopped


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """What every group of a sweep is made of.

    Attributes:
        corpus: reference to it, in a list so that Ray does not resolve it.
        train_function: trains one trial; must be importable by the workers.
        worker: resources of each worker.
        selector: labels of the nodes that workers may lie on; empty for all.
        storage: folder for Ray Train's own files, which are of no use afterwards.
        max_failures: how often a trial goes on from its checkpoint in a new group after the loss of a worker.
    """

    corpus: list[ray.ObjectRef]
    train_function: TrainFunction
    worker: Mapping[str, float]
    storage: str
    max_failures: int
    selector: Mapping[str, str] = field(default_factory=dict)


def run_on_workers(config: dict[str, Any], *, plan: GroupPlan) -> None:
    """A Tune trial function: train `config["job"]` in this process' worker group, and forward its reports."""
    job: TrialJob = config["job"]
    if not _group_of_process:
        _group_of_process.append(WorkerGroup(plan))
    send(_group_of_process[0].train(job, on_message=send))


def close_group() -> None:
    """Let the workers of this process go before it ends itself: Ray would keep their places on the cluster."""
    while _group_of_process:
        _group_of_process.pop().close()


class WorkerGroup:
    """A Ray Train worker group that stays for a while when its trial has ended, and takes the next one.

    To start one takes many seconds: each worker is a process that imports everything anew. But on a cluster that has
    shrunk, another trial may wait for the places of one that is idle.
    """

    def __init__(self, plan: GroupPlan) -> None:
        self._plan = plan
        self._busy = threading.Lock()
        self._idle: threading.Timer | None = None
        self._mailbox: Any = None
        self._fitting: Future[Any] | None = None
        self._workers = 0
        self._says_at = math.inf

    def train(self, job: TrialJob, *, on_message: Callable[[Message], None]) -> Message:
        """Train a job with as many workers as it asks for, the same for all jobs of a group.

        Args:
            on_message: called with each epoch of rank 0, in this thread; what it raises stops the trial.

        Returns:
            The trial's result, or why it failed or was lost.
        """
        if self._idle is not None:
            self._idle.cancel()
        with self._busy:
            try:
                return self._train_again(job, on_message)
            finally:
                self._idle = threading.Timer(_IDLE_SECONDS, self._close_if_idle)
                self._idle.daemon = True
                self._idle.start()

    def _train_again(self, job: TrialJob, on_message: Callable[[Message], None]) -> Message:
        for tries_left in range(self._plan.max_failures, -1, -1):
            try:
                return self._train(job, on_message)
            except train.TrainingFailedError as error:
                self.close()
                if not (tries_left and _is_loss(error)):
                    return _ended_by(error)
        raise AssertionError("the last try returns")

    def _close_if_idle(self) -> None:
        if self._busy.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._busy.release()

    def close(self) -> None:
        """Let the workers go, and wait for their end; another job starts new ones."""
        if self._mailbox is not None and self._fitting is not None:
            self._mailbox.give.remote("job", None)
            with suppress(TimeoutError):
                self._fitting.exception(timeout=_END_SECONDS)
        self._mailbox = self._fitting = None

    def _train(self, job: TrialJob, on_message: Callable[[Message], None]) -> Message:
        if self._fitting is not None and self._fitting.done():
            self.close()  # lost between two trials
        if self._mailbox is None:
            self._start(job.config.train)
        self._mailbox.give.remote("job", job)
        while True:
            message = self._hear(on_message)
            goes_on = False
            try:
                if not isinstance(message, EpochDone):
                    return message
                on_message(message)
                goes_on = True
            finally:
                self._mailbox.give.remote("answer", goes_on)

    def _hear(self, on_message: Callable[[Message], None]) -> Message:
        """The next message of the workers.

        Raises:
            TrainingFailedError: where they are lost.
        """
        heard = self._mailbox.hear.remote()
        assert self._fitting is not None
        while not ray.wait([heard], timeout=_POLL_SECONDS)[0]:
            if self._fitting.done():
                self._fitting.result()
                raise train.TrainingFailedError("its workers have ended")
            if time.monotonic() >= self._says_at:
                self._says_at = math.inf
                self._say_what_it_waits_for(on_message)
        try:
            message: Message = ray.get(heard)
        except RayActorError as error:
            raise train.TrainingFailedError("its mailbox was lost") from error
        return message

    def _say_what_it_waits_for(self, on_message: Callable[[Message], None]) -> None:
        try:
            has_workers = ray.get(self._mailbox.has_workers.remote())
        except RayActorError:
            return  # what hears of the mailbox says so
        if has_workers:
            return
        places = f"{self._workers} places" + (" beside the head" if self._plan.selector else "")
        try:
            on_message(TrialWaits(reason=place_waited_for(places, self._plan.worker)))
        except BaseException:
            self.close()  # the workers that may come must not take this trial
            raise

    def _start(self, settings: TrainConfig) -> None:
        os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(_POLL_SECONDS)  # how soon a loss is noticed
        # On this process' own node: the loss of another one must cost no more than the workers there.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = _Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        plan, self._workers = self._plan, settings.workers
        group = TorchTrainer(
            _serve,
            train_loop_config={"mailbox": self._mailbox, "corpus": plan.corpus, "train_function": plan.train_function},
            torch_config=TorchConfig(backend="nccl" if settings.gpu else "gloo"),
            scaling_config=train.ScalingConfig(
                num_workers=settings.workers,
                use_gpu=bool(settings.gpu),
                resources_per_worker=dict(plan.worker),
                label_selector=dict(plan.selector) or None,
            ),
            run_config=train.RunConfig(name=f"group-{uuid.uuid4().hex[:12]}", storage_path=plan.storage),
        )
        self._fitting, self._says_at = run_in_thread(group.fit), time.monotonic() + PATIENCE_SECONDS


_group_of_process: list[WorkerGroup] = []
"""At most one."""


def _is_loss(error: train.TrainingFailedError) -> bool:
    """Whether another try may succeed: Ray Train itself has retried nothing."""
    return not isinstance(error, train.ControllerError) or isinstance(error.controller_failure, RayActorError)


def _cause(error: train.TrainingFailedError) -> BaseException:
    if isinstance(error, train.ControllerError):
        failure: BaseException = error.controller_failure
        return failure
    failures = list(error.worker_failures.values()) if isinstance(error, train.WorkerGroupError) else [error]
    # Where one worker is lost, the others fail as well, in the middle of a sum.
    outside = [failure for failure in failures if _is_rays(failure) or isinstance(ended_by(failure), TrialLost)]
    cause: BaseException = (outside or failures)[0]
    return cause


def _ended_by(error: train.TrainingFailedError) -> TrialFailed | TrialLost:
    """What an error of a group means."""
    cause = _cause(error)
    return TrialLost(reason=reason_of(cause)) if _is_rays(cause) else ended_by(cause)


def _is_rays(error: BaseException) -> bool:
    """Whether it is an error of Ray's own, which tells of a lost process or node."""
    return type(error).__module__.partition(".")[0] == "ray"


def run_in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Run in another thread, as only the trial's own thread may report to Tune.

    It is a daemon: when the sweep lets this process go, its workers end with it.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _serve(loop: dict[str, Any]) -> None:
    """A worker: trains one job after another, the same ones as the others of its group."""
    line, corpus = _Line(loop["mailbox"]), loop["corpus"]
    train_function: TrainFunction = loop["train_function"]
    while (job := line.job()) is not None:
        torch.set_num_threads(job.config.train.threads or 1)
        try:
            message: Message = train_function(job.config, shared_corpus(corpus[0]), TrainRuntime(job, line))
        except _Stopped:
            continue
        except TrainingError as error:
            # Every worker raises it in the same step, and would again.
            message = TrialFailed(reason=reason_of(error))
        line.say(message)
