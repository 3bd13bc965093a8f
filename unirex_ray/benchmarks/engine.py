"""Cost of UNIREX's step and evaluation as multiples of plain fine-tuning and prediction.

Runs are interleaved and reported as medians, so that a noisy machine disturbs both sides alike. The largest difference
between dropped and masked passes is measured along with the speed.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from unirex_ray.config import Config
from unirex_ray.data.batching import Batch, collate
from unirex_ray.data.encoded import EncodedCorpus, EncodedSplit, SpecialTokens
from unirex_ray.methods import Stage, get_method
from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS
from unirex_ray.models.attribution import attribute, captum_integrated_gradients, dropout_off
from unirex_ray.models.encoder import load_encoder, load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel, build_stage
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.token_subsets import ForwardPlan, perturbed_subsets
from unirex_ray.training.evaluate import make_evaluator
from unirex_ray.training.memory import disable_malloc_trim
from unirex_ray.training.runtime import LocalRuntime, forward_plan, uses_bf16
from unirex_ray.training.step import (
    densify_gradients,
    global_counts,
    loss_terms,
    sampled_thresholds,
    use_sparse_word_gradients,
    weighted_sum,
)

CLASSES = 2


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Text lengths of a corpus, and batch sizes for them.

    Attributes:
        mean, deviation, least, most: distribution of the tokens per instance.
        batch: instances per training step.
        evaluated: instances per evaluation.
    """

    mean: float
    deviation: float
    least: int
    most: int
    batch: int
    evaluated: int


WORKLOADS = {
    "sst": Workload(mean=25, deviation=11, least=4, most=66, batch=32, evaluated=128),
    "movies": Workload(mean=512, deviation=0, least=512, most=512, batch=4, evaluated=8),
}


@dataclass(frozen=True, kw_only=True)
class EngineResult:
    """Cost and exactness of one stage of a method on one workload.

    Attributes:
        stage: name of the stage.
        plain_step_s, plain_prediction_s: median seconds of forward + backward on a batch padded to its longest
            instance, and of the logits of all evaluated instances in such batches, in the same precision.
        step, evaluation: median ratios of UNIREX's seconds to them; lower is better.
        attribution, captum_attribution: the same of IG, and of IG by Captum, to a plain step; lower is better; None
            where the extractor is another one.
        logits_difference, loss_difference: largest absolute difference of dropped to masked, fp32, no dropout.
        gradient_difference: norm of the difference, relative to the norm of the masked gradient.
    """

    stage: str
    plain_step_s: float
    step: float
    plain_prediction_s: float
    evaluation: float
    attribution: float | None
    captum_attribution: float | None
    logits_difference: float
    loss_difference: float
    gradient_difference: float


def measure_engine(config: Config, workload: Workload, *, runs: int) -> tuple[EngineResult, ...]:
    """Measure each stage of a method on one workload, with random texts and the configured encoder and losses."""
    method = get_method(config.method)
    results: list[EngineResult] = []
    model: RationaleModel | None = None
    for index, stage in enumerate(method.stages):
        model = build_stage(
            config.model, stage.design, CLASSES, seed=config.train.seed, stage_index=index, earlier=model
        )
        results.append(_measure_stage(method.resolve(config), stage, model, workload, runs=runs))
    return tuple(results)


