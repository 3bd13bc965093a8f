"""Which class attributions explain: the gold label's in training losses, the predicted label's everywhere else."""

from dataclasses import dataclass

import pytest
import torch
from helpers.marks import slow
from helpers.tiny import first_stage, stages, tiny_config, tiny_corpus
from torch import Tensor

from unirex_ray.data.batching import Batch, collate
from unirex_ray.data.schema import Corpus
from unirex_ray.metrics.faithfulness import aopc, confidence_drop
from unirex_ray.metrics.plausibility import auprc
from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS
from unirex_ray.models.attribution import attribute, convergence_delta, dropout_off
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.training.explain import highlight_results
from unirex_ray.training.losses import (
    comprehensiveness_loss,
    cross_entropy,
    plausibility_bce,
    sufficiency_kl,
    sufficiency_loss,
)
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.stage import StageTrainer
from unirex_ray.training.step import GlobalCounts, LossContext, global_counts, loss_terms

LOSSES_ON_SCORES = {"unirex-aa-f": {"comp", "suff"}, "unirex-aa-fp": {"comp", "suff", "plaus"}, "sgt": {"suff"}}
METHODS = ("aa-ig", *LOSSES_ON_SCORES)


@dataclass
class Explained:
    """A split as one batch, of which the model gets some instances wrong, and integrated gradients by class."""

    batch: Batch
    counts: GlobalCounts
    predictions: Tensor
    for_gold: Tensor
    for_predicted: Tensor


def explained(trainer: StageTrainer, model: RationaleModel, split: str) -> Explained:
    data = trainer.data[split]
    batch = collate(data, range(len(data)), trainer.setup.encoded.special_tokens)
    with dropout_off(model), torch.no_grad():
        predictions = model.task_model.full_logits(batch, trainer.setup.forward_plan).argmax(-1)
    gold, predicted = (
        attribute(
            model.task_model,
            batch,
            classes,
            "ig",
            trainer.setup.forward_plan,
            steps=trainer.setup.config.model.ig_steps,
        )
        for classes in (batch.labels, predictions)
    )
    wrong = predictions != batch.labels
    assert wrong.any()
    assert ((gold - predicted).abs().amax(1) > 1e-2).equal(wrong)
    return Explained(batch, global_counts(data, range(len(data))), predictions, gold, predicted)


