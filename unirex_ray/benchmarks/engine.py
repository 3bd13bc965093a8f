"""Cost of UNIREX's step and evaluation as multiples of plain fine-tuning and prediction.

Everything is measured in one run, interleaved, as medians, so that a noisy machine disturbs both sides alike; the
largest difference between dropped and masked passes stands beside the speed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from unirex_ray.config import Config
from unirex_ray.data.batching import Batch, SpecialTokens, collate
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.methods import Stage, get_method
from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.encoder import load_encoder, load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel, build_stage
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.token_subsets import ForwardPlan, perturbed_subsets
from unirex_ray.training.evaluate import Evaluator
from unirex_ray.training.memory import disable_malloc_trim
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.step import global_counts, loss_terms, weighted_sum
from unirex_ray.training.trial import CPU_PASS_COST, GPU_PASS_COST

CLASSES = 2


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Lengths like a corpus' and the batch that goes with them.

    Attributes:
        mean, deviation, least, most: of the number of tokens per instance.
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
    """Figures of one stage of a method on one workload.

    Attributes:
        stage: its name.
        plain_step_s, plain_prediction_s: medians in seconds, of forward + backward on a batch padded to its longest
            instance, and of the logits of the evaluated instances in such batches.
        step, evaluation: medians of the ratios to them, lower is better.
        logits_difference, loss_difference: largest absolute difference, dropped against masked, fp32, no dropout.
        gradient_difference: norm of the difference over the norm.
    """

    stage: str
    plain_step_s: float
    step: float
    plain_prediction_s: float
    evaluation: float
    logits_difference: float
    loss_difference: float
    gradient_difference: float


def measure_engine(config: Config, workload: Workload, *, runs: int) -> tuple[EngineResult, ...]:
    """Measure each stage of a method on one workload, with random texts and the configured encoder and losses."""
    method = get_method(config.method)
    results: list[EngineResult] = []
    model: RationaleModel | None = None
    for place, stage in enumerate(method.stages):
        model = build_stage(config.model, stage.design, CLASSES, seed=config.train.seed, place=place, earlier=model)
        results.append(_measure_stage(method.resolve(config), stage, model, workload, runs=runs))
    return tuple(results)


def _measure_stage(
    config: Config, stage: Stage, model: RationaleModel, workload: Workload, *, runs: int
) -> EngineResult:
    disable_malloc_trim()
    tokenizer = load_tokenizer(config.model)
    tokens = SpecialTokens(pad_id=tokenizer.pad_token_id, sep_id=tokenizer.sep_token_id)
    runtime = LocalRuntime(config.output, gpu=config.train.gpu)
    gpu = config.train.gpu
    model = model.to(runtime.device)
    unexplained = TaskModel(load_encoder(config.model), CLASSES).to(runtime.device)
    plan = ForwardPlan(token_budget=config.train.token_budget, pass_cost=GPU_PASS_COST if gpu else CPU_PASS_COST)
    texts = random_split(workload, (runs + 1) * workload.batch, tokenizer, seed=0)
    if stage.design.reads_earlier_scores:  # taken once, before the first step
        texts = replace(texts, teacher_scores=torch.randn(len(texts.input_ids)))
    judged = random_split(workload, workload.evaluated, tokenizer, seed=1)
    evaluator = Evaluator(
        model=model, tokens=tokens, classes=CLASSES, task_metric="accuracy", plan=plan, runtime=runtime
    )

    def loss(batch: Batch, instances: list[int], how: ForwardPlan) -> Tensor:
        counts = global_counts(texts, instances)
        return weighted_sum(loss_terms(model, batch, counts, stage.criteria, config.loss, how), config.loss)

    def step(instances: list[int], how: Callable[[Batch], Tensor]) -> None:
        for part in (model, unexplained):
            part.zero_grad(set_to_none=True)
        how(collate(texts, instances, tokens).to(runtime.device)).backward()  # type: ignore[no-untyped-call]

    def plain(batch: Batch) -> Tensor:
        return torch.nn.functional.cross_entropy(plain_logits(unexplained, batch), batch.labels)

    def predict() -> None:
        with torch.no_grad(), dropout_off(unexplained):
            for start in range(0, len(judged), workload.batch):
                instances = range(start, min(start + workload.batch, len(judged)))
                plain_logits(unexplained, collate(judged, instances, tokens).to(runtime.device))

    for part in (model, unexplained):
        part.train()
    seconds: dict[str, list[float]] = {"plain_step": [], "step": [], "plain_prediction": [], "evaluation": []}
    for run in tqdm(range(runs + 1), desc="interleaved runs", disable=None):
        chosen = list(range(run * workload.batch, (run + 1) * workload.batch))
        ours = partial(loss, instances=chosen, how=plan)
        timed: dict[str, Callable[[], object]] = {
            "plain_step": partial(step, chosen, plain),
            "step": partial(step, chosen, ours),
            "plain_prediction": predict,
            "evaluation": partial(evaluator, judged),
        }
        for name, action in timed.items():
            spent = _seconds(action, runtime.device)
            if run:  # the first run warms up
                seconds[name].append(spent)
    everyone = list(range(workload.batch))
    batch = collate(texts, everyone, tokens).to(runtime.device)
    sides = [
        _outcome(model, batch, replace(plan, drop=drop), lambda how: loss(batch, everyone, how))
        for drop in (True, False)
    ]
    (logits, value, gradient), (masked_logits, masked_value, masked_gradient) = sides
    return EngineResult(
        stage=stage.name,
        plain_step_s=statistics.median(seconds["plain_step"]),
        step=_ratio(seconds["step"], seconds["plain_step"]),
        plain_prediction_s=statistics.median(seconds["plain_prediction"]),
        evaluation=_ratio(seconds["evaluation"], seconds["plain_prediction"]),
        logits_difference=float((logits - masked_logits).abs().max()),
        loss_difference=float((value - masked_value).abs()),
        gradient_difference=float((gradient - masked_gradient).norm() / masked_gradient.norm()),
    )


def plain_logits(task_model: TaskModel, batch: Batch) -> Tensor:
    """Logits as plain fine-tuning computes them: the batch padded to its longest row, one pass."""
    positions = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device).expand_as(batch.input_ids)
    states, pooled = task_model.encoder(
        input_ids=batch.input_ids, positions=positions, token_types=batch.token_types, attention_mask=batch.attended
    )
    return task_model.read(states, pooled)


def random_split(workload: Workload, instances: int, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> EncodedSplit:
    """Texts of random tokens with a workload's lengths, a fifth of the tokens gold."""
    random = np.random.default_rng(seed)
    drawn = np.rint(random.normal(workload.mean, workload.deviation, instances))
    lengths = drawn.clip(workload.least, workload.most).astype(np.int64)
    ends = lengths.cumsum()
    ids = random.integers(len(tokenizer) // 2, len(tokenizer), ends[-1])
    gold = random.random(ends[-1]) < 0.2
    gold[ends - 2] = True
    for places, token in ((ends - lengths, tokenizer.cls_token_id), (ends - 1, tokenizer.sep_token_id)):
        ids[places], gold[places] = token, False
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
    model: RationaleModel, batch: Batch, plan: ForwardPlan, loss: Callable[[ForwardPlan], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Perturbed logits, loss and flat gradient with dropout off."""
    with dropout_off(model):
        model.zero_grad(set_to_none=True)
        value = loss(plan)
        value.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            scores = model.scores(batch, plan)
            logits = model.task_model.logits(
                batch, perturbed_subsets(batch, scores, METRIC_TOP_K_PERCENTS).subsets, plan
            )
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return logits, value.detach(), gradient


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _ratio(ours: list[float], plain: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, plain, strict=True))
