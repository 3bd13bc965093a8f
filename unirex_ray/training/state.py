"""What a kill must not lose: where a trial stands, and the files that say so.

Who writes `last.pt`, the best weights and `result.json`, and in which order, is here; `completed` reads what is left.
`last.pt` names the best weights that it belongs to by their epoch, and these stay until the next one names others: a
kill between the two files leaves a pair. `result.json` is written last, with checksums of what lies beside it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from unirex_ray.config import Config, to_yaml
from unirex_ray.data.highlight import HighlightedInstance, highlights_from_json, highlights_to_json
from unirex_ray.data.schema import Split
from unirex_ray.errors import DamagedFileError, UserError
from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.metrics.table import TIED_COMP_RANGE, TIED_EPOCHS, TIED_SUFF_RANGE, TrialMetrics
from unirex_ray.models.card import ModelCard
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.training.checkpoint import BEST, CONFIG, LAST, CheckpointStore
from unirex_ray.training.completed import read_result, write_result
from unirex_ray.training.runtime import Runtime

_LOG = logging.getLogger(__name__)

_TEACHER_SCORES = "handed_on"
"""The name in `last.pt`, which checkpoints of earlier versions have as well."""


@dataclass
class TrialState:
    """Where a trial stands; everything that a checkpoint needs beside weights and optimizer.

    Dropout needs no entry: its random state is drawn for every step from seed, stage, epoch, step and rank.

    Attributes:
        stage: number of the stage that is trained, from 0.
        epoch: epochs of the stage that have ended.
        step: steps of the current epoch that have ended.
        losses: sums of the current epoch's mean losses so far, by key as in `metrics.table.TRAINING_LOSSES`.
        best_epoch: the stage's first epoch with the best score, from 1; 0 before one has ended.
        best_score: higher is better.
        best_metrics: on dev, of the best epoch, by metric key.
        unreported: losses and dev metrics of the epoch that has ended, where a rung's verdict on it is not known yet.
        tied: comprehensiveness and sufficiency of every epoch with the best score, where they were measured.
        train_s, evaluate_s, wait_s: seconds of all stages.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = -math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    unreported: dict[str, float] = field(default_factory=dict)
    tied: list[list[float]] = field(default_factory=list)
    train_s: float = 0.0
    evaluate_s: float = 0.0
    wait_s: float = 0.0

    def next_stage(self) -> TrialState:
        """The state in which the following stage begins; seconds add up over stages."""
        return TrialState(stage=self.stage + 1, train_s=self.train_s, evaluate_s=self.evaluate_s, wait_s=self.wait_s)


def tied_epochs(tied: Sequence[Sequence[float]]) -> dict[str, float]:
    """How many epochs share the best score, and how far apart they are, by metric key (see `TrialState.tied`)."""
    ranges = [max(values) - min(values) for values in zip(*tied, strict=True)]
    named = dict(zip((TIED_COMP_RANGE.key, TIED_SUFF_RANGE.key), ranges, strict=False))
    return {TIED_EPOCHS.key: float(len(tied)), **named} if tied else {}


def early_stopping(state: TrialState, *, epochs: int, patience: int) -> bool:
    """Whether a stage has trained its last epoch: all of them, or `patience` ones without a better score."""
    return state.epoch >= epochs or state.epoch - state.best_epoch >= patience


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A completed trial.

    Attributes:
        metrics: of the best checkpoint, on dev and test, and the seconds that the trial took.
        epoch: the best checkpoint's, from 1.
        perturbation: how losses hid tokens: `dropped` or `masked`.
        highlights: some test instances with their rationales.
    """

    metrics: TrialMetrics
    epoch: int
    perturbation: str
    highlights: tuple[HighlightedInstance, ...]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What `TrialFiles.save_last` wrote.

    Attributes:
        model: state of the stage's model.
        learner: state of its optimizer and schedule.
        teacher_scores: of the earlier stage, by split [tokens]; empty where the stage reads none.
    """

    state: TrialState
    model: Mapping[str, Tensor]
    learner: Mapping[str, Any]
    teacher_scores: Mapping[Split, Tensor]


