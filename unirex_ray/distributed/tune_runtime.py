"""Trials with one worker: they train in a Tune actor, which is reused, so that imports and caches are warm."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ray
import torch
from ray import tune
from torch import Tensor

from unirex_ray.data.schema import Corpus
from unirex_ray.distributed.job import MESSAGE, EpochDone, Message, TrainFunction, TrialJob, ended_by
from unirex_ray.metrics.table import TrialMetrics


class TuneRuntime:
    """A Tune actor that is the only worker of its trial."""

    rank = 0
    world = 1

    def __init__(self, job: TrialJob) -> None:
        self.device = torch.device("cuda" if job.config.train.gpu else "cpu")
        self.checkpoints, self.shared = job.checkpoints(), job.shared

    def all_reduce(self, tensor: Tensor) -> None:
        """Nothing to sum: there is one worker."""

    def report(self, metrics: TrialMetrics, *, epoch: int, stage: str = "") -> None:
        """Send an epoch's metrics to the sweep; does not return if it stops the trial."""
        send(EpochDone(epoch=epoch, metrics=metrics, stage=stage))


def run_in_actor(config: dict[str, Any], *, corpus: list[ray.ObjectRef], train_function: TrainFunction) -> None:
    """A Tune trial function: train `config["job"]` in this process."""
    job: TrialJob = config["job"]
    torch.set_num_threads(job.config.train.threads or 1)
    try:
        message: Message = train_function(job.config, shared_corpus(corpus[0]), TuneRuntime(job))
    except Exception as error:
        message = ended_by(error)
    send(message)


def send(message: Message) -> None:
    """Report to the driver of the sweep."""
    tune.report({MESSAGE: message})


@lru_cache(maxsize=1)
def shared_corpus(corpus: ray.ObjectRef) -> Corpus:
    """The sweep's corpus, unpickled once per process."""
    value: Corpus = ray.get(corpus)
    return value
