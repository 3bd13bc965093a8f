"""A train function without a step: it writes the gradients of one batch, and returns its losses and dev metrics."""

from pathlib import Path

import torch
from helpers.tiny import first_stage

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.state import TrialResult

BATCH = [3, 1, 7, 10, 5, 0, 8]


def gradients_file(runtime: Runtime, rank: int) -> Path:
    return Path(runtime.checkpoints.folder) / f"gradients-{rank}.pt"


def probe(config: Config, corpus: Corpus, runtime: Runtime) -> TrialResult:
    trainer = first_stage(config, corpus, runtime)
    trainer.model.train()
    losses = trainer.learner.gradients(BATCH)
    shares = torch.stack([losses[name] for name in sorted(losses)])
    runtime.all_reduce(shares)
    gradients = {name: parameter.grad for name, parameter in trainer.model.named_parameters()}
    file = gradients_file(runtime, runtime.rank)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(gradients, file)
    train = dict(zip(sorted(losses), shares.tolist(), strict=True))
    metrics = TrialMetrics(train=train, dev=trainer.evaluate("dev").metrics)
    runtime.report(metrics, epoch=1)
    return TrialResult(metrics=metrics, epoch=runtime.world, perturbation="dropped", highlights=())