class TrialFiles:
    """A trial's folder. Every worker makes the same calls; rank 0 writes, and nobody reads a checkpoint before it has.

    Args:
        identity: of the configuration and the data, see `setup.trial_identity`.
    """

    def __init__(self, runtime: Runtime, identity: str) -> None:
        self._runtime, self._store, self._identity = runtime, runtime.checkpoints, identity

    def result(self) -> TrialResult | None:
        """A completed trial's result; None before that, and where it is damaged.

        Raises:
            UserError: where the folder holds a trial of another identity.
        """
        try:
            content = read_result(self._store)
        except DamagedFileError as error:
            self._say_it_begins_anew(error)
            return None
        if content is None:
            return None
        self._check(content["identity"])
        return TrialResult(
            metrics=TrialMetrics.from_flat(content["metrics"]),
            epoch=content["epoch"],
            perturbation=content["perturbation"],
            # Earlier versions did not store them.
            highlights=highlights_from_json(content.get("highlights", ())),
        )

    def last_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint; None where there is none, and where it or its best weights are damaged.

        Raises:
            UserError: where the folder holds a trial of another identity.
        """
        try:
            stored = self._store.load(LAST)
            if stored is None:
                return None
            self._check(stored["identity"])
            state = TrialState(**stored["progress"])
            if state.best_epoch:
                self._best(state)
        except DamagedFileError as error:
            self._say_it_begins_anew(error)
            return None
        return Checkpoint(
            state=replace(
                state,
                losses=dict(TrialMetrics.from_flat(state.losses).train),
                best_metrics=dict(TrialMetrics.from_flat(state.best_metrics).dev),
            ),
            model=stored["model"],
            learner={key: stored[key] for key in ("optimizer", "schedule")},
            teacher_scores=stored[_TEACHER_SCORES],
        )

    def _say_it_begins_anew(self, error: DamagedFileError) -> None:
        _LOG.warning("begins anew: %s", error)

    def save_last(self, checkpoint: Checkpoint) -> None:
        """Put the state in place from which a killed trial goes on."""
        state = checkpoint.state
        flat = replace(
            state,
            losses=TrialMetrics(train=state.losses).flat(),
            best_metrics=TrialMetrics(dev=state.best_metrics).flat(),
        )
        self._save(
            self._store,
            LAST,
            {
                "identity": self._identity,
                "progress": asdict(flat),
                "model": checkpoint.model,
                _TEACHER_SCORES: dict(checkpoint.teacher_scores),
                **checkpoint.learner,
            },
        )
        self._delete_best_but(_best_name(state))

    def save_best(self, weights: Mapping[str, Tensor], state: TrialState) -> None:
        """Put the best weights so far in place, beside those that the last checkpoint names."""
        self._save(self._store, _best_name(state), {"model": dict(weights), **self._mark(state)})

    def _mark(self, state: TrialState) -> dict[str, Any]:
        return {"identity": self._identity, "stage": state.stage, "epoch": state.best_epoch}

    def load_best(self, model: RationaleModel, state: TrialState) -> None:
        """Give a model the best weights of a state's stage.

        Raises:
            DamagedFileError: where they are gone or damaged.
        """
        model.load_state_dict(self._best(state))

    def _best(self, state: TrialState) -> Mapping[str, Tensor]:
        # Versions until 0.1.0 had one name for the best weights of any epoch, and no mark in them.
        best = self._store.load(_best_name(state)) or self._store.load(BEST)
        if best is None:
            raise DamagedFileError(f"{self._store.folder} has no {_best_name(state)} any more")
        mark = self._mark(state)
        if {**mark, **{key: value for key, value in best.items() if key in mark}} != mark:
            raise DamagedFileError(
                f"the best weights in {self._store.folder} are not those of epoch {state.best_epoch}"
            )
        weights: Mapping[str, Tensor] = best["model"]
        return weights

    def _delete_best_but(self, kept: str) -> None:
        if self._runtime.rank == 0:
            for name in self._store.names():
                if name.startswith(_BEST_OF) and name != kept:
                    self._store.delete(name)

    def take_shared(self, store: CheckpointStore) -> tuple[Mapping[str, Tensor], int, int] | None:
        """Weights, epoch and number of tied epochs (0: not counted) that another's `share` left.

        None where there are none, or they are damaged. They are read from this trial's own folder, so that they are the
        same for all workers, and for `keep_shared`, whatever others write.
        """
        if self._runtime.rank == 0:
            with suppress(FileNotFoundError):
                self._store.link(_SHARED, store, BEST)
        self._wait_for_first()
        try:
            shared = self._store.load(_SHARED)
        except DamagedFileError as error:
            self._say_it_begins_anew(error)
            return None
        # Stages of 0.1.0 did not count ties.
        return None if shared is None else (shared["model"], shared["epoch"], shared.get("tied", 0))

    def keep_shared(self, state: TrialState) -> None:
        """Make what `take_shared` took the best weights of a state."""
        if self._runtime.rank == 0:
            self._store.move(_SHARED, _best_name(state))
        self._wait_for_first()

    def share(self, store: CheckpointStore, model: RationaleModel, state: TrialState) -> None:
        """Put a stage's best weights, and which epoch of how many tied ones they are from, where other trials look.

        They are this trial's best weights as well, and lie on the disk once.
        """
        content = {"model": model.state_dict(), "epoch": state.best_epoch, "tied": len(state.tied)}
        self._save(self._store, _best_name(state), content)
        if self._runtime.rank == 0:
            store.link(BEST, self._store, _best_name(state))

    def finish(self, result: TrialResult, instances: bytes, state: TrialState, config: Config, card: ModelCard) -> None:
        """Leave results by instance, configuration and result beside the best weights; `result` returns it from now on.

        Args:
            instances: see `metrics.instance_file`.
            state: of the last stage.
        """
        if self._runtime.rank != 0:
            return
        written = to_yaml(config).encode()
        self._store.write(INSTANCES, instances)  # with checksums of its own
        self._store.write(CONFIG, written)
        if _best_name(state) in self._store.names():
            self._store.move(_best_name(state), BEST)
        content = {
            "identity": self._identity,
            "card": asdict(card),
            "metrics": result.metrics.flat(),
            "epoch": result.epoch,
            "perturbation": result.perturbation,
            "highlights": highlights_to_json(result.highlights),
        }
        write_result(self._store, content, {CONFIG: written, BEST: self._store.read(BEST) or b""})
        self._store.delete(LAST)
        self._delete_best_but(BEST)

    def _check(self, identity: str) -> None:
        if identity != self._identity:
            raise UserError(
                f"{self._store.folder} holds a trial of another configuration or other data "
                f"({identity}, but this one is {self._identity}; train.precision=auto may stand for another one here); "
                "choose another --output"
            )

    def _save(self, store: CheckpointStore, name: str, content: dict[str, Any]) -> None:
        if self._runtime.rank == 0:
            store.save(name, content)
        self._wait_for_first()

    def _wait_for_first(self) -> None:
        """Nobody reads a file before rank 0 has written it as a whole."""
        self._runtime.all_reduce(torch.zeros(1, device=self._runtime.device))


_BEST_OF = "best-"
_SHARED = f"{_BEST_OF}shared.pt"


def _best_name(state: TrialState) -> str:
    """The file of the best weights of a stage, while the trial runs."""
    return f"{_BEST_OF}{state.stage}-{state.best_epoch}.pt"


def drop_weights(store: CheckpointStore, *, keep_best: bool) -> None:
    """Delete what nobody trains from any more, and the best weights unless they are wanted; the result stays."""
    for name in store.names():
        if name.startswith((LAST, _BEST_OF, f"{BEST}.")) or (name == BEST and not keep_best):
            store.delete(name)
