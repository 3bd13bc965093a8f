"""Dropped equals masked, streamed equals not streamed, and no plan changes a number."""

import pytest
import torch
from helpers.marks import slow
from helpers.tiny import (
    FAMILIES,
    FAST_FAMILIES,
    encode,
    make_split,
    tiny_config,
    tiny_corpus,
    trained_model,
    whole_batch,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unirex_ray.config import LossConfig
from unirex_ray.data.batching import Batch
from unirex_ray.data.corpora.reviews import make_reviews
from unirex_ray.data.encoded import EncodedSplit, SpecialTokens
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.design import Design
from unirex_ray.models.extractor import ExtractorOutput
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan, perturbed_subsets
from unirex_ray.training.step import global_counts, loss_terms, weighted_sum

CRITERIA = ("task", "comp", "suff", "plaus")
TOLERANCE = 1e-5


class GivenScores(nn.Module):
    """An extractor whose scores are its parameters."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def extract(self, task_model, batch, plan, target, *, learn):
        return ExtractorOutput(task_model.full_logits(batch, plan), self.scores)


def losses_and_gradients(
    model: RationaleModel,
    split: EncodedSplit,
    batch: Batch,
    plan: ForwardPlan,
    config: LossConfig,
    differentiated: tuple[str, ...] = (*CRITERIA, "loss"),
) -> tuple[dict[str, float], dict[str, list[Tensor]]]:
    """Every loss and their weighted sum, and the gradients of the `differentiated` ones."""
    counts = global_counts(split, range(len(split)))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    terms = loss_terms(model, batch, counts, CRITERIA, config, plan)
    terms_and_sum = {**terms, "loss": weighted_sum(terms, config)}
    gradients = {}
    for name in differentiated:
        term = terms_and_sum[name]
        if not term.requires_grad:  # plausibility where no row has gold
            gradients[name] = [torch.zeros_like(parameter) for parameter in parameters]
            continue
        grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        gradients[name] = list(grads)
    return {name: float(term.detach()) for name, term in terms_and_sum.items()}, gradients


def assert_same(results, expected, *, tolerance: float = TOLERANCE) -> None:
    for name, value in results[0].items():
        assert value == pytest.approx(expected[0][name], rel=tolerance, abs=tolerance), name
    norms = {name: float(flat(gradients).norm()) for name, gradients in expected[1].items()}
    for name, gradients in results[1].items():
        # comp and suff subtract gradients as large as the task's, and rounding is relative to those.
        scale = max(norms[name], norms.get("task", 0.0))
        assert float((flat(gradients) - flat(expected[1][name])).norm()) <= tolerance * scale, name


def flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


@st.composite
def problems(draw):
    """Rows of any length, scores with ties, thresholds."""
    instances, choices = draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 3]))
    lengths = draw(st.lists(st.integers(1, 30), min_size=instances * choices, max_size=instances * choices))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    words = [torch.randint(4, 140, (length,), generator=generator).tolist() for length in lengths]
    share = draw(st.sampled_from([0.0, 0.3]))
    gold = [(torch.rand(length, generator=generator) < share).tolist() for length in lengths]
    scores = torch.randn(len(lengths), max(lengths) + 2, generator=generator)
    if draw(st.booleans()):
        scores = scores.round()  # ties
    labels = torch.randint(0, max(2, choices), (instances,), generator=generator).tolist()
    percents = draw(st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True))
    return words, gold, labels, choices, scores, percents


def given_rows(family: str, words, gold, labels, choices) -> tuple[EncodedSplit, Batch]:
    pad, cls, sep = (0, 2, 3) if family == "bert" else (1, 0, 2)
    rows = [[cls, *row, sep] for row in words]
    flags = [[False, *row, False] for row in gold]
    types = [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in rows]
    split = make_split(rows, labels, flags, types if family == "bert" else None, choices)
    return split, whole_batch(split, SpecialTokens(pad_id=pad, sep_id=sep))


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(problem=problems(), kind=st.sampled_from(["margin", "diff"]))
@pytest.mark.parametrize("family", FAMILIES)
def test_dropped_equals_masked_for_any_scores(trained, family, problem, kind):
    words, gold, labels, choices, scores, percents = problem
    model = trained(family, "slm", choices)
    split, batch = given_rows(family, words, gold, labels, choices)
    with_given = RationaleModel.__new__(RationaleModel)
    nn.Module.__init__(with_given)
    with_given.design = Design(extractor="slm")
    with_given.task_model = model.task_model
    with_given.extractor = GivenScores(scores.masked_fill(~batch.attended, 0.0))
    config = LossConfig(comp=kind, suff=kind, top_k_percents=tuple(percents))
    subsets = perturbed_subsets(batch, scores, percents).subsets
    with dropout_off(with_given):
        masked = with_given.task_model.logits(batch, subsets, ForwardPlan(drop=False)).detach()
        reference = losses_and_gradients(with_given, split, batch, ForwardPlan(drop=False), config)
        assert_same(losses_and_gradients(with_given, split, batch, ForwardPlan(), config), reference)
        for plan in (
            ForwardPlan(),
            ForwardPlan(token_budget=64),
            ForwardPlan(pass_cost=0),
            ForwardPlan(activation_checkpointing=True),
        ):
            dropped = with_given.task_model.logits(batch, subsets, plan).detach()
            assert float((dropped - masked).abs().max()) < TOLERANCE
            assert_same(losses_and_gradients(with_given, split, batch, plan, config, ("loss",)), reference)


@settings(max_examples=5, deadline=None)
@given(problem=problems())
@pytest.mark.parametrize("extractor", ["slm", *slow("dlm", "aa-ig")])
@pytest.mark.parametrize("family", FAST_FAMILIES)
def test_dropped_equals_masked_for_every_extractor(trained, family, extractor, problem):
    words, gold, labels, choices, _, percents = problem
    model = trained(family, extractor, choices)
    split, batch = given_rows(family, words, gold, labels, choices)
    config = LossConfig(top_k_percents=tuple(percents))
    with dropout_off(model):
        results = [
            losses_and_gradients(model, split, batch, plan, config) for plan in (ForwardPlan(), ForwardPlan(drop=False))
        ]
        assert_same(*results)


@pytest.fixture(scope="module")
def embedded() -> tuple[RationaleModel, EncodedSplit, Batch]:
    corpus = make_reviews(sizes={"train": 8, "dev": 4, "test": 0})
    config = tiny_config("embedded", train__learning_rate=1e-4, data__cache=None)
    model = trained_model(config, "slm", corpus, steps=3, size=4)
    split, tokens = encode(config, corpus.splits["dev"])
    return model, split, whole_batch(split, tokens)


@pytest.mark.slow
@pytest.mark.parametrize("percents", [(1, 5, 10, 20, 50), (20,)])
def test_dropped_equals_masked_for_the_embedded_encoder_after_training(embedded, percents):
    model, split, batch = embedded
    config = LossConfig(top_k_percents=percents)
    with dropout_off(model), torch.no_grad():
        scores = model.extract(batch, ForwardPlan(), "gold").scores
        subsets = perturbed_subsets(batch, scores, percents).subsets
        logits = [model.task_model.logits(batch, subsets, ForwardPlan(drop=drop)) for drop in (True, False)]
    assert float((logits[0] - logits[1]).abs().max()) < TOLERANCE
    with dropout_off(model):
        results = [
            losses_and_gradients(model, split, batch, ForwardPlan(drop=drop), config, ("loss",))
            for drop in (True, False)
        ]
    assert_same(*results)


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["slm", "dlm", "aa-ig"])
@pytest.mark.parametrize("drop", [True, False])
def test_streaming_changes_nothing_with_dropout_on(encoders, trained, extractor, drop):
    config = tiny_config(encoders["bert"])
    model = trained("bert", extractor)
    split, tokens = encode(config, tiny_corpus((6, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    criteria = CRITERIA if extractor != "aa-ig" else CRITERIA[:3]
    gradients = []
    model.train()
    for stream in (False, True):
        torch.manual_seed(5)
        model.zero_grad()
        plan = ForwardPlan(activation_checkpointing=stream, drop=drop, token_budget=64)
        terms = loss_terms(model, batch, global_counts(split, range(6)), criteria, config.loss, plan)
        weighted_sum(terms, config.loss).backward()
        gradients.append([torch.zeros(1) if p.grad is None else p.grad.clone() for p in model.parameters()])
    model.zero_grad()
    assert all(torch.equal(kept, streamed) for kept, streamed in zip(*gradients, strict=True))
    assert any(float(gradient.abs().sum()) > 0 for gradient in gradients[0])


def test_streaming_keeps_no_activations_of_a_pass(encoders, trained):
    model = trained("bert", "slm")
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((6, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)

    def saved(stream: bool) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
            model.task_model.full_logits(batch, ForwardPlan(activation_checkpointing=stream))
        return sum(sizes)

    assert saved(True) < saved(False) / 10


def test_class_logits_of_choices_by_hand():
    rows = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])
    assert class_logits(rows, 3).tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert class_logits(torch.stack([rows, rows + 1]), 3).tolist()[1] == [[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]]
    assert torch.equal(class_logits(rows.view(3, 2), 1), rows.view(3, 2))
