"""One stage of a trial: fed with what the stage before it left, trained to early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.schema import Split
from unirex_ray.metrics.instances import InstanceResults
from unirex_ray.metrics.table import COMPREHENSIVENESS, STAGE_LOSS, SUFFICIENCY, TASK_SCORE, TrialMetrics
from unirex_ray.models.rationale_model import RationaleModel, build_stage
from unirex_ray.training.evaluate import Evaluator, SplitResults, make_evaluator, score_split
from unirex_ray.training.learner import Learner, TrainingError
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.setup import TrialSetup
from unirex_ray.training.state import Checkpoint, TrialFiles, TrialState, early_stopping

CHECKPOINT_SECONDS = 60.0
"""A checkpoint is written where none has been for so long, after an epoch or within; a kill costs as much. Writing one
takes a second and more, which short epochs would pay again and again."""
_SAVE_SECONDS = 3.0
"""Where writing one takes longer, as on slow shared storage, they become rarer by as much."""
_FAITHFULNESS = (COMPREHENSIVENESS, SUFFICIENCY)


class StageTrainer:
    """One stage on one worker; made for each stage, so that nothing on it changes its meaning.

    Args:
        state: the stage's progress; updated in place as it trains.
        model: the one that learns.
        teacher_scores: of the earlier stage's extractor, by split [tokens]; empty where the stage reads none.

    Attributes:
        dev_instances: what the last stage's best weights did on dev; None until it has ended.
    """

    def __init__(
        self,
        setup: TrialSetup,
        files: TrialFiles,
        runtime: Runtime,
        state: TrialState,
        model: RationaleModel,
        teacher_scores: Mapping[Split, Tensor],
    ) -> None:
        self.setup, self.files, self.runtime, self.state, self.model = setup, files, runtime, state, model
        self.stage = setup.method.stages[state.stage]
        self.is_last = state.stage == len(setup.method.stages) - 1
        self.data: dict[Split, EncodedSplit] = {
            split: replace(encoded, teacher_scores=teacher_scores.get(split))
            for split, encoded in setup.encoded.splits.items()
        }
        self.teacher_scores = teacher_scores
        self.learner = Learner(setup, self.stage, model, self.data, runtime, state)
        self.dev_instances: InstanceResults | None = None
        # The best weights that this process has seen, and the same until they are in the trial's folder.
        self._best: Mapping[str, Tensor] | None = None
        self._unsaved: Mapping[str, Tensor] | None = None
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    def train(self) -> None:
        """Train to the last epoch or to early stopping, from wherever the state stands; then load the best weights.

        Dev is explained, which costs many times what its task score does, where somebody reads it.

        Raises:
            TrainingError: where a loss or a metric is not finite.
        """
        state = self.state
        self._report_rung()
        while not self.has_ended():
            self.learner.run_epoch(self.save, self._checkpoint_is_due)
            explained = self._is_explained(state.epoch + 1)
            results = self.evaluate("dev", explain=explained)
            dev = results.metrics
            if self.stage.trains_task_model:
                score = dev[TASK_SCORE.key]
            else:
                dev |= self._require_finite("dev", {STAGE_LOSS.key: self.learner.dev_loss()})
                score = -dev[STAGE_LOSS.key]
            if self.is_last and not explained and score == state.best_score:
                dev |= self.evaluate("dev").metrics  # for what hangs on taking the first of the tied epochs
            state.epoch, state.step = state.epoch + 1, 0
            if score > state.best_score:
                state.best_epoch, state.best_score, state.best_metrics = state.epoch, score, dev
                state.tied = [_faithfulness(dev)]
                self.dev_instances = results.instances if explained else None
                self._best = {name: value.to("cpu", copy=True) for name, value in self.model.state_dict().items()}
                self._unsaved = self._best
            elif score == state.best_score:
                state.tied.append(_faithfulness(dev))
            losses, state.losses = state.losses, {}
            metrics = TrialMetrics(train=losses, dev=dev)
            # After a kill in between, an epoch is reported twice rather than never.
            if self._is_judged(state.epoch):
                state.unreported = metrics.flat()
                self.save()  # where a trial that is stopped would go on
                self._report_rung()
                continue
            self._report(metrics)
            if not self.has_ended() and self._checkpoint_is_due():
                self.save()
        self.load_best()
        if self.is_last and self.dev_instances is None:
            self._explain_dev()
            if state.tied:  # checkpoints of 0.1.0 did not count them
                state.tied[0] = _faithfulness(state.best_metrics)

    def adopt(self, weights: Mapping[str, Tensor], epoch: int, tied: int) -> None:
        """Go on as if the stage had been trained here.

        Args:
            weights: the best ones of the trial that trained it.
            epoch: that they are from.
            tied: how many epochs had the best score, 0 where nobody counted; what this extractor would
                have given there is not measured.
        """
        self.model.load_state_dict(weights)
        self.state.best_epoch = self.state.epoch = epoch
        self.state.tied = [[]] * tied
        if self.is_last:
            self._explain_dev()
            self._report(TrialMetrics(dev=self.state.best_metrics))

    def _explain_dev(self) -> None:
        """With the best weights."""
        results = self.evaluate("dev")
        self.state.best_metrics |= results.metrics
        self.dev_instances = results.instances

    def has_ended(self) -> bool:
        """Whether there is no epoch left to train."""
        train = self.setup.config.train
        return early_stopping(self.state, epochs=train.epochs, patience=train.patience)

    def evaluate(
        self, split: Split, evaluator: Evaluator | None = None, *, explain: bool = True, keep_scores: bool = False
    ) -> SplitResults:
        """Results on a split: of the task, and with `explain` all others; see `Evaluator`."""
        started = time.perf_counter()
        results = (evaluator or self.evaluator())(self.data[split], explain=explain, keep_scores=keep_scores)
        self.state.evaluate_s += time.perf_counter() - started
        if split != "test":
            self._require_finite(split, results.metrics)
            return results
        # A test metric that is not finite fails no trial, as test decides nothing. It becomes nan: some stores make a
        # number of inf.
        finite = {key: value if math.isfinite(value) else math.nan for key, value in results.metrics.items()}
        return replace(results, metrics=finite)

    def evaluator(self) -> Evaluator:
        """Evaluates the stage's model."""
        setup = self.setup
        return make_evaluator(self.model, setup.encoded, setup.config, setup.forward_plan, self.runtime)

    def save(self) -> None:
        """Leave a checkpoint from which `stages_from` goes on, with the best weights so far beside it."""
        started = time.monotonic()
        self._save_best()
        self.files.save_last(
            Checkpoint(
                state=self.state,
                model=self.model.state_dict(),
                learner=self.learner.state_dict(),
                teacher_scores=self.teacher_scores,
            )
        )
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def load_best(self) -> None:
        """Go back to the stage's best weights, and leave those of the last stage in the trial's folder."""
        if self._best is None:
            self.files.load_best(self.model, self.state)
            return
        self.model.load_state_dict(self._best)
        if self.is_last:
            self._save_best()
        self._best = None

    def _save_best(self) -> None:
        if self._unsaved is not None:
            self.files.save_best(self._unsaved, self.state)
            self._unsaved = None

    def _checkpoint_is_due(self) -> bool:
        """As the clock of rank 0 says, for all workers."""
        pause = CHECKPOINT_SECONDS * max(1.0, self._save_seconds / _SAVE_SECONDS)
        overdue = self.runtime.rank == 0 and time.monotonic() - self._saved_at >= pause
        due = torch.tensor([float(overdue)], device=self.runtime.device)
        self.runtime.all_reduce(due)
        return bool(due.item())

    def _is_explained(self, epoch: int) -> bool:
        """Whether somebody reads an explanation of dev after this epoch of the last stage: a rung, or the user."""
        every = self.setup.config.train.explain_every
        is_wanted = self.is_last and every is not None and epoch % every == 0
        return is_wanted or self._is_judged(epoch)

    def _is_judged(self, epoch: int) -> bool:
        """Whether this epoch of the last stage is a rung; rungs compare first seeds alone."""
        config = self.setup.config
        return self.is_last and epoch in config.sweep.rungs and config.train.seed == config.sweep.seeds[0]

    def _report_rung(self) -> None:
        """Report the epoch on which a rung's verdict is not known yet, where there is one."""
        if self.state.unreported:
            self._report(TrialMetrics.from_flat(self.state.unreported))
            self.state.unreported = {}

    def _report(self, metrics: TrialMetrics) -> None:
        self.runtime.report(metrics, epoch=self.state.epoch, stage="" if self.is_last else self.stage.name)

    def _require_finite(self, split: Split, metrics: dict[str, float]) -> dict[str, float]:
        epoch = self.state.best_epoch if self.has_ended() else self.state.epoch + 1
        for key, value in metrics.items():
            if not math.isfinite(value):
                raise TrainingError(f"{split}/{key} became {value} after epoch {epoch}")
        return metrics


