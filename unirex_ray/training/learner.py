"""The optimisation of one stage: steps on global batches, epoch by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from unirex_ray.config import Config, LossConfig
from unirex_ray.data.batching import collate, micro_batches, share, sorted_chunks
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.epochs import Epochs, gold_instances, keep_gold
from unirex_ray.data.progress_bar import terminal_bar
from unirex_ray.data.schema import Split
from unirex_ray.methods import Stage
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.training.evaluate import CHUNK
from unirex_ray.training.runtime import Runtime, uses_bf16
from unirex_ray.training.setup import TrialSetup
from unirex_ray.training.state import TrialState
from unirex_ray.training.step import (
    GlobalCounts,
    densify_gradients,
    global_counts,
    loss_terms,
    reduce_gradients,
    sampled_thresholds,
    trained_parameters,
    use_sparse_word_gradients,
    warmed_up,
    weighted_sum,
)

CHECK_EVERY = 10
"""Steps between two looks at losses and clock, which make a GPU wait."""


class TrainingError(RuntimeError):
    """Training cannot go on: a loss or a metric is not finite."""


class Learner:
    """One stage's optimizer and schedule on one worker.

    Args:
        data: train and dev are read.
        state: the trial's; a learner moves its step, its losses and its seconds.
    """

    def __init__(
        self,
        setup: TrialSetup,
        stage: Stage,
        model: RationaleModel,
        data: Mapping[Split, EncodedSplit],
        runtime: Runtime,
        state: TrialState,
    ) -> None:
        self.model, self.stage, self.config, self.runtime, self.state = model, stage, setup.config, runtime, state
        self.data, self.epochs = _supervised(data, stage, setup.config)
        self.special_tokens, self.plan = setup.encoded.special_tokens, setup.forward_plan
        self.bf16 = uses_bf16(setup.config.train, runtime.device)
        use_sparse_word_gradients(model, runtime.device)
        train = setup.config.train
        self._trained: list[torch.nn.Parameter] = []
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True
        )
        self.steps = steps = self.epochs.steps * train.epochs
        warmup_steps = math.ceil(round(train.warmup * steps, 6))
        first = 0 if train.warmup_from_zero else 1
        self.schedule = LambdaLR(
            self.optimizer, lambda step: learning_rate_share(step, steps=steps, warmup_steps=warmup_steps, first=first)
        )

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from, beside the model's weights."""
        return {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])

    def gradients(self, instances: list[int]) -> dict[str, Tensor]:
        """Gradients of a global batch, summed over workers, in every parameter's `grad`.

        Returns:
            This worker's share of the loss, with the weights of this step, and of each unweighted one.
        """
        counts = global_counts(self.data["train"], instances)
        own_share = share(instances, self.runtime.rank, self.runtime.world)
        losses: dict[str, Tensor] = {}
        state, train = self.state, self.config.train
        config = sampled_thresholds(self.config.loss, (train.seed, state.stage, state.epoch, state.step))
        config = warmed_up(config, state.epoch * self.epochs.steps + state.step, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        for part in micro_batches(own_share, train.micro_batch_size):
            terms = self._losses("train", part, counts, config)
            terms["loss"].backward()  # type: ignore[no-untyped-call]
            densify_gradients(self.parameters)
            for name, term in terms.items():
                losses[name] = losses.get(name, 0) + term.detach().double()
        if self.runtime.world > 1:
            # Which they are follows from the stage's losses, so that its first step tells.
            self._trained = self._trained or trained_parameters(self.parameters, self.runtime)
            reduce_gradients(self._trained, self.runtime)
        return losses

    def _losses(self, split: Split, part: list[int], counts: GlobalCounts, config: LossConfig) -> dict[str, Tensor]:
        """A part's share of the weighted loss and of each unweighted one, e.g. `loss`, `task_loss`."""
        batch = collate(self.data[split], part, self.special_tokens).to(self.runtime.device)
        with torch.autocast(self.runtime.device.type, torch.bfloat16, enabled=self.bf16):
            terms = loss_terms(self.model, batch, counts, self.stage.criteria, config, self.plan)
        return {"loss": weighted_sum(terms, config)} | {f"{name}_loss": t for name, t in terms.items()}

    def run_epoch(self, checkpoint: Callable[[], None], is_due: Callable[[], bool]) -> None:
        """Train on what remains of an epoch, from `state.step` on.

        Args:
            checkpoint: called within the epoch, every `train.checkpoint_steps` steps and where it is due.
            is_due: asked now and then.

        Raises:
            TrainingError: where a loss is not finite; names it, the epoch and the step.
        """
        state, train, started = self.state, self.config.train, time.perf_counter()
        self.model.train()
        batches, steps = self.epochs.batches(state.epoch), self.epochs.steps
        sums: dict[str, Tensor] = {}
        for instances in terminal_bar(batches[state.step :], f"epoch {state.epoch + 1}", unit="steps"):
            seed = (train.seed, state.stage, state.epoch, state.step, self.runtime.rank)
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
            for name, value in self.gradients(instances).items():
                sums[name] = sums.get(name, 0) + value * len(instances)
            self.optimizer.step()
            self.schedule.step()
            state.step += 1
            checkpoint_is_wanted = train.checkpoint_steps and state.step % train.checkpoint_steps == 0
            looks_up = state.step % CHECK_EVERY == 0
            if checkpoint_is_wanted or looks_up or state.step == steps:
                self._add_losses(sums)
                sums.clear()
            if state.step < steps and (checkpoint_is_wanted or (looks_up and is_due())):
                state.train_s += time.perf_counter() - started
                checkpoint()
                started = time.perf_counter()
        state.train_s += time.perf_counter() - started

    def _add_losses(self, sums: Mapping[str, Tensor]) -> None:
        """Add this worker's sums over the latest steps, and all others', to the epoch's mean losses."""
        keys = ["loss", *(f"{name}_loss" for name in self.stage.criteria)]
        zero = torch.zeros((), dtype=torch.float64, device=self.runtime.device)
        totals = torch.stack([sums.get(key, zero) for key in keys])
        self.runtime.all_reduce(totals)
        state = self.state
        for key, total in zip(keys, totals.tolist(), strict=True):
            if not math.isfinite(total):
                where = f"epoch {state.epoch + 1}, at or before step {state.step} of {self.epochs.steps}"
                raise TrainingError(f"train/{key} became {total} in {where}; lower train.learning_rate")
            state.losses[key] = state.losses.get(key, 0.0) + total / self.epochs.drawn

    @torch.no_grad()
    def dev_loss(self) -> float:
        """The stage's own loss over dev as one global batch, dropout off, with the weights after any warm-up."""
        started, dev = time.perf_counter(), self.data["dev"]
        counts = global_counts(dev, range(len(dev)))
        total = torch.zeros(1, dtype=torch.float64, device=self.runtime.device)
        with dropout_off(self.model):
            for chunk in sorted_chunks(dev, range(self.runtime.rank, len(dev), self.runtime.world), CHUNK):
                total += self._losses("dev", chunk, counts, self.config.loss)["loss"].double()
        self.runtime.all_reduce(total)
        self.state.evaluate_s += time.perf_counter() - started
        return float(total)


def learning_rate_share(step: int, *, steps: int, warmup_steps: int, first: int = 1) -> float:
    """Share of the peak learning rate that a step takes: a linear warm-up, and a linear decay that would end at 0.

    Args:
        step: from 0.
        first: 1: step i of w warm-up steps takes (i + 1)/w, so that none has rate 0; 0: i/w.
    """
    if step < warmup_steps:
        return (step + first) / warmup_steps
    return max(0, steps - step) / max(1, steps - warmup_steps)


def _supervised(
    data: Mapping[Split, EncodedSplit], stage: Stage, config: Config
) -> tuple[dict[Split, EncodedSplit], Epochs]:
    """The data with the gold rationales that a stage may learn from, and its batches (gold_percent and its batches)."""
    train, settings = data["train"], config.data
    gold: tuple[int, ...] = ()
    if "plaus" in stage.criteria and settings.gold_percent < 100:
        gold = gold_instances(train, settings.gold_percent, seed=settings.seed)
        train = keep_gold(train, gold)
    epochs = Epochs.from_split(
        train,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        gold=gold,
        factor=settings.gold_batch_factor,
        group_by_length=config.train.group_by_length,
    )
    return {**data, "train": train}, epochs
