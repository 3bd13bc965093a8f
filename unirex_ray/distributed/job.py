"""What travels between a sweep's driver and its trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.state import TrialResult

TrainFunction = Callable[[Config, Corpus, Runtime], TrialResult]

MESSAGE = "message"
"""The one key of a trial's reports; the value is no mapping, as Tune would flatten it."""


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """A trial to run.

    Attributes:
        config: the whole configuration, with the trial's method, seed and parameters.
        folder: of the trial's files; the same in every process.
        shared: folder of the stages that trials have in common; None outside a sweep.
    """

    trial_id: str
    config: Config
    folder: str
    shared: str | None = None

    def checkpoints(self) -> CheckpointStore:
        """The files of `folder`."""
        return CheckpointStore(self.folder)


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """A trial's losses and dev metrics after an epoch.

    Attributes:
        stage: name of an earlier stage; empty for the last one.
    """

    epoch: int
    metrics: TrialMetrics
    stage: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialFailed:
    """A trial raised an error, and would again."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class TrialLost:
    """A trial was stopped by something outside it, and may go on from its checkpoint.

    Attributes:
        awaits_others: whether other trials would meet the same, such as a full disk or a missing package.
    """

    reason: str
    awaits_others: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialWaits:
    """A trial's workers have found no place for long."""

    reason: str


Message = EpochDone | TrialWaits | TrialResult | TrialFailed | TrialLost


def ended_by(error: BaseException) -> TrialFailed | TrialLost:
    """What an exception in a trial means: of its surroundings (disk, memory, what is installed there), it is lost."""
    if isinstance(error, OSError | MemoryError | ImportError):
        return TrialLost(reason=reason_of(error), awaits_others=True)
    return TrialFailed(reason=reason_of(error))


def reason_of(error: BaseException) -> str:
    """One line for a run's record: the error's type and message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
