"""What extractors learn from comprehensiveness and sufficiency through the selection, and what stays as it was."""

from itertools import combinations, pairwise

import pytest
import torch
from helpers.marks import slow
from helpers.tiny import encode, first_stage, relative_difference, tiny_config, tiny_corpus, whole_batch
from torch import Tensor

from unirex_ray.config import LossConfig
from unirex_ray.data.batching import collate
from unirex_ray.methods import get_method
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.design import Design
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.step import global_counts, loss_terms, weighted_sum
from unirex_ray.training.trial import train_trial

CRITERIA = ("task", "comp", "suff", "plaus")


@pytest.fixture(scope="module")
def split(encoders):
    return encode(tiny_config(encoders["bert"]), tiny_corpus((8, 1, 1), gold=0.5).splits["train"])


def model_of(encoders, method: str, outputs: int = 2) -> RationaleModel:
    """Untrained, but with logits that differ, so that no loss is at its margin."""
    torch.manual_seed(3)
    model = RationaleModel(tiny_config(encoders["bert"]).model, get_method(method).stages[0].design, outputs)
    with torch.no_grad():
        model.task_model.head.weight.normal_(std=0.5)
    return model


def gradients(model: RationaleModel, loss: Tensor, part: torch.nn.Module) -> list[Tensor]:
    parameters = list(part.parameters())
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("unfit", [{"extractor": "aa-ig"}, {"extractor": "dlm", "predicts_from": "rationale"}])
def test_a_selection_is_differentiable_only_where_scores_can_learn_through_it(unfit):
    with pytest.raises(ValueError, match="differentiable_selection needs 'dlm' or 'slm'"):
        Design(**unfit, differentiable_selection=True)


@pytest.mark.parametrize("criterion", ["comp", "suff"])
@pytest.mark.parametrize("suff", ["margin", *slow("kl")])
def test_the_extractor_learns_from_faithfulness_where_its_selection_is_differentiable(encoders, split, criterion, suff):
    data, tokens = split
    losses, learned = {}, {}
    for method in ("refer-dlm-fp", "unirex-dlm-fp"):
        model = model_of(encoders, method)
        with dropout_off(model):
            terms = loss_terms(
                model,
                whole_batch(data, tokens),
                global_counts(data, range(8)),
                CRITERIA,
                LossConfig(suff=suff),
                ForwardPlan(),
            )
        losses[method] = {name: float(term.detach()) for name, term in terms.items()}
        learned[method] = gradients(model, terms[criterion], model.extractor)
        assert any(gradient.any() for gradient in gradients(model, terms[criterion], model.task_model))
    assert losses["refer-dlm-fp"] == pytest.approx(losses["unirex-dlm-fp"], abs=1e-6)
    assert all(gradient.any() for gradient in learned["refer-dlm-fp"] if gradient.dim() > 1)
    assert not any(gradient.any() for gradient in learned["unirex-dlm-fp"])


@pytest.mark.slow
def test_a_step_along_the_gradient_of_the_scores_makes_the_losses_smaller(encoders, split):
    """Scores that are learned alone, with the task model as it is: the selection finds what the losses ask for."""
    model, data, batch = model_of(encoders, "refer-dlm-fp"), split[0], whole_batch(*split)
    config = LossConfig(comp="diff", suff="diff", top_k_percents=(20, 50))
    head = model.extractor.head
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    found = []
    with dropout_off(model):
        for _ in range(40):
            terms = loss_terms(model, batch, global_counts(data, range(8)), ("comp", "suff"), config, ForwardPlan())
            loss = terms["comp"] + terms["suff"]
            found.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward(inputs=list(head.parameters()))
            optimizer.step()
    assert sum(found[-5:]) / 5 < found[0] - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("method", ["refer-dlm-fp", "refer-slm-fp"])
def test_any_split_of_a_batch_sums_to_the_whole(encoders, split, method):
    data, tokens = split
    model, counts = model_of(encoders, method), global_counts(data, range(8))

    def run(edges: list[int], plan: ForwardPlan) -> list[Tensor]:
        model.zero_grad()
        for start, end in pairwise(edges):
            batch = collate(data, range(start, end), tokens)
            with dropout_off(model):
                terms = loss_terms(model, batch, counts, CRITERIA, LossConfig(), plan)
            weighted_sum(terms, LossConfig()).backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = run([0, 8], ForwardPlan())
    for plan in (ForwardPlan(), ForwardPlan(token_budget=64), ForwardPlan(drop=False), ForwardPlan(pass_cost=0)):
        assert relative_difference(run([0, 1, 4, 8], plan), expected) < 5e-6


def test_streaming_changes_nothing_with_dropout_on(encoders, split):
    data, tokens = split
    model, found = model_of(encoders, "refer-slm-fp").train(), []
    for stream in (False, True):
        torch.manual_seed(5)
        model.zero_grad()
        plan = ForwardPlan(activation_checkpointing=stream, token_budget=64)
        counts = global_counts(data, range(8))
        terms = loss_terms(model, whole_batch(data, tokens), counts, CRITERIA, LossConfig(), plan)
        weighted_sum(terms, LossConfig()).backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(kept, streamed) for kept, streamed in zip(*found, strict=True))


def test_over_all_samples_of_thresholds_the_gradient_is_that_on_all_of_them(encoders, split):
    data, tokens = split
    model = model_of(encoders, "refer-dlm-fp")

    def gradient(percents: tuple[int, ...]) -> Tensor:
        batch, counts = whole_batch(data, tokens), global_counts(data, range(8))
        config = LossConfig(top_k_percents=percents)
        with dropout_off(model):
            terms = loss_terms(model, batch, counts, ("comp", "suff"), config, ForwardPlan())
        return torch.cat([part.flatten() for part in gradients(model, weighted_sum(terms, config), model.extractor)])

    samples = torch.stack([gradient(percents) for percents in combinations((5, 20, 50), 2)])
    assert relative_difference([samples.mean(0)], [gradient((5, 20, 50))]) < 1e-5


def test_a_trial_says_that_its_losses_mask(encoders, tmp_path):
    config = tiny_config(encoders["bert"], method="refer-slm-fp", train__epochs=1, loss__sampled_top_k=1)
    assert train_trial(config, tiny_corpus((8, 4, 4)), LocalRuntime(tmp_path)).perturbation == "masked"
    trainer = first_stage(config.changed({"method": "unirex-slm-fp"}), tiny_corpus((8, 4, 4)), LocalRuntime(tmp_path))
    assert trainer.setup.forward_plan.drop
