"""A train function without training: metrics follow from the configuration, delays come from the environment."""

import json
import os
import random
import time
from pathlib import Path

import torch

from unirex_ray.config import Config
from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, HighlightedToken
from unirex_ray.data.schema import Corpus
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.training.checkpoint import BEST, LAST
from unirex_ray.training.learner import TrainingError
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.state import TrialResult


def fake_metrics(config: Config, split: str, epoch: int) -> dict[str, float]:
    loss, train = config.loss, config.train
    # Of the loss, what sweeps of tests search: a new option changes no test's numbers.
    weights = (loss.comp_weight, loss.suff_weight, loss.plaus_weight)
    searched = (*weights, loss.comp_margin, loss.top_k_percents, train.learning_rate)
    rng = random.Random(f"{config.method} {searched} {train.seed} {epoch}")
    return {f"{split}/{metric.key}": rng.random() for metric in NRG_METRICS}


def train_fake(config: Config, corpus: Corpus, runtime: Runtime) -> TrialResult:
    assert corpus.splits["test"]
    first = runtime.rank == 0
    if first:
        note(runtime, "start")
    last = runtime.checkpoints.read(LAST)
    start = json.loads(last)["epoch"] if last else 0
    for epoch in range(start + 1, config.train.epochs + 1):
        workers = torch.ones(1)
        runtime.all_reduce(workers)
        assert workers.item() == runtime.world == config.train.workers
        time.sleep(float(os.environ.get("FAKE_EPOCH_SECONDS", "0")))
        misbehave(config, runtime, epoch)
        if first:
            runtime.checkpoints.write(LAST, json.dumps({"epoch": epoch}).encode())
        runtime.report(TrialMetrics.from_flat(fake_metrics(config, "dev", epoch)), epoch=epoch)
    if first:
        runtime.checkpoints.write(BEST, b"weights")
        note(runtime, "end")
    metrics = fake_metrics(config, "dev", config.train.epochs) | fake_metrics(config, "test", config.train.epochs)
    if config.loss.comp_margin == 13:
        metrics["dev/auprc"] = float("nan")
    metrics |= {"time/train_s": 0.0, "time/evaluate_s": 0.0}
    return TrialResult(
        metrics=TrialMetrics.from_flat(metrics),
        epoch=config.train.epochs,
        perturbation="dropped",
        highlights=(highlight(),),
    )


def misbehave(config: Config, runtime: Runtime, epoch: int) -> None:
    """Margins are the signals: 66 raises, 13 ends in NaN, 99 kills its process once."""
    if config.loss.comp_margin == 66:
        raise TrainingError(f"train/task became nan in epoch {epoch}, step 1; lower train.learning_rate")
    if config.loss.comp_margin == 99 and epoch == 2 and runtime.rank == 0 and runtime.checkpoints.read("died") is None:
        runtime.checkpoints.write("died", b"")
        os._exit(1)


def note(runtime: Runtime, event: str) -> None:
    """Append an event to a file next to the folder of the trials."""
    folder = Path(runtime.checkpoints.folder)
    with (folder.parent.parent / "events.txt").open("a") as events:
        events.write(f"{event} {folder.name} {os.getpid()}\n")


def highlight() -> HighlightedInstance:
    token = HighlightedToken(segment=0, start=0, end=5, score=1.0, selected=True, gold=True)
    text = HighlightedInput(segments=("great fun",), tokens=(token,))
    return HighlightedInstance(
        id="0", inputs=(text,), label="positive", predicted="positive", probability=0.9, top_k_percent=10
    )
