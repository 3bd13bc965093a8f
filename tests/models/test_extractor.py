import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.marks import slow
from helpers.tiny import FAST_FAMILIES, encode, tiny_config, tiny_corpus, whole_batch

from unirex_ray.data.batching import collate
from unirex_ray.models.attribution import attribute, dropout_off
from unirex_ray.models.design import Design
from unirex_ray.models.heads import TokenHead
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan, perturbed_subsets


def batch_of(encoder: str, choices: int = 1):
    split, tokens = encode(tiny_config(encoder), tiny_corpus((5, 1, 1), choices=choices).splits["train"])
    return whole_batch(split, tokens)


@pytest.mark.slow
@pytest.mark.parametrize("choices", [1, 3])
@pytest.mark.parametrize("extractor", ["aa-deeplift", "aa-grad", "aa-ig", "aa-input-x-grad", "dlm", "slm"])
@pytest.mark.parametrize("family", FAST_FAMILIES)
def test_every_extractor_scores_every_token_and_no_padding(encoders, trained, family, extractor, choices):
    model, batch = trained(family, extractor, choices), batch_of(encoders[family], choices)
    with dropout_off(model):
        extracted = model.extract(batch, ForwardPlan())
        (logits,) = model.full_logits(batch, extracted, (20,), ForwardPlan())
        again, scores = model.task_model.full_logits(batch, ForwardPlan()), extracted.scores
    assert logits.shape == (batch.rows, 1 if choices > 1 else 2)
    assert scores.shape == batch.input_ids.shape
    assert scores.isfinite().all()
    assert scores[~batch.attended].eq(0).all()
    assert scores[batch.attended].unique().numel() > batch.rows
    assert torch.allclose(logits, again, atol=1e-6)
    assert scores.requires_grad == (not extractor.startswith("aa-"))


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["slm", *slow("dlm")])
def test_a_row_alone_gets_the_scores_that_it_gets_among_others(encoders, trained, extractor):
    model, batch = trained("roberta", extractor), batch_of(encoders["roberta"])
    encoder = model.task_model.encoder if extractor == "slm" else model.extractor.encoder
    with dropout_off(model):
        scores = model.extract(batch, ForwardPlan(), "predicted").scores
        for row in range(batch.rows):
            length = int(batch.lengths[row])
            states = encoder.backbone(input_ids=batch.input_ids[row : row + 1, :length]).last_hidden_state
            assert torch.allclose(scores[row, :length], model.extractor.head(states)[0], atol=1e-5)


@pytest.mark.slow
def test_attributions_explain_the_gold_label_in_training_and_the_predicted_one_in_evaluation(encoders, trained):
    model, batch = trained("bert", "aa-ig"), batch_of(encoders["bert"])
    with dropout_off(model):
        logits, predicted = model.extract(batch, ForwardPlan(), "predicted")
        gold = model.extract(batch, ForwardPlan(), "gold").scores
        for scores, classes in ((predicted, class_logits(logits, 1).argmax(-1)), (gold, batch.labels)):
            expected = attribute(model.task_model, batch, classes, "ig", ForwardPlan(), steps=3)
            assert torch.equal(scores, expected)
        opposite = attribute(model.task_model, batch, 1 - batch.labels, "ig", ForwardPlan(), steps=3)
    assert not torch.equal(opposite, gold)


@pytest.mark.slow
def test_several_choices_explain_their_one_scalar(encoders, trained):
    model, batch = trained("bert", "aa-ig", 3), batch_of(encoders["bert"], 3)
    predicted, gold = (model.extract(batch, ForwardPlan(), target).scores for target in ("predicted", "gold"))
    assert torch.equal(predicted, gold)


@pytest.mark.slow
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
    shared, dual = (RationaleModel(config.model, Design(extractor=kind), 2) for kind in ("slm", "dlm"))
    encoder = sum(parameter.numel() for parameter in shared.task_model.encoder.parameters())
    pooler = 32 * 32 + 32
    head = 32 + 1
    assert sum(parameter.numel() for parameter in shared.extractor.parameters()) == head
    assert sum(parameter.numel() for parameter in dual.extractor.parameters()) == encoder - pooler + head
    batch = batch_of(encoders["bert"])
    extracted = dual.extract(batch, ForwardPlan(), "gold")
    logits, scores = dual.full_logits(batch, extracted, (20,), ForwardPlan()), extracted.scores
    (logits.sum() + scores.sum()).backward()
    assert all(parameter.grad is not None for parameter in dual.parameters())  # nothing idle


