from itertools import pairwise

import pytest
import torch
from tiny import FAMILIES, encode, tiny_config, tiny_corpus, whole_batch

from unirex_ray.models.attribution import dropout_off, integrated_gradients
from unirex_ray.models.heads import TokenHead
from unirex_ray.models.rationale_model import EXTRACTORS, RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.views import Plan


def batch_of(encoder: str, choices: int = 1):
    split, tokens = encode(tiny_config(encoder), tiny_corpus((5, 1, 1), choices=choices).splits["train"])
    return whole_batch(split, tokens)


@pytest.mark.parametrize("choices", [1, 3])
@pytest.mark.parametrize("extractor", sorted(EXTRACTORS))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_extractor_scores_every_token_and_no_padding(encoders, trained, family, extractor, choices):
    model, batch = trained(family, extractor, choices), batch_of(encoders[family], choices)
    with dropout_off(model):
        logits, scores = model.read(batch, Plan(), "predicted")
        again = model.task_model.full_logits(batch, Plan())
    assert logits.shape == (batch.rows, 1 if choices > 1 else 2)
    assert scores.shape == batch.input_ids.shape
    assert scores.isfinite().all()
    assert scores[~batch.attended].eq(0).all()
    assert scores[batch.attended].unique().numel() > batch.rows
    assert torch.allclose(logits, again, atol=1e-6)
    assert scores.requires_grad == (extractor != "aa-ig")


@pytest.mark.parametrize("extractor", ["slm", "dlm"])
def test_a_row_alone_gets_the_scores_that_it_gets_among_others(encoders, trained, extractor):
    model, batch = trained("roberta", extractor), batch_of(encoders["roberta"])
    encoder = model.task_model.encoder if extractor == "slm" else model.extractor.encoder
    with dropout_off(model):
        _, scores = model.read(batch, Plan(), "predicted")
        for row in range(batch.rows):
            length = int(batch.lengths[row])
            states = encoder.backbone(input_ids=batch.input_ids[row : row + 1, :length]).last_hidden_state
            assert torch.allclose(scores[row, :length], model.extractor.head(states)[0], atol=1e-5)


def test_attributions_explain_the_gold_label_in_training_and_the_predicted_one_in_evaluation(encoders, trained):
    model, batch = trained("bert", "aa-ig"), batch_of(encoders["bert"])
    with dropout_off(model):
        logits, predicted = model.read(batch, Plan(), "predicted")
        _, gold = model.read(batch, Plan(), "gold")
        for scores, classes in ((predicted, class_logits(logits, 1).argmax(-1)), (gold, batch.labels)):
            expected = integrated_gradients(model.task_model, batch, classes, steps=3, plan=Plan())
            assert torch.equal(scores, expected)
        opposite = integrated_gradients(model.task_model, batch, 1 - batch.labels, steps=3, plan=Plan())
    assert not torch.equal(opposite, gold)


def test_several_choices_explain_their_one_scalar(encoders, trained):
    model, batch = trained("bert", "aa-ig", 3), batch_of(encoders["bert"], 3)
    _, one = model.read(batch, Plan(), "predicted")
    _, other = model.read(batch, Plan(), "gold")
    assert torch.equal(one, other)


@pytest.mark.parametrize(("kind", "hidden"), [("linear", []), ("mlp-2048-2", [2048] * 2), ("mlp-4096-3", [4096] * 3)])
def test_heads_have_the_layers_of_their_names(kind, hidden):
    head = TokenHead(32, kind)
    sizes = [32, *hidden, 1]
    linear = [part for part in head.layers if isinstance(part, torch.nn.Linear)]
    assert [(part.in_features, part.out_features) for part in linear] == list(pairwise(sizes))
    assert sum(isinstance(part, torch.nn.ReLU) for part in head.layers) == len(hidden)
    assert head(torch.randn(2, 5, 32)).shape == (2, 5)


def test_shared_and_dual_extractors_share_and_double_the_encoder(encoders):
    config = tiny_config(encoders["bert"])
    shared, dual = (RationaleModel(config.model, kind, 2) for kind in ("slm", "dlm"))
    encoder = sum(parameter.numel() for parameter in shared.task_model.encoder.parameters())
    pooler = 32 * 32 + 32
    head = 32 + 1
    assert sum(parameter.numel() for parameter in shared.extractor.parameters()) == head
    assert sum(parameter.numel() for parameter in dual.extractor.parameters()) == encoder - pooler + head
    batch = batch_of(encoders["bert"])
    logits, scores = dual.read(batch, Plan(), "gold")
    (logits.sum() + scores.sum()).backward()
    assert all(parameter.grad is not None for parameter in dual.parameters())  # nothing idle


def test_an_encoder_without_a_pooler_gets_a_new_one(encoders):
    config = tiny_config(encoders["bert"])
    model = RationaleModel(config.model, "slm", 2).task_model
    assert model.pooler is None
    model.encoder.backbone.pooler = None
    other = type(model)(model.encoder, 2)
    batch = batch_of(encoders["bert"])
    assert other.pooler is not None
    with dropout_off(other):
        states, pooled = other.encoder(
            input_ids=batch.input_ids,
            positions=torch.arange(batch.input_ids.shape[1]).expand(batch.rows, -1),
            token_types=batch.token_types,
            attention_mask=batch.attended,
        )
        assert pooled is None
        dense = other.pooler[0]
        expected = other.head(torch.tanh(states[:, 0] @ dense.weight.T + dense.bias))
        assert torch.allclose(other.full_logits(batch, Plan()), expected, atol=1e-5)


@pytest.mark.parametrize("extractor", ["slm", "dlm"])
def test_half_precision_ties_no_scores_and_rounds_no_logits(encoders, trained, extractor):
    model, batch = trained("bert", extractor), batch_of(encoders["bert"])
    with dropout_off(model), torch.no_grad():
        logits, scores = model.read(batch, Plan(), "predicted")
        with torch.autocast("cpu", torch.bfloat16):
            half_logits, half_scores = model.read(batch, Plan(), "predicted")
    for full, half in ((logits, half_logits), (scores[batch.attended], half_scores[batch.attended])):
        assert half.dtype == torch.float32
        assert torch.allclose(half, full, atol=0.1)
        assert float((half == half.bfloat16()).float().mean()) < 0.2  # not rounded at the end
    assert half_scores[batch.attended].unique().numel() == scores[batch.attended].unique().numel()
