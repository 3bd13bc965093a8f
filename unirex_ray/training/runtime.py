"""What the training loop knows of its surroundings."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from unirex_ray.config import TrainConfig
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.checkpoint import CheckpointStore

_GPU_PASS_COST, _CPU_PASS_COSTS = 2048, {"fp32": 64, "bf16": 256}
"""What one more encoder pass costs, in tokens: on a GPU, and by precision on a CPU, where it was measured."""


class Runtime(Protocol):
    """What one worker may use of the system that it runs on.

    Every worker of a trial makes the same calls in the same order.
    """

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""

    @property
    def world(self) -> int:
        """How many workers share each batch, at least 1."""

    @property
    def device(self) -> torch.device:
        """Where this worker computes."""

    @property
    def checkpoints(self) -> CheckpointStore:
        """Where this trial's checkpoints lie; all workers see the same ones, only rank 0 writes."""

    @property
    def shared(self) -> str | None:
        """Folder of the stages that trials have in common; None where this trial is alone."""

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum `tensor` over all workers, in place."""

    def report(self, metrics: TrialMetrics, *, epoch: int, stage: str = "") -> None:
        """Send an epoch's losses and dev metrics, equal on every worker.

        Args:
            epoch: from 1, within the stage.
            stage: name of a stage that others follow; empty for the last one, whose metrics are the trial's.
        """


def uses_bf16(train: TrainConfig, device: torch.device) -> bool:
    """Whether passes run in bf16 autocast: where asked for, and on a GPU unless told otherwise.

    Jobs and sweeps settle `auto` before, by `prepare.choose_precision`; version 0.1.0 recorded it as it was.
    """
    return train.precision == "bf16" or (train.precision == "auto" and device.type == "cuda")


def forward_plan(train: TrainConfig, device: torch.device, *, drop: bool = True) -> ForwardPlan:
    """How sub-batches are cut on a device."""
    cpu_cost = _CPU_PASS_COSTS["bf16" if uses_bf16(train, device) else "fp32"]
    return ForwardPlan(
        token_budget=train.token_budget,
        pass_cost=_GPU_PASS_COST if device.type == "cuda" else cpu_cost,
        drop=drop,
        activation_checkpointing=train.activation_checkpointing,
    )


class LocalRuntime:
    """A plain process of its own; reports are printed.

    Raises:
        UserError: if there is no GPU where one is asked for.
    """

    rank = 0
    world = 1
    shared = None

    def __init__(self, folder: str | Path, *, gpu: bool = False) -> None:
        if gpu and not torch.cuda.is_available():
            raise UserError("train.gpu = True, but this machine has no GPU that torch can use; set --train.gpu=false")
        self.device = torch.device("cuda" if gpu else "cpu")
        self.checkpoints = CheckpointStore(folder)

    def all_reduce(self, tensor: Tensor) -> None:
        """Nothing to sum: there is one worker."""

    def report(self, metrics: TrialMetrics, *, epoch: int, stage: str = "") -> None:
        """Print one line per epoch."""
        print_epoch(metrics, epoch, stage)


def print_epoch(metrics: TrialMetrics, epoch: int, stage: str = "") -> None:
    """An epoch's metrics in one line."""
    shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.flat().items())
    print(f"{stage} epoch {epoch}  ".lstrip() + shown, flush=True)