@dataclass(frozen=True, kw_only=True)
class _StageBenchmark:
    """A stage's model and a plain task model on the same texts.

    Attributes:
        plain_model: for plain fine-tuning and prediction.
    """

    config: Config
    stage: Stage
    workload: Workload
    model: RationaleModel
    plain_model: TaskModel
    plan: ForwardPlan
    runtime: LocalRuntime
    encoded: EncodedCorpus

    @property
    def train(self) -> EncodedSplit:
        """Texts of the training steps."""
        return self.encoded.splits["train"]

    @property
    def evaluated(self) -> EncodedSplit:
        """Texts of the evaluation."""
        return self.encoded.splits["test"]

    def batch(self, split: EncodedSplit, instances: Sequence[int]) -> Batch:
        """The instances as one batch on the device."""
        return collate(split, instances, self.encoded.special_tokens).to(self.runtime.device)

    def loss(self, batch: Batch, instances: Sequence[int], plan: ForwardPlan) -> Tensor:
        """The stage's loss on train instances."""
        counts, config = global_counts(self.train, instances), sampled_thresholds(self.config.loss, instances[:1])
        return weighted_sum(loss_terms(self.model, batch, counts, self.stage.criteria, config, plan), config)

    def step(self, instances: Sequence[int]) -> None:
        """Forward and backward pass of the stage."""
        self._zero_grad()
        with self._autocast():
            loss = self.loss(self.batch(self.train, instances), instances, self.plan)
        loss.backward()  # type: ignore[no-untyped-call]
        densify_gradients(list(self.model.parameters()))

    def plain_step(self, instances: Sequence[int]) -> None:
        """Forward and backward pass of plain fine-tuning."""
        self._zero_grad()
        batch = self.batch(self.train, instances)
        with self._autocast():
            loss = torch.nn.functional.cross_entropy(plain_logits(self.plain_model, batch), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]

    def plain_prediction(self) -> None:
        """Logits of the evaluated instances, in batches as large as a training step's."""
        size, count = self.workload.batch, len(self.evaluated)
        with torch.no_grad(), dropout_off(self.plain_model), self._autocast():
            for start in range(0, count, size):
                plain_logits(self.plain_model, self.batch(self.evaluated, range(start, min(start + size, count))))

    def attribution(self, instances: Sequence[int]) -> None:
        """IG of a batch."""
        batch = self.batch(self.train, instances)
        with self._autocast():
            attribute(self.model.task_model, batch, batch.labels, "ig", self.plan, steps=self.config.model.ig_steps)

    def captum_attribution(self, instances: Sequence[int]) -> None:
        """The same by Captum."""
        batch = self.batch(self.train, instances)
        with self._autocast():
            captum_integrated_gradients(self.model.task_model, batch, batch.labels, steps=self.config.model.ig_steps)

    def _autocast(self) -> torch.autocast:
        device = self.runtime.device
        return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(self.config.train, device))

    def _zero_grad(self) -> None:
        for model in (self.model, self.plain_model):
            model.zero_grad(set_to_none=True)


def _measure_stage(
    config: Config, stage: Stage, model: RationaleModel, workload: Workload, *, runs: int
) -> EngineResult:
    disable_malloc_trim()
    benchmark = _stage_benchmark(config, stage, model, workload, runs=runs)
    seconds = _interleaved_seconds(benchmark, runs)
    attributes = "attribution" in seconds
    logits_difference, loss_difference, gradient_difference = _differences(benchmark)
    return EngineResult(
        stage=stage.name,
        plain_step_s=statistics.median(seconds["plain_step"]),
        step=_ratio(seconds["step"], seconds["plain_step"]),
        plain_prediction_s=statistics.median(seconds["plain_prediction"]),
        evaluation=_ratio(seconds["evaluation"], seconds["plain_prediction"]),
        attribution=_ratio(seconds["attribution"], seconds["plain_step"]) if attributes else None,
        captum_attribution=_ratio(seconds["captum_attribution"], seconds["plain_step"]) if attributes else None,
        logits_difference=logits_difference,
        loss_difference=loss_difference,
        gradient_difference=gradient_difference,
    )


def _stage_benchmark(
    config: Config, stage: Stage, model: RationaleModel, workload: Workload, *, runs: int
) -> _StageBenchmark:
    tokenizer = load_tokenizer(config.model)
    runtime = LocalRuntime(config.output, gpu=bool(config.train.gpu))
    model = model.to(runtime.device)
    use_sparse_word_gradients(model, runtime.device)
    plain_model = TaskModel(load_encoder(config.model), CLASSES).to(runtime.device)
    train = random_split(workload, (runs + 1) * workload.batch, tokenizer, seed=0)
    if stage.design.reads_earlier_scores:  # in training they are computed once, before the first step
        train = replace(train, teacher_scores=torch.randn(len(train.input_ids)))
    evaluated = random_split(workload, workload.evaluated, tokenizer, seed=1)
    return _StageBenchmark(
        config=config,
        stage=stage,
        workload=workload,
        model=model,
        plain_model=plain_model,
        plan=forward_plan(config.train, runtime.device),
        runtime=runtime,
        encoded=EncodedCorpus(
            name="random",
            labels=tuple(map(str, range(CLASSES))),
            task_metric="accuracy",
            multi_choice=False,
            splits={"train": train, "test": evaluated},
            special_tokens=SpecialTokens(pad_id=tokenizer.pad_token_id, sep_id=tokenizer.sep_token_id),
            max_length=workload.most,
            digest="",
            notes=(),
        ),
    )


