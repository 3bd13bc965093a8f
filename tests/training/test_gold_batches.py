"""The training losses that an epoch logs where gold rationales are scarce, against loops over what its batches draw."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers.tiny import Group, first_stage, tiny_config, tiny_corpus

from unirex_ray.config import Config
from unirex_ray.training.stage import StageTrainer

pytestmark = pytest.mark.slow

STILL = 1e-30  # a learning rate at which no weight moves


class Text(NamedTuple):
    """Cross entropy of one instance, and scores and gold flags of its tokens."""

    entropy: float
    scores: list[float]
    gold: list[bool]


def train_texts(trainer: StageTrainer) -> list[Text]:
    model, split = trainer.model.eval(), trainer.learner.data["train"]
    texts = []
    for number, label in enumerate(split.labels.tolist()):
        part = slice(int(split.offsets[number]), int(split.offsets[number + 1]))
        with torch.no_grad():
            output = model.task_model.encoder.backbone(input_ids=split.input_ids[part][None].long())
            logits = model.task_model.head(output.pooler_output)[0].tolist()
            scores = model.extractor.head(output.last_hidden_state)[0].tolist()
        entropy = math.log(sum(map(math.exp, logits))) - logits[label]
        texts.append(Text(entropy, scores, split.gold[part].tolist()))
    return texts


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def plausibility(batch: Sequence[Text]) -> float:
    tokens = [token for text in batch if any(text.gold) for token in zip(text.scores, text.gold, strict=True)]
    positives = sum(is_gold for _, is_gold in tokens)
    weight = (len(tokens) - positives) / positives
    return mean([weight * math.log1p(math.exp(-s)) if is_gold else math.log1p(math.exp(s)) for s, is_gold in tokens])


def trained_epoch(config: Config, folder: Path, world: int = 1) -> tuple[StageTrainer, dict[str, float]]:
    """A trainer after one epoch, and the training losses that it reports."""
    corpus, group = tiny_corpus((18, 3, 3), gold=1.0), Group(world, folder)
    trainers = [first_stage(config, corpus, group.runtime(rank)) for rank in range(world)]
    group.run(lambda rank: trainers[rank].train())
    [(_, metrics)] = group.reports[0]
    return trainers[0], dict(metrics.train)


@pytest.fixture
def config(encoders) -> Config:
    return tiny_config(
        encoders["bert"],
        method="unirex-slm-p",
        model__dropout=0.0,
        data__gold_percent=25.0,
        loss__plaus_weight=0.7,
        train__epochs=1,
        train__batch_size=6,
        train__learning_rate=STILL,
    )


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"train.checkpoint_steps": 2}, {"train.micro_batch_size": 2}])
def test_the_losses_of_an_epoch_are_means_over_the_instances_that_its_batches_draw(config, tmp_path, changes, world):
    trainer, logged = trained_epoch(config.changed(changes), tmp_path, world)
    texts = train_texts(trainer)
    batches = [[texts[number] for number in batch] for batch in trainer.learner.epochs.batches(0)]
    # Of 18 instances 5 have gold: every batch draws 3 of these and, but for the last, 3 of the other 13.
    assert [len(batch) for batch in batches] == [6, 6, 6, 6, 4]
    task = mean([text.entropy for batch in batches for text in batch])
    plaus = sum(len(batch) * plausibility(batch) for batch in batches) / 28
    assert logged["task_loss"] == pytest.approx(task, rel=1e-5)
    assert logged["plaus_loss"] == pytest.approx(plaus, rel=1e-5)
    assert logged["loss"] == pytest.approx(task + 0.7 * plaus, rel=1e-5)
    # Other means are other numbers.
    assert task != pytest.approx(mean([text.entropy for text in texts]), rel=1e-3)
    assert task != pytest.approx(mean([mean([text.entropy for text in batch]) for batch in batches]), rel=1e-3)
    assert plaus != pytest.approx(mean([plausibility(batch) for batch in batches]), rel=1e-3)
