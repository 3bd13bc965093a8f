"""One trial outside a sweep: in this process, or in a Ray Train worker group."""

from __future__ import annotations

import tempfile
from contextlib import closing

import ray

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.distributed.cluster import check_cluster, connect, node_resources, place
from unirex_ray.distributed.job import EpochDone, Message, TrialFailed, TrialJob, TrialWaits
from unirex_ray.distributed.train_runtime import GroupPlan, WorkerGroup
from unirex_ray.training.learner import TrainingError
from unirex_ray.training.runtime import LocalRuntime, print_epoch
from unirex_ray.training.state import TrialResult
from unirex_ray.training.trial import train_trial


def train_anywhere(config: Config, corpus: Corpus) -> TrialResult:
    """Train a configuration in its output folder; several workers run on the Ray cluster that `connect` finds.

    Raises:
        UserError: if there is no GPU where one is asked for, or the cluster is too small.
        TrainingError: if training fails.
    """
    if config.train.workers == 1:
        return train_trial(config, corpus, LocalRuntime(config.output, gpu=bool(config.train.gpu)))
    check_cluster(config)
    connect()
    worker = place(config, node_resources()).worker
    if worker is None:
        raise AssertionError("several workers are placed as a group")
    job = TrialJob(trial_id="trial", config=config, folder=LocalRuntime(config.output).checkpoints.folder)

    def show(message: Message) -> None:
        if isinstance(message, EpochDone):
            print_epoch(message.metrics, message.epoch, message.stage)
        elif isinstance(message, TrialWaits):
            print(f"waits {message.reason}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        plan = GroupPlan(
            corpus=[ray.put(corpus)],
            train_function=train_trial,
            worker=worker,
            storage=scratch,
            max_failures=config.sweep.max_failures,
        )
        with closing(WorkerGroup(plan)) as group:
            message = group.train(job, on_message=show)
    if isinstance(message, TrialFailed):
        raise TrainingError(message.reason)
    if not isinstance(message, TrialResult):
        raise AssertionError(f"a worker group ended with {message!r}")
    return message
