"""One trial: one configuration, one seed, from data to test metrics."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unirex_ray.config import Config, config_hash, to_yaml
from unirex_ray.data.batching import SpecialTokens, collate, sorted_chunks
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.highlight import HighlightedInstance
from unirex_ray.data.schema import Corpus, Split
from unirex_ray.errors import UserError
from unirex_ray.methods import Stage, get_method
from unirex_ray.metrics.table import TASK_SCORE
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel, build_stage, dropping_error
from unirex_ray.models.store import ModelCard
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.checkpoint import BEST, CONFIG, LAST, RESULT, CheckpointStore
from unirex_ray.training.evaluate import CHUNK, HIGHLIGHTS, Evaluator
from unirex_ray.training.learner import Learner, Progress, TrainingError
from unirex_ray.training.memory import disable_malloc_trim, trim_malloc
from unirex_ray.training.prepare import check_method, encoded_corpus
from unirex_ray.training.runtime import Runtime, uses_bf16
from unirex_ray.training.shared import stage_lock

DROPPING_TOLERANCE = 1e-4
CPU_PASS_COST, GPU_PASS_COST = 64, 2048

_DROPPING_ERRORS: dict[tuple[object, ...], float] = {}
"""By encoder and length: whether dropping is exact depends on the architecture, so a process asks once."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A completed trial.

    Attributes:
        metrics: of the best checkpoint, by logged key: `dev/...`, `test/...`, and seconds as `time/train_s`,
            `time/evaluate_s`, `time/wait_s` (for a stage that another trial trained), `time/total_s`, and
            `time/extraction_s`, per test instance.
        epoch: the best checkpoint's, from 1.
        perturbation: how losses hid tokens: dropped or masked.
        highlights: some test instances with their rationales.
    """

    metrics: Mapping[str, float]
    epoch: int
    perturbation: str
    highlights: tuple[HighlightedInstance, ...]


def train_trial(config: Config, corpus: Corpus, runtime: Runtime) -> TrialResult:
    """Train, keep the best checkpoint by dev task score, evaluate test once with it.

    Goes on from `runtime.checkpoints` where a checkpoint of the same configuration lies there; a completed trial is
    read back, not run again. Reports dev metrics after every epoch.

    Raises:
        TrainingError: where a loss or a metric is not finite; names it, the epoch and the step.
        UserError: where the checkpoint belongs to another configuration.
    """
    try:
        return _train(config, corpus, runtime)
    finally:
        trim_malloc()


def _train(config: Config, corpus: Corpus, runtime: Runtime) -> TrialResult:
    trainer = Trainer(config, corpus, runtime)
    done = runtime.checkpoints.read(RESULT)
    if done is not None:
        stored = json.loads(done)
        trainer.check_identity(stored.pop("identity"))
        del stored["card"]
        trainer.read_back()
        return TrialResult(**stored, highlights=trainer.highlights())
    trainer.restore()
    while trainer.progress.stage < len(trainer.method.stages):
        trainer.run_stage()
    return trainer.finish()


class Trainer:
    """A trial's state on one worker: data, the model of the stage that is trained, progress."""

    model: RationaleModel
    learner: Learner

    def __init__(self, config: Config, corpus: Corpus, runtime: Runtime) -> None:
        self.started = time.perf_counter()
        self.method = get_method(config.method)
        self.config, self.corpus, self.runtime = self.method.resolve(config), corpus, runtime
        check_method(config, corpus)
        self.identity = f"{config_hash(self.config, self.method.reads)}-{corpus.digest()}"
        self.progress = Progress()
        if config.train.threads is not None:
            torch.set_num_threads(config.train.threads)
        disable_malloc_trim()
        self.gpu = runtime.device.type == "cuda"
        self.bf16 = uses_bf16(config.train, runtime.device)
        self._build_stage()
        encoded = encoded_corpus(config, corpus, self.model.task_model.encoder, load_tokenizer(config.model))
        self.data = dict(encoded.splits)
        self.tokens = SpecialTokens(pad_id=encoded.pad_id, sep_id=encoded.sep_id)
        self.card = ModelCard(
            method=config.method,
            designs=tuple(stage.design for stage in self.method.stages),
            labels=corpus.labels,
            task_metric=corpus.task_metric,
            multi_choice=corpus.multi_choice,
            max_length=encoded.max_length,
            truncation=corpus.truncation,
            seed=self.config.train.seed,
        )
        self.plan = ForwardPlan(
            token_budget=config.train.token_budget,
            pass_cost=GPU_PASS_COST if self.gpu else CPU_PASS_COST,
            drop=self._drops(),
            stream=config.train.stream,
        )

    @property
    def stage(self) -> Stage:
        """The one that is trained, or the last one when all are."""
        return self.method.stages[min(self.progress.stage, len(self.method.stages) - 1)]

    @property
    def is_last(self) -> bool:
        """Whether the stage's model is the method's."""
        return self.progress.stage >= len(self.method.stages) - 1

    @property
    def evaluator(self) -> Evaluator:
        """Evaluates the stage's model."""
        corpus, config = self.corpus, self.config
        return Evaluator(
            model=self.model,
            tokens=self.tokens,
            classes=self.data["train"].choices if corpus.multi_choice else len(corpus.labels),
            task_metric=corpus.task_metric,
            plan=self.plan,
            runtime=self.runtime,
            bf16=self.bf16,
            convergence_delta=config.model.convergence_delta
            and self.stage.design.extractor == "aa-ig"
            and config.model.pooling == "sum",
        )

    def run_stage(self) -> None:
        """Train one stage to its last epoch or to early stopping, from wherever its progress stands.

        A stage that other trials have in common is trained by one of them, and taken over by the others.
        """
        # Rungs compare trials epoch by epoch, so that each has to train a stage that they judge.
        judged = self.is_last and self.config.sweep.rungs
        if self.stage.shared and self.runtime.shared is not None and not judged:
            clock = time.perf_counter()
            with stage_lock(self.runtime, self.runtime.shared, self._stage_identity()) as store:
                self.progress.wait_s += time.perf_counter() - clock
                found = store.load(BEST)
                if found is None:
                    self._train_stage()
                    self._save(BEST, {"model": self.model.state_dict(), "epoch": self.progress.best_epoch}, store)
                else:
                    self._take_over(found)
        else:
            self._train_stage()
        self._end_stage()

    def finish(self) -> TrialResult:
        """Evaluate test with the best checkpoint, and leave the result beside it."""
        progress = self.progress
        evaluator = self.evaluator
        metrics = {**progress.best_metrics, **self._evaluate("test", evaluator)}
        highlights = self.highlights()
        metrics["time/train_s"], metrics["time/evaluate_s"] = progress.train_s, progress.evaluate_s
        metrics["time/wait_s"], metrics["time/extraction_s"] = progress.wait_s, evaluator.stopwatch.per_instance
        metrics["time/total_s"] = time.perf_counter() - self.started
        result = TrialResult(
            metrics=metrics,
            epoch=progress.best_epoch,
            perturbation="dropped" if self.plan.drop else "masked",
            highlights=highlights,
        )
        if self.runtime.rank == 0:
            stored = {name: value for name, value in vars(result).items() if name != "highlights"}
            self.runtime.checkpoints.write(CONFIG, to_yaml(self.config).encode())
            content = {"identity": self.identity, "card": asdict(self.card), **stored}
            self.runtime.checkpoints.write(RESULT, json.dumps(content).encode())
            self.runtime.checkpoints.delete(LAST)
        return result

    def highlights(self) -> tuple[HighlightedInstance, ...]:
        """The first test instances with their rationales."""
        instances = self.corpus.splits["test"][:HIGHLIGHTS]
        return self.evaluator.highlight(self.data["test"], instances, self.corpus.labels)

    def restore(self) -> None:
        """Go on from the last checkpoint, or start the first stage."""
        state = self.runtime.checkpoints.load(LAST)
        if state is None:
            self._start_stage({})
            return
        self.check_identity(state["identity"])
        wanted = Progress(**state["progress"])
        while self.progress.stage < wanted.stage:
            self.progress.stage += 1
            self._build_stage()
        self.progress = wanted
        self.model.load_state_dict(state["model"])
        self._start_stage(state["teacher_scores"])
        self.learner.load_state_dict(state)

    def read_back(self) -> None:
        """Put a completed trial's model together again."""
        while not self.is_last:
            self.progress.stage += 1
            self._build_stage()
        self._load_best()

    def check_identity(self, identity: str) -> None:
        """Refuse what another configuration or other data left behind.

        Raises:
            UserError: naming the folder and the remedy.
        """
        if identity != self.identity:
            raise UserError(
                f"{self.runtime.checkpoints.folder} holds a trial of another configuration or other data "
                f"({identity}, but this one is {self.identity}); choose another --output"
            )

    def _build_stage(self) -> None:
        """Make the model of the stage that progress names, on top of the one before it."""
        outputs = 1 if self.corpus.multi_choice else len(self.corpus.labels)
        self.model = build_stage(
            self.config.model,
            self.stage.design,
            outputs,
            seed=self.config.train.seed,
            place=self.progress.stage,
            earlier=self.model if self.progress.stage else None,
        ).to(self.runtime.device)

    def _start_stage(self, teacher_scores: Mapping[Split, Tensor]) -> None:
        """Begin to learn, with the scores that an earlier stage hands on [tokens]."""
        self.data = {name: replace(split, teacher_scores=teacher_scores.get(name)) for name, split in self.data.items()}
        self.learner = Learner(
            self.model,
            self.stage,
            self.config,
            self.data,
            self.tokens,
            self.plan,
            self.runtime,
            self.progress,
            bf16=self.bf16,
        )

    @torch.no_grad()
    def _scores_of(self, model: RationaleModel, split: EncodedSplit) -> Tensor:
        """Importance of every token of a split for the predicted label [tokens]; each worker scores its share."""
        clock = time.perf_counter()
        scores = torch.zeros(len(split.input_ids), device=self.runtime.device)
        mine = range(self.runtime.rank, len(split), self.runtime.world)
        with dropout_off(model):
            for chunk in sorted_chunks(split, mine, CHUNK):
                batch = collate(split, chunk, self.tokens).to(self.runtime.device)
                with torch.autocast(self.runtime.device.type, torch.bfloat16, enabled=self.bf16):
                    found = model.scores(batch, self.plan)
                rows = [instance * split.choices + choice for instance in chunk for choice in range(split.choices)]
                places = [torch.arange(int(split.offsets[row]), int(split.offsets[row + 1])) for row in rows]
                scores[torch.cat(places).to(scores.device)] = found[batch.attended]
        self.runtime.all_reduce(scores)
        self.progress.train_s += time.perf_counter() - clock
        return scores.cpu()

    def _train_stage(self) -> None:
        progress = self.progress
        while self._goes_on():
            self.learner.run_epoch(self._save_last)
            metrics = self._evaluate("dev")
            progress.epoch, progress.step = progress.epoch + 1, 0
            if self.stage.trains_task_model:
                score = metrics[TASK_SCORE.on("dev")]
            else:
                metrics |= self._finite({"dev/own_loss": self.learner.dev_loss()})
                score = -metrics["dev/own_loss"]
            if score > progress.best_score:
                progress.best_epoch, progress.best_score, progress.best_metrics = progress.epoch, score, metrics
                self._save(BEST, {"model": self.model.state_dict()})
            losses, progress.losses = progress.losses, {}
            # Reported first: after a kill in between, an epoch is reported twice rather than never.
            self._report({**losses, **metrics}, progress.epoch)
            if self._goes_on():
                self._save_last()
        self._load_best()

    def _take_over(self, found: dict[str, Any]) -> None:
        """Go on as if the stage had been trained here."""
        progress = self.progress
        self.model.load_state_dict(found["model"])
        progress.best_epoch = progress.epoch = found["epoch"]
        if self.is_last:
            progress.best_metrics = self._evaluate("dev")
            self._save(BEST, {"model": self.model.state_dict()})
            self._report(progress.best_metrics, progress.epoch)

    def _end_stage(self) -> None:
        progress = self.progress
        was_last = self.is_last
        self.progress = Progress(
            stage=progress.stage + 1,
            best_epoch=progress.best_epoch if was_last else 0,
            best_metrics=progress.best_metrics,
            train_s=progress.train_s,
            evaluate_s=progress.evaluate_s,
            wait_s=progress.wait_s,
        )
        if not was_last:
            earlier = self.model
            self._build_stage()
            splits: tuple[Split, ...] = ("train", "dev") if self.stage.design.reads_earlier_scores else ()
            self._start_stage({split: self._scores_of(earlier, self.data[split]) for split in splits})
            self._save_last()  # before this stage's first best checkpoint replaces the weights that it started from

    def _stage_identity(self) -> str:
        """The same for stages that learn the same from the same data."""
        stage = self.stage
        design = {key: value for key, value in asdict(stage.design).items() if stage.uses_scores or key != "extractor"}
        learned = [config_hash(self.config, stage.learns_from), stage.criteria, design]
        text = json.dumps([*learned, self.corpus.digest()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _report(self, metrics: Mapping[str, float], epoch: int) -> None:
        self.runtime.report(metrics, epoch=epoch, stage="" if self.is_last else self.stage.name)

    def _load_best(self) -> None:
        best = self.runtime.checkpoints.load(BEST)
        if best is None:
            raise UserError(f"{self.runtime.checkpoints.folder} has lost its {BEST}; choose another --output")
        self.model.load_state_dict(best["model"])

    def _goes_on(self) -> bool:
        train, progress = self.config.train, self.progress
        return progress.epoch < train.epochs and progress.epoch - progress.best_epoch < train.patience

    def _evaluate(self, split: Split, evaluator: Evaluator | None = None) -> dict[str, float]:
        clock = time.perf_counter()
        found = (evaluator or self.evaluator)(self.data[split], explain=self.is_last)
        self.progress.evaluate_s += time.perf_counter() - clock
        return self._finite({f"{split}/{key}": value for key, value in found.items()})

    def _finite(self, metrics: dict[str, float]) -> dict[str, float]:
        for key, value in metrics.items():
            if not math.isfinite(value):
                raise TrainingError(f"{key} became {value} after epoch {self.progress.epoch + 1}")
        return metrics

    def _save_last(self) -> None:
        self._save(
            LAST,
            {
                "identity": self.identity,
                "progress": asdict(self.progress),
                "model": self.model.state_dict(),
                "teacher_scores": {
                    name: split.teacher_scores for name, split in self.data.items() if split.teacher_scores is not None
                },
                **self.learner.state_dict(),
            },
        )

    def _save(self, name: str, state: dict[str, Any], store: CheckpointStore | None = None) -> None:
        """Write a state into the trial's own store, or another one."""
        if self.runtime.rank == 0:
            (store or self.runtime.checkpoints).save(name, state)
        # Nobody reads a file before it is whole.
        self.runtime.all_reduce(torch.zeros(1, device=self.runtime.device))

    def _drops(self) -> bool:
        choice = self.config.train.perturbation
        if choice == "masked":
            return False
        train = self.data["train"]
        # The longest, as attention within a window is exact up to the window's length.
        longest = train.lengths.view(-1, train.choices).amax(dim=1).topk(min(2, len(train))).indices
        probe = collate(train, longest.tolist(), self.tokens).to(self.runtime.device)
        settings = self.config.model
        key = (settings.encoder, settings.revision, settings.layers, probe.input_ids.shape)
        if key not in _DROPPING_ERRORS:
            _DROPPING_ERRORS[key] = dropping_error(self.model.task_model, probe)
        error = _DROPPING_ERRORS[key]
        exact = error < DROPPING_TOLERANCE
        if choice == "dropped" and not exact:
            raise UserError(
                f"train.perturbation = 'dropped': for {self.config.model.encoder!r} that is not the same as masking "
                f"(logits differ by {error:.1e}); set it to auto or masked"
            )
        return exact