def close(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left, right, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((10, 9, 8), seed=1)


@pytest.fixture
def two_stages(encoders, corpus, tmp_path):
    """A trial's first stage, trained, and its second one, about to begin."""

    def train(method: str) -> list[StageTrainer]:
        changes = {"train__epochs": 1, "train__learning_rate": 1e-4, "model__dropout": 0.0}
        run = stages(tiny_config(encoders["bert"], method=method, **changes), corpus, LocalRuntime(tmp_path / method))
        first = next(run)
        first.train()
        return [first, next(run)]

    return train


@pytest.fixture
def started(encoders, corpus, tmp_path):
    """A trial by method, before its first step."""

    def start(method: str, **changes: object) -> StageTrainer:
        config = tiny_config(encoders["bert"], method=method, model__dropout=0.0, **changes)
        trainer = first_stage(config, corpus, LocalRuntime(tmp_path / method))
        return trainer

    return start


@torch.no_grad()
def losses_by_hand(trainer: StageTrainer, known: Explained, scores: Tensor) -> dict[str, float]:
    model, batch, config = trainer.model, known.batch, trainer.setup.config.loss
    full = model.task_model.full_logits(batch, trainer.setup.forward_plan)
    without, alone = model.perturbed_logits(
        batch, scores, full[None], config.top_k_percents, trainer.setup.forward_plan, "original"
    )
    entropies = [cross_entropy(logits, batch.labels) for logits in (full, without, alone)]
    counted = batch.attended & batch.has_gold[:, None]
    comp = comprehensiveness_loss(entropies[0], entropies[1], "margin", config.comp_margin)
    margin = sufficiency_loss(entropies[0], entropies[2], "margin", config.suff_margin)
    suff = sufficiency_kl(full, alone) if config.suff == "kl" else margin
    plaus = plausibility_bce(scores, batch.gold, counted, known.counts.positive_weight)
    return {
        "comp": float(comp.mean()),
        "suff": float(suff.mean()),
        "plaus": float(plaus.sum()) / known.counts.gold_tokens,
    }


@pytest.mark.parametrize("method", METHODS)
def test_attributions_explain_the_gold_label_in_training(started, method):
    trainer = started(method)
    known = explained(trainer, trainer.model, "train")
    trainer.model.train()
    criteria = trainer.stage.criteria
    ctx = LossContext(
        trainer.model, known.batch, known.counts, criteria, trainer.setup.config.loss, trainer.setup.forward_plan
    )
    assert close(ctx.scores, known.for_gold)
    assert not close(ctx.scores, known.for_predicted)


@pytest.mark.slow
@pytest.mark.parametrize("method", LOSSES_ON_SCORES)
def test_every_loss_that_reads_attributions_reads_those_of_the_gold_label(started, method):
    trainer = started(method)
    known = explained(trainer, trainer.model, "train")
    trainer.model.train()
    arguments = (
        known.batch,
        known.counts,
        trainer.stage.criteria,
        trainer.setup.config.loss,
        trainer.setup.forward_plan,
    )
    found = {name: float(term.detach()) for name, term in loss_terms(trainer.model, *arguments).items()}
    gold, predicted = (losses_by_hand(trainer, known, scores) for scores in (known.for_gold, known.for_predicted))
    assert set(found) == {"task"} | LOSSES_ON_SCORES[method]
    for name in LOSSES_ON_SCORES[method]:
        assert found[name] == pytest.approx(gold[name], rel=1e-4)
        assert found[name] != pytest.approx(predicted[name], rel=1e-3)


def test_training_on_the_task_alone_reads_no_attributions(started, monkeypatch):
    trainer = started("aa-ig")
    monkeypatch.setattr(RationaleModel, "extract", lambda *_, **__: pytest.fail("scores are read"))
    assert trainer.learner.gradients([0, 1])["task_loss"] > 0


@torch.no_grad()
def explanations_by_hand(trainer: StageTrainer, known: Explained, scores: Tensor) -> dict[str, float]:
    model, batch, percents, plan = trainer.model, known.batch, METRIC_TOP_K_PERCENTS, trainer.setup.forward_plan
    full = model.task_model.full_logits(batch, plan)
    without, alone = model.perturbed_logits(batch, scores, full[None], percents, plan, "fresh")
    areas = [
        auprc(scores[row, :length].double().numpy(), batch.gold[row, :length].numpy())
        for row, length in enumerate(batch.lengths.tolist())
        if batch.has_gold[row]
    ]
    return {
        "comprehensiveness": float(aopc(confidence_drop(full, without).numpy()).mean()),
        "sufficiency": float(aopc(confidence_drop(full, alone).numpy()).mean()),
        "auprc": 100 * sum(areas) / len(areas),
        "convergence_delta": float(convergence_delta(model.task_model, batch, known.predictions, scores, plan).mean()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("split", ["dev", *slow("test")])
@pytest.mark.parametrize("method", METHODS)
def test_attributions_explain_the_predicted_label_in_evaluation(started, method, split):
    trainer = started(method, model__convergence_delta=True)
    known = explained(trainer, trainer.model, split)
    found = trainer.evaluator()(trainer.data[split]).metrics
    gold, predicted = (explanations_by_hand(trainer, known, scores) for scores in (known.for_gold, known.for_predicted))
    for name, value in predicted.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5)
        assert found[name] != pytest.approx(gold[name], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_shown_rationales_explain_the_predicted_label(started, corpus, method):
    trainer = started(method)
    known = explained(trainer, trainer.model, "test")
    instances = corpus.splits["test"]
    results = trainer.evaluate("test", keep_scores=True)
    shown = highlight_results(trainer.model, trainer.data["test"], instances, corpus.labels, results)
    for row, length in enumerate(known.batch.lengths.tolist()):
        scores = torch.tensor([token.score for token in shown[row].inputs[0].tokens])
        assert shown[row].predicted == corpus.labels[known.predictions[row]]
        assert close(scores, known.for_predicted[row, 1 : length - 1])  # without CLS and SEP


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fresh", "l2e"])
def test_a_stage_leaves_attributions_of_the_predicted_label_to_the_next(two_stages, method):
    first, second = two_stages(method)
    for split in ("train", "dev"):
        known = explained(second, first.model, split)
        teacher_scores = second.data[split].teacher_scores
        assert close(teacher_scores, known.for_predicted[known.batch.attended])
        assert not close(teacher_scores, known.for_gold[known.batch.attended])


def test_a_rationale_without_teacher_scores_is_of_the_predicted_label(two_stages):
    first, second = two_stages("fresh")
    known = explained(second, first.model, "test")
    found = second.model.scores(known.batch, second.setup.forward_plan)
    for row, length in enumerate(known.batch.lengths.tolist()):
        size = max(1, round((length - 1) * 0.1))
        best = known.for_predicted[row, 1:length].argsort(descending=True, stable=True)[:size] + 1
        assert found[row].nonzero().flatten().tolist() == sorted(best.tolist())
