"""One trial: one configuration, one seed, from data to test metrics."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from unirex_ray.config import Config, config_hash, to_yaml
from unirex_ray.data.batching import Tokens, collate, epoch_batches, micro_batches, share
from unirex_ray.data.encode import encode_corpus
from unirex_ray.data.encoded import EncodedCorpus
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.highlight import HighlightedInstance
from unirex_ray.methods import Method, get_method
from unirex_ray.metrics.table import TASK_SCORE, Split
from unirex_ray.models.encoder import Encoder, load_encoder, load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel, dropping_error
from unirex_ray.models.store import ModelCard
from unirex_ray.models.views import Plan
from unirex_ray.training.checkpoint import BEST, CONFIG, LAST, RESULT
from unirex_ray.training.evaluate import Evaluator
from unirex_ray.training.memory import keep_freed_memory
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.step import global_counts, loss_terms, reduce_gradients, weighted_sum

HIGHLIGHTS = 40
DROPPING_TOLERANCE = 1e-4
CPU_PASS_COST, GPU_PASS_COST = 64, 2048
CHECK_EVERY = 50

_DROPPING_ERRORS: dict[tuple[object, ...], float] = {}
"""By encoder and length: whether dropping is exact depends on the architecture, so a process asks once."""


class TrainingError(RuntimeError):
    """Training cannot go on: a loss or a metric is not finite."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A completed trial.

    Attributes:
        metrics: of the best checkpoint, by logged key: `dev/...`, `test/...`, and seconds as `time/train_s`,
            `time/evaluate_s`, `time/total_s`.
        epoch: the best checkpoint's, from 1.
        perturbation: how losses hid tokens: dropped or masked.
        highlights: some test instances with their rationales.
    """

    metrics: Mapping[str, float]
    epoch: int
    perturbation: str
    highlights: tuple[HighlightedInstance, ...]


@dataclass
class Progress:
    """Where a trial stands; everything that a checkpoint needs beside weights and optimizer.

    Dropout needs no entry: its random state is drawn anew for every step from seed, stage, epoch, step and rank.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = -math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    train_s: float = 0.0
    evaluate_s: float = 0.0


def train_trial(config: Config, corpus: Corpus, runtime: Runtime) -> TrialResult:
    """Train, keep the best checkpoint by dev task score, evaluate test once with it.

    Goes on from `runtime.checkpoints` where a checkpoint of the same configuration lies there; a completed trial is
    read back, not run again. Reports dev metrics after every epoch.

    Raises:
        TrainingError: where a loss or a metric is not finite; names it, the epoch and the step.
        UserError: where the checkpoint belongs to another configuration.
    """
    trainer = Trainer(config, corpus, runtime)
    done = runtime.checkpoints.read(RESULT)
    if done is not None:
        stored = json.loads(done)
        trainer.check_identity(stored.pop("identity"))
        del stored["card"]
        trainer.load_best()
        return TrialResult(**stored, highlights=trainer.highlights())
    trainer.restore()
    while trainer.progress.stage < len(trainer.method.stages):
        trainer.run_stage()
    return trainer.finish()


def check_gold(method: Method, corpus: Corpus) -> None:
    """Refuse a method that learns from gold rationales where there are none.

    Raises:
        UserError: naming the method and the corpus.
    """
    if method.needs_gold and not corpus.has_gold:
        raise UserError(
            f"{method.name} learns from gold rationales, but no train instance of {corpus.name} has one; "
            "choose another method"
        )


def prepare(config: Config, corpus: Corpus) -> tuple[str, ...]:
    """Tokenise a corpus before the trials that will find it in the cache; no weights are read.

    Returns:
        What is worth telling of the corpus: its own notes, and how many inputs are cut.

    Raises:
        UserError: as a trial would, for an encoder that cannot be found, or is asked for more than it has.
    """
    tokenizer = load_tokenizer(config.model)
    return _encoded(config, corpus, load_encoder(config.model, weights=False), tokenizer).notes


def _encoded(config: Config, corpus: Corpus, encoder: Encoder, tokenizer: PreTrainedTokenizerBase) -> EncodedCorpus:
    cache = Path(config.data.cache) if config.data.cache else None
    length = input_length(config, corpus, encoder, tokenizer)
    return encode_corpus(corpus, tokenizer, max_length=length, cache=cache)


def build_model(config: Config, corpus: Corpus) -> RationaleModel:
    """The model of a configuration, its new parts initialised from `train.seed`."""
    torch.manual_seed(config.train.seed)
    outputs = 1 if corpus.multi_choice else len(corpus.labels)
    return RationaleModel(config.model, get_method(config.method).extractor, outputs)


