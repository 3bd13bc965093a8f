"""Trials in this process, recorded, and killed where a test wants it; and what of two trials has to agree."""

from pathlib import Path

import torch

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.training.checkpoint import BEST, CheckpointStore
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.state import TrialResult
from unirex_ray.training.trial import train_trial


class Killed(BaseException):
    """Nothing may catch it."""


class Recorder(LocalRuntime):
    """Keeps what is reported and written; may end right after the n-th write."""

    def __init__(self, folder: Path, *, kill_at: int | None = None) -> None:
        super().__init__(folder)
        self.reports: list[tuple[int, dict[str, float]]] = []
        self.written: list[str] = []
        self._kill_at = kill_at
        self.checkpoints.write = self._recorded(self.checkpoints.write)
        self.checkpoints.save = self._recorded(self.checkpoints.save)

    def _recorded(self, put):
        def call(name, content):
            put(name, content)
            self.written.append(name)
            if len(self.written) == self._kill_at:
                raise Killed

        return call

    def report(self, metrics, *, epoch, stage=""):
        self.reports.append((epoch, metrics.flat()))


def run(config: Config, corpus: Corpus, runtime: LocalRuntime) -> TrialResult:
    # What came before in the process must not matter.
    torch.manual_seed(int(torch.randint(0, 1000, ()).item()) + 17)
    return train_trial(config, corpus, runtime)


def lasting(metrics) -> dict[str, float]:
    return {key: value for key, value in metrics.flat().items() if not key.startswith("time/")}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The best ones of a trial, also while it runs."""
    store = CheckpointStore(folder)
    running = [name for name in store.names() if name.startswith("best-")]
    state = store.load(running[-1] if running else BEST)
    assert state is not None
    return state["model"]


def assert_equal_weights(one, other) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