def test_an_encoder_without_a_pooler_gets_a_new_one(encoders):
    config = tiny_config(encoders["bert"])
    model = RationaleModel(config.model, Design(extractor="slm"), 2).task_model
    assert model.pooler is None
    model.encoder.drop_pooler()
    other = type(model)(model.encoder, 2)
    batch = batch_of(encoders["bert"])
    assert other.pooler is not None
    with dropout_off(other):
        states, pooled = other.encoder(
            input_ids=batch.input_ids,
            position_ids=torch.arange(batch.input_ids.shape[1]).expand(batch.rows, -1),
            token_types=batch.token_types,
            attention_mask=batch.attended,
        )
        assert pooled is None
        dense = other.pooler[0]
        expected = other.head(torch.tanh(states[:, 0] @ dense.weight.T + dense.bias))
        assert torch.allclose(other.full_logits(batch, ForwardPlan()), expected, atol=1e-5)


@pytest.mark.parametrize("extractor", ["slm", *slow("dlm")])
def test_half_precision_ties_no_scores_and_rounds_no_logits(encoders, trained, extractor):
    model, batch = trained("bert", extractor), batch_of(encoders["bert"])
    with dropout_off(model), torch.no_grad():
        logits, scores = model.full_logits(batch, None, (20,), ForwardPlan()), model.scores(batch, ForwardPlan())
        with torch.autocast("cpu", torch.bfloat16):
            half_logits, half_scores = (
                model.full_logits(batch, None, (20,), ForwardPlan()),
                model.scores(batch, ForwardPlan()),
            )
    for full, half in ((logits, half_logits), (scores[batch.attended], half_scores[batch.attended])):
        assert half.dtype == torch.float32
        assert torch.allclose(half, full, atol=0.1)
        assert float((half == half.bfloat16()).float().mean()) < 0.2  # not rounded at the end
    assert half_scores[batch.attended].unique().numel() == scores[batch.attended].unique().numel()


def model_of(encoders, kind: str, **options) -> RationaleModel:
    design = {"extractor": kind} | options
    torch.manual_seed(0)
    return RationaleModel(tiny_config(encoders["bert"]).model, Design(**design), 2, seed=7)


def test_random_scores_are_one_draw_per_instance_and_seed(encoders):
    config, corpus = tiny_config(encoders["bert"]), tiny_corpus((200, 1, 1))
    split, tokens = encode(config, corpus.splits["train"])
    model, batch = model_of(encoders, "rand"), whole_batch(split, tokens)
    scores = model.scores(batch, ForwardPlan())
    attended_scores = scores[batch.attended]
    assert float(attended_scores.mean()) == pytest.approx(0, abs=0.06)
    assert float(attended_scores.std()) == pytest.approx(1, abs=0.06)
    assert attended_scores.unique().numel() == attended_scores.numel()
    assert not scores[~batch.attended].any()
    few = collate(split, [150, 3], tokens)
    for row, number in enumerate((150, 3)):
        length = int(few.lengths[row])
        assert torch.equal(model.scores(few, ForwardPlan())[row, :length], scores[number, :length])
    other = RationaleModel(config.model, Design(extractor="rand"), 2, seed=8)
    assert not torch.equal(other.scores(batch, ForwardPlan()), scores)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.scores(batch, ForwardPlan()), scores)


def test_gold_and_its_inverse(encoders):
    batch = batch_of(encoders["bert"])
    gold, inverted = (model_of(encoders, kind).scores(batch, ForwardPlan()) for kind in ("gold", "inv"))
    assert torch.equal(gold, batch.gold.float())
    assert torch.equal(gold + inverted, batch.attended.float())


def test_a_selection_is_the_top_of_the_earlier_scores_and_leaves_their_model_alone(encoders, trained):
    source, batch = trained("bert", "slm"), batch_of(encoders["bert"])
    design = Design(extractor="selection", predicts_from="rationale", top_k_percent=30)
    model = RationaleModel(tiny_config(encoders["bert"]).model, design, 2, earlier=copy.deepcopy(source)).train()
    with dropout_off(source), torch.no_grad():
        expected = source.scores(batch, ForwardPlan())
    for _ in range(2):  # dropout of the earlier model is off although this one is in training mode
        scores = model.scores(batch, ForwardPlan())
        for row, length in enumerate(batch.lengths.tolist()):
            order = sorted(range(1, length), key=lambda token: (-float(expected[row, token]), token))
            top = order[: max(1, round((length - 1) * 0.3))]
            assert scores[row].nonzero().flatten().tolist() == sorted(top)
    with_teacher = replace(batch, teacher_scores=-expected)
    assert not torch.equal(model.scores(with_teacher, ForwardPlan()), scores)
    assert all(not parameter.requires_grad for parameter in model.extractor.parameters())
    assert all(parameter.requires_grad for parameter in model.task_model.parameters())