def input_length(config: Config, corpus: Corpus, encoder: Encoder, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens per input: what the user asks for, else the corpus' own limit, and never more than the encoder takes.

    Raises:
        UserError: if the user asks for more.
    """
    most: int = min(encoder.max_length, tokenizer.model_max_length)
    if config.data.max_length is not None:
        if config.data.max_length > most:
            raise UserError(
                f"data.max_length = {config.data.max_length}: {config.model.encoder!r} takes at most {most} tokens"
            )
        return config.data.max_length
    return min(most, corpus.max_length or most)


class Trainer:
    """A trial's state on one worker: data, model, progress."""

    def __init__(self, config: Config, corpus: Corpus, runtime: Runtime) -> None:
        self.started = time.perf_counter()
        self.config, self.corpus, self.runtime = config, corpus, runtime
        self.method = get_method(config.method)
        check_gold(self.method, corpus)
        self.identity = f"{config_hash(config)}-{corpus.digest()}"
        self.progress = Progress()
        if config.train.threads is not None:
            torch.set_num_threads(config.train.threads)
        keep_freed_memory()
        tokenizer = load_tokenizer(config.model)
        self.model = build_model(config, corpus).to(runtime.device)
        encoded = _encoded(config, corpus, self.model.task_model.encoder, tokenizer)
        self.data = encoded.splits
        self.tokens = Tokens(pad_id=encoded.pad_id, sep_id=encoded.sep_id)
        gpu = runtime.device.type == "cuda"
        self.card = ModelCard(
            method=config.method,
            extractor=self.method.extractor,
            labels=corpus.labels,
            task_metric=corpus.task_metric,
            multi_choice=corpus.multi_choice,
            max_length=encoded.max_length,
            truncation=corpus.truncation,
        )
        self.bf16 = config.train.precision == "bf16" or (config.train.precision == "auto" and gpu)
        self.plan = Plan(
            token_budget=config.train.token_budget,
            pass_cost=GPU_PASS_COST if gpu else CPU_PASS_COST,
            drop=self._drops(),
            stream=config.train.stream,
        )
        self.evaluator = Evaluator(
            model=self.model,
            tokens=self.tokens,
            classes=self.data["train"].choices if corpus.multi_choice else len(corpus.labels),
            task_metric=corpus.task_metric,
            plan=self.plan,
            runtime=runtime,
            bf16=self.bf16,
        )

    def run_stage(self) -> None:
        """Train one stage to its last epoch or to early stopping, from wherever its progress stands."""
        progress = self.progress
        while self._goes_on():
            self._run_epoch()
            metrics = self._evaluate("dev")
            progress.epoch, progress.step = progress.epoch + 1, 0
            score = metrics[TASK_SCORE.on("dev")]
            if score > progress.best_score:
                progress.best_epoch, progress.best_score, progress.best_metrics = progress.epoch, score, metrics
                self._save(BEST, {"model": self.model.state_dict()})
            losses, progress.losses = progress.losses, {}
            # Reported first: after a kill in between, an epoch is reported twice rather than never.
            self.runtime.report({**losses, **metrics}, epoch=progress.epoch)
            if self._goes_on():
                self._save_last()
        self.load_best()
        self.progress = Progress(
            stage=progress.stage + 1,
            best_epoch=progress.best_epoch,
            best_metrics=progress.best_metrics,
            train_s=progress.train_s,
            evaluate_s=progress.evaluate_s,
        )
        if self.progress.stage < len(self.method.stages):
            self.progress.best_epoch = 0
            self._start_stage()
            self._save_last()  # before this stage's first best checkpoint replaces the weights that it started from

    def finish(self) -> TrialResult:
        """Evaluate test with the best checkpoint, and leave the result beside it."""
        progress = self.progress
        metrics = {**progress.best_metrics, **self._evaluate("test")}
        clock = time.perf_counter()
        highlights = self.highlights()
        progress.evaluate_s += time.perf_counter() - clock
        metrics["time/train_s"], metrics["time/evaluate_s"] = progress.train_s, progress.evaluate_s
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
        labels = self.corpus.labels
        return self.evaluator.highlight(self.data["test"], instances, labels)

    def restore(self) -> None:
        """Go on from the last checkpoint, or start the first stage."""
        state = self.runtime.checkpoints.load(LAST)
        if state is None:
            self._start_stage()
            return
        self.check_identity(state["identity"])
        self.progress = Progress(**state["progress"])
        self._start_stage()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])

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

    def load_best(self) -> None:
        """Put the best checkpoint's weights into the model."""
        best = self.runtime.checkpoints.load(BEST)
        if best is None:
            raise UserError(f"{self.runtime.checkpoints.folder} has lost its {BEST}; choose another --output")
        self.model.load_state_dict(best["model"])

    def gradients(self, instances: list[int]) -> dict[str, Tensor]:
        """Gradients of a global batch, summed over workers, in every parameter's `grad`.

        Returns:
            This worker's share of each unweighted loss.
        """
        stage = self.method.stages[self.progress.stage]
        counts = global_counts(self.data["train"], instances)
        mine = share(instances, self.runtime.rank, self.runtime.world)
        losses: dict[str, Tensor] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for part in micro_batches(mine, self.config.train.micro_batch_size):
            batch = collate(self.data["train"], part, self.tokens).to(self.runtime.device)
            with torch.autocast(self.runtime.device.type, torch.bfloat16, enabled=self.bf16):
                terms = loss_terms(self.model, batch, counts, stage.criteria, self.config.loss, self.plan)
            loss = weighted_sum(terms, self.config.loss)
            loss.backward()  # type: ignore[no-untyped-call]
            for name, term in {"loss": loss, **{f"{name}_loss": term for name, term in terms.items()}}.items():
                losses[name] = losses.get(name, 0) + term.detach().double()
        reduce_gradients(self.parameters, self.runtime)
        return losses

    def _goes_on(self) -> bool:
        train, progress = self.config.train, self.progress
        return progress.epoch < train.epochs and progress.epoch - progress.best_epoch < train.patience

    def _start_stage(self) -> None:
        train, stage = self.config.train, self.method.stages[self.progress.stage]
        for name in ("task_model", "extractor"):
            self.model.get_submodule(name).requires_grad_(name in stage.trains)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True
        )
        self.steps = math.ceil(len(self.data["train"]) / train.batch_size)
        steps = self.steps * train.epochs
        self.schedule = get_linear_schedule_with_warmup(
            self.optimizer, math.ceil(round(train.warmup * steps, 6)), steps
        )

    def _run_epoch(self) -> None:
        progress, train, clock = self.progress, self.config.train, time.perf_counter()
        self.model.train()
        batches = epoch_batches(len(self.data["train"]), train.batch_size, seed=train.seed, epoch=progress.epoch)
        held: dict[str, Tensor] = {}

        def settle() -> None:
            names = self.method.stages[progress.stage].criteria
            keys = ["loss", *(f"{name}_loss" for name in names)]
            zero = torch.zeros((), dtype=torch.float64, device=self.runtime.device)
            sums = torch.stack([held.get(key, zero) for key in keys])
            held.clear()
            self.runtime.all_reduce(sums)
            for key, value in zip(keys, sums.tolist(), strict=True):
                if not math.isfinite(value):
                    where = f"epoch {progress.epoch + 1}, at or before step {progress.step} of {self.steps}"
                    raise TrainingError(f"train/{key} became {value} in {where}; lower train.learning_rate")
                mean = value / len(self.data["train"])
                progress.losses[f"train/{key}"] = progress.losses.get(f"train/{key}", 0.0) + mean

        for instances in batches[progress.step :]:
            seed = (train.seed, progress.stage, progress.epoch, progress.step, self.runtime.rank)
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
            for name, value in self.gradients(instances).items():
                held[name] = held.get(name, 0) + value * len(instances)
            self.optimizer.step()
            self.schedule.step()
            progress.step += 1
            checkpoint = train.checkpoint_steps and progress.step % train.checkpoint_steps == 0
            if checkpoint or progress.step % CHECK_EVERY == 0 or progress.step == self.steps:
                settle()
            if checkpoint and progress.step < self.steps:
                progress.train_s += time.perf_counter() - clock
                self._save_last()
                clock = time.perf_counter()
        progress.train_s += time.perf_counter() - clock

    def _evaluate(self, split: Split) -> dict[str, float]:
        clock = time.perf_counter()
        metrics = {f"{split}/{key}": value for key, value in self.evaluator(self.data[split]).items()}
        self.progress.evaluate_s += time.perf_counter() - clock
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
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
            },
        )

    def _save(self, name: str, state: dict[str, Any]) -> None:
        if self.runtime.rank == 0:
            self.runtime.checkpoints.save(name, state)
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