def _interleaved_seconds(benchmark: _StageBenchmark, runs: int) -> dict[str, list[float]]:
    """Seconds of each run by what was measured."""
    model, size = benchmark.model, benchmark.workload.batch
    evaluator = make_evaluator(model, benchmark.encoded, benchmark.config, benchmark.plan, benchmark.runtime)
    model.train()
    benchmark.plain_model.train()
    seconds: dict[str, list[float]] = defaultdict(list)
    for run in tqdm(range(runs + 1), desc="interleaved runs", disable=None):
        instances = range(run * size, (run + 1) * size)
        actions: dict[str, Callable[[], object]] = {
            "plain_step": partial(benchmark.plain_step, instances),
            "step": partial(benchmark.step, instances),
            "plain_prediction": benchmark.plain_prediction,
            "evaluation": partial(evaluator, benchmark.evaluated),
        }
        if benchmark.stage.design.extractor == "aa-ig":
            actions["attribution"] = partial(benchmark.attribution, instances)
            actions["captum_attribution"] = partial(benchmark.captum_attribution, instances)
        for name, action in actions.items():
            elapsed = _seconds(action, benchmark.runtime.device)
            if run:  # the first run warms up
                seconds[name].append(elapsed)
    return seconds


def _differences(benchmark: _StageBenchmark) -> tuple[float, float, float]:
    """Differences of logits, loss and gradient between dropped and masked passes (see `EngineResult`)."""
    instances = range(benchmark.workload.batch)
    batch = benchmark.batch(benchmark.train, instances)
    (logits, loss, gradient), (masked_logits, masked_loss, masked_gradient) = (
        _outcome(benchmark, batch, instances, replace(benchmark.plan, drop=drop)) for drop in (True, False)
    )
    return (
        float((logits - masked_logits).abs().max()),
        float((loss - masked_loss).abs()),
        float((gradient - masked_gradient).norm() / masked_gradient.norm()),
    )


def plain_logits(task_model: TaskModel, batch: Batch) -> Tensor:
    """Logits as plain fine-tuning computes them: the batch padded to its longest row, one pass."""
    position_ids = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device).expand_as(batch.input_ids)
    states, pooled = task_model.encoder(
        input_ids=batch.input_ids,
        position_ids=position_ids,
        token_types=batch.token_types,
        attention_mask=batch.attended,
    )
    return task_model.logits_from_states(states, pooled)


def random_split(workload: Workload, instances: int, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> EncodedSplit:
    """Texts of random tokens with a workload's lengths, a fifth of the tokens gold."""
    random = np.random.default_rng(seed)
    lengths = np.rint(random.normal(workload.mean, workload.deviation, instances))
    lengths = lengths.clip(workload.least, workload.most).astype(np.int64)
    ends = lengths.cumsum()
    ids = random.integers(len(tokenizer) // 2, len(tokenizer), ends[-1])
    gold = random.random(ends[-1]) < 0.2
    gold[ends - 2] = True
    for columns, token in ((ends - lengths, tokenizer.cls_token_id), (ends - 1, tokenizer.sep_token_id)):
        ids[columns], gold[columns] = token, False
    return EncodedSplit(
        ids=tuple(str(number) for number in range(instances)),
        labels=torch.from_numpy(random.integers(0, CLASSES, instances)),
        input_ids=torch.from_numpy(ids.astype(np.int32)),
        token_types=torch.zeros(int(ends[-1]), dtype=torch.int8),
        gold=torch.from_numpy(gold),
        offsets=torch.from_numpy(np.concatenate([[0], ends])),
        has_gold=torch.ones(instances, dtype=torch.bool),
        cut=torch.zeros(instances, 3, dtype=torch.int32),
        last_window=torch.zeros(instances, dtype=torch.bool),
        spans=torch.zeros(int(ends[-1]), 3, dtype=torch.int32),
        choices=1,
    )


def _outcome(
    benchmark: _StageBenchmark, batch: Batch, instances: Sequence[int], plan: ForwardPlan
) -> tuple[Tensor, Tensor, Tensor]:
    """Perturbed logits, loss and flat gradient with dropout off."""
    model = benchmark.model
    with dropout_off(model):
        model.zero_grad(set_to_none=True)
        loss = benchmark.loss(batch, instances, plan)
        loss.backward()  # type: ignore[no-untyped-call]
        densify_gradients(list(model.parameters()))
        with torch.no_grad():
            subsets = perturbed_subsets(batch, model.scores(batch, plan), METRIC_TOP_K_PERCENTS).subsets
            logits = model.task_model.logits(batch, subsets, plan)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return logits, loss.detach(), gradient


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _ratio(seconds: list[float], plain_seconds: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(seconds, plain_seconds, strict=True))