def _faithfulness(dev: Mapping[str, float]) -> list[float]:
    """Comprehensiveness and sufficiency; empty where dev was not explained."""
    return [dev[metric.key] for metric in _FAITHFULNESS if metric.key in dev]


def stages_from(
    checkpoint: Checkpoint | None, setup: TrialSetup, files: TrialFiles, runtime: Runtime
) -> Iterator[StageTrainer]:
    """A trial's stages in order, from the one that a checkpoint stands in; each begins when the one before ends."""
    if checkpoint is None:
        trainer = StageTrainer(setup, files, runtime, TrialState(), _model(setup, runtime, 0), {})
    else:
        trainer = _resumed(checkpoint, setup, files, runtime)
    yield trainer
    while not trainer.is_last:
        trainer = _next_trainer(trainer)
        # Before this stage's first best checkpoint replaces the weights that it starts from.
        trainer.save()
        yield trainer


def _resumed(checkpoint: Checkpoint, setup: TrialSetup, files: TrialFiles, runtime: Runtime) -> StageTrainer:
    model: RationaleModel | None = None
    for index in range(checkpoint.state.stage + 1):
        model = _model(setup, runtime, index, model)
    assert model is not None
    model.load_state_dict(checkpoint.model)
    trainer = StageTrainer(setup, files, runtime, checkpoint.state, model, checkpoint.teacher_scores)
    trainer.learner.load_state_dict(checkpoint.learner)
    return trainer


def _next_trainer(done: StageTrainer) -> StageTrainer:
    setup, runtime, state = done.setup, done.runtime, done.state.next_stage()
    model = _model(setup, runtime, state.stage, done.model)
    splits: tuple[Split, ...] = ("train", "dev") if model.design.reads_earlier_scores else ()
    started = time.perf_counter()
    teacher_scores = {split: score_split(done.model, done.data[split], setup, runtime) for split in splits}
    state.train_s += time.perf_counter() - started
    return StageTrainer(setup, done.files, runtime, state, model, teacher_scores)


def _model(setup: TrialSetup, runtime: Runtime, index: int, earlier: RationaleModel | None = None) -> RationaleModel:
    """The model of a stage, on top of the one before it."""
    return build_stage(
        setup.config.model,
        setup.method.stages[index].design,
        setup.card.outputs,
        seed=setup.config.train.seed,
        stage_index=index,
        earlier=earlier,
    ).to(runtime.device)
