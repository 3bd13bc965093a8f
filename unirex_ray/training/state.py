"""What a kill must not lose: where a trial stands, and the files that say so.

Everything that is known of `last.pt`, `best.pt`, `result.json`, of who writes them and in which order, is here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import yaml
from torch import Tensor

from unirex_ray.config import Config, build_config, refuse_remote_code, to_yaml
from unirex_ray.data.highlight import HighlightedInstance, highlights_from_json
from unirex_ray.data.schema import Split
from unirex_ray.errors import UserError, one_line
from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.metrics.table import TIED_COMP_RANGE, TIED_EPOCHS, TIED_SUFF_RANGE, TrialMetrics
from unirex_ray.models.card import ModelCard, read_card
from unirex_ray.models.rationale_model import RationaleModel, build_model
from unirex_ray.training.checkpoint import BEST, CONFIG, LAST, RESULT, CheckpointStore
from unirex_ray.training.runtime import Runtime

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
        """A completed trial's result; None before that.

        Raises:
            UserError: where the folder holds a trial of another identity.
        """
        data = self._store.read(RESULT)
        if data is None:
            return None
        content = json.loads(data)
        self._check(content["identity"])
        return TrialResult(
            metrics=TrialMetrics.from_flat(content["metrics"]),
            epoch=content["epoch"],
            perturbation=content["perturbation"],
            # Earlier versions did not store them.
            highlights=highlights_from_json(content.get("highlights", ())),
        )

    def last_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint; None where there is none.

        Raises:
            UserError: where the folder holds a trial of another identity.
        """
        stored = self._store.load(LAST)
        if stored is None:
            return None
        self._check(stored["identity"])
        state = TrialState(**stored["progress"])
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

    def save_best(self, weights: Mapping[str, Tensor]) -> None:
        """Put the best weights so far in place."""
        self._save(self._store, BEST, {"model": dict(weights)})

    def load_best(self, model: RationaleModel) -> None:
        """Give a model the weights that `save_best` wrote last.

        Raises:
            UserError: where the file is gone.
        """
        best = self._store.load(BEST)
        if best is None:
            raise UserError(f"{self._store.folder} has no {BEST} any more; choose another --output")
        model.load_state_dict(best["model"])

    def load_shared(self, store: CheckpointStore) -> tuple[Mapping[str, Tensor], int, int] | None:
        """Weights, epoch and number of tied epochs (0: not counted) that another's `save_shared` left, or None."""
        shared = store.load(BEST)
        # Stages of 0.1.0 did not count ties.
        return None if shared is None else (shared["model"], shared["epoch"], shared.get("tied", 0))

    def save_shared(self, store: CheckpointStore, model: RationaleModel, state: TrialState) -> None:
        """Put a stage's best weights, and which epoch of how many tied ones they are from, where other trials look."""
        self._save(store, BEST, {"model": model.state_dict(), "epoch": state.best_epoch, "tied": len(state.tied)})

    def finish(self, result: TrialResult, instances: bytes, config: Config, card: ModelCard) -> None:
        """Leave results by instance, configuration and result beside the best weights; `result` returns it from now on.

        Args:
            instances: see `metrics.instance_file`.
        """
        if self._runtime.rank != 0:
            return
        content = {
            "identity": self._identity,
            "card": asdict(card),
            "metrics": result.metrics.flat(),
            "epoch": result.epoch,
            "perturbation": result.perturbation,
            "highlights": [asdict(highlight) for highlight in result.highlights],
        }
        self._store.write(INSTANCES, instances)
        self._store.write(CONFIG, to_yaml(config).encode())
        self._store.write(RESULT, json.dumps(content).encode())
        self._store.delete(LAST)

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
        # Nobody reads a file before it is whole.
        self._runtime.all_reduce(torch.zeros(1, device=self._runtime.device))


def completed_model(
    store: CheckpointStore, *, trust_remote_code: bool = False
) -> tuple[Config, RationaleModel, ModelCard] | None:
    """A completed trial's configuration, best model and card; None where one of its files is missing.

    Args:
        trust_remote_code: whether an encoder's own Python code may run, where the trial's configuration asks for it.

    Raises:
        UserError: where it asks and may not; for a damaged file.
    """
    weights, card, config = store.load(BEST), completed_card(store), completed_config(store)
    if weights is None or card is None or config is None:
        return None
    if config.model.trust_remote_code and not trust_remote_code:
        raise refuse_remote_code(f"{store.folder}/{CONFIG}")
    model = build_model(config.model, card.designs, card.outputs, seed=card.seed)
    model.load_state_dict(weights["model"])
    return config, model, card


def completed_config(store: CheckpointStore) -> Config | None:
    """A completed trial's configuration; None where it is missing.

    Raises:
        UserError: where it is damaged.
    """
    text = store.read(CONFIG)
    try:
        return None if text is None else build_config(yaml.safe_load(text))
    except (ValueError, AttributeError, yaml.YAMLError) as error:
        raise _damaged(store, CONFIG, error) from None


def completed_card(store: CheckpointStore) -> ModelCard | None:
    """A completed trial's card; None where the trial has no result.

    Raises:
        UserError: where it is damaged.
    """
    result = store.read(RESULT)
    try:
        return None if result is None else read_card(json.loads(result)["card"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(store, RESULT, error) from None


def _damaged(store: CheckpointStore, name: str, error: Exception) -> UserError:
    return UserError(f"{store.folder}/{name} is damaged: {one_line(error)}; train the trial again")


def drop_weights(store: CheckpointStore, *, keep_best: bool) -> None:
    """Delete what nobody trains from any more, and the best weights unless they are wanted; the result stays."""
    store.delete(LAST)
    if not keep_best:
        store.delete(BEST)