def test_a_pipeline_predicts_from_its_rationale_without_gaps_and_from_cls_without_it(encoders, trained):
    earlier, batch = copy.deepcopy(trained("bert", "slm")), batch_of(encoders["bert"])
    design = Design(extractor="selection", predicts_from="rationale", top_k_percent=30)
    model = RationaleModel(tiny_config(encoders["bert"]).model, design, 2, earlier=earlier)
    predictor = model.task_model
    with dropout_off(model), torch.no_grad():
        extracted = model.extract(batch, ForwardPlan())
        full_logits = model.full_logits(batch, extracted, (1, 5, 50), ForwardPlan())
        complement_logits, rationale_logits = model.perturbed_logits(
            batch, extracted.scores, full_logits, (1, 5, 50), ForwardPlan(), "fresh"
        )
        assert full_logits.shape == (1, batch.rows, 2)
        assert complement_logits.shape == rationale_logits.shape == (3, batch.rows, 2)
        for row in range(batch.rows):
            kept = [0, *extracted.scores[row].nonzero().flatten().tolist()]
            for columns, results in ((kept, [full_logits[0], *rationale_logits]), ([0], list(complement_logits))):
                output = predictor.encoder.backbone(
                    input_ids=batch.input_ids[row, columns][None], token_type_ids=batch.token_types[row, columns][None]
                )
                expected = predictor.head(output.pooler_output)[0]
                assert all(torch.allclose(logits[row], expected, atol=1e-5) for logits in results)


def test_a2r_reads_the_rationale_of_every_threshold(encoders):
    batch = batch_of(encoders["bert"])
    model = model_of(encoders, "dlm", predicts_from="rationale", attention_predictor=True)
    with dropout_off(model), torch.no_grad():
        extracted = model.extract(batch, ForwardPlan())
        full_logits = model.full_logits(batch, extracted, (10, 50), ForwardPlan())
        complement_logits, rationale_logits = model.perturbed_logits(
            batch, extracted.scores, full_logits, (10, 50), ForwardPlan(), "fresh"
        )
        subsets = perturbed_subsets(batch, extracted.scores, (10, 50))
        expected = model.task_model.logits(batch, subsets.subsets, ForwardPlan(), positions="fresh")[subsets.index[1]]
    assert torch.allclose(full_logits, expected, atol=1e-6)
    assert torch.equal(rationale_logits, full_logits)
    assert torch.equal(complement_logits[0], complement_logits[1])


def test_the_attention_predictor_weighs_states_by_softmax_of_scores(encoders):
    batch = batch_of(encoders["bert"])
    predictor = model_of(encoders, "dlm", predicts_from="rationale", attention_predictor=True).attention_predictor
    scores = torch.randn(batch.input_ids.shape, requires_grad=True)
    with dropout_off(predictor):
        logits = predictor.logits(batch, scores, ForwardPlan(token_budget=64))
        for row, length in enumerate(batch.lengths.tolist()):
            ids, types = batch.input_ids[row : row + 1, :length], batch.token_types[row : row + 1, :length]
            states = predictor.encoder.backbone(input_ids=ids, token_type_ids=types).last_hidden_state[0]
            expected = predictor.head(scores[row, :length].softmax(0) @ states)
            assert torch.allclose(logits[row], expected, atol=1e-5)
    logits[:, 0].sum().backward()
    assert scores.grad is not None
    assert scores.grad[batch.attended].abs().min() > 0
    assert not scores.grad[~batch.attended].any()


def test_an_imitator_scores_by_its_most_likely_class(encoders):
    batch = batch_of(encoders["bert"])
    earlier = model_of(encoders, "aa-ig")
    design = Design(extractor="imitation", task_model="earlier")
    model = RationaleModel(tiny_config(encoders["bert"]).model, design, 2, earlier=earlier)
    with dropout_off(model), torch.no_grad():
        classes = model.extractor.token_logits(batch, ForwardPlan()).argmax(-1)
        scores = model.scores(batch, ForwardPlan())
    assert torch.equal(scores[batch.attended], (classes - 2).float()[batch.attended])
    assert not scores[~batch.attended].any()
    assert model.task_model is earlier.task_model
    assert all(not parameter.requires_grad for parameter in model.task_model.parameters())


def test_designs_that_make_no_sense_are_refused(encoders):
    with pytest.raises(ValueError, match="top_k_percent must be set for 'selection' and for no other"):
        Design(extractor="selection")
    with pytest.raises(ValueError, match="top_k_percent must be set for 'selection' and for no other"):
        Design(extractor="dlm", top_k_percent=10)
    with pytest.raises(ValueError, match="builds on an earlier stage"):
        model_of(encoders, "imitation", task_model="earlier")


def test_pooling_by_a_head_trains_the_head_through_attributions(encoders):
    config = tiny_config(encoders["bert"]).changed({"model.pooling": "mlp"})
    model, batch = RationaleModel(config.model, Design(extractor="aa-ig"), 2), batch_of(encoders["bert"])
    scores = model.extract(batch, ForwardPlan(), "gold", learn=np.ones(batch.rows, bool)).scores
    assert scores.shape == batch.input_ids.shape
    scores.sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in model.extractor.parameters() if p.dim() == 2)
    table = model.task_model.encoder.word_embeddings
    assert table.weight.grad is not None
    assert table.weight.grad.abs().sum() > 0
