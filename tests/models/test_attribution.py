import pytest
import torch
from captum.attr import IntegratedGradients
from tiny import FAMILIES, encode, make_split, tiny_config, tiny_corpus, whole_batch
from torch import Tensor

from unirex_ray.data.batching import Batch, Tokens
from unirex_ray.models.attribution import dropout_off, gauss_legendre, integrated_gradients
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.views import Plan


def plain_logits(model: TaskModel, embeds: Tensor, types: Tensor | None) -> Tensor:
    """The library's own model called the usual way: no position ids, no mask, one row or many of one length."""
    types = None if types is None else types.expand(len(embeds), -1)
    output = model.encoder.backbone(inputs_embeds=embeds, token_type_ids=types)
    logits: Tensor = model.head(output.pooler_output)
    return logits


def rows_of(batch: Batch, family: str, row: int) -> tuple[Tensor, Tensor | None]:
    length = int(batch.lengths[row])
    types = batch.token_types[row : row + 1, :length] if family == "bert" else None
    return batch.input_ids[row : row + 1, :length], types


def path_ends(model: TaskModel, batch: Batch, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of a row, and of its baseline: PAD but for the first token and the separators."""
    table = model.encoder.backbone.get_input_embeddings()
    sep = batch.input_ids[batch.separators][0]
    blank = torch.where(ids == sep, ids, batch.pad_id)
    blank[:, 0] = ids[:, 0]
    return table(ids).detach(), table(blank).detach()


@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_captum_gives_the_same(encoders, trained, family, pair, steps):
    model = trained(family, "slm").task_model
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((4, 1, 1), pair=pair).splits["train"])
    batch = whole_batch(split, tokens)
    classes = torch.tensor([0, 1, 1, 0])
    scores = integrated_gradients(model, batch, classes, steps=steps, plan=Plan())
    with dropout_off(model):
        for row in range(4):
            ids, types = rows_of(batch, family, row)
            inputs, baseline = path_ends(model, batch, ids)
            captum = IntegratedGradients(lambda embeds, types=types: plain_logits(model, embeds, types))
            expected = captum.attribute(
                inputs, baseline, target=int(classes[row]), n_steps=steps, method="gausslegendre"
            ).sum(-1)[0]
            length = len(expected)
            error = float((scores[row, :length] - expected).abs().max())
            assert error < 1e-5 * max(1.0, float(expected.abs().max()))
            assert scores[row, length:].eq(0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_sum_to_the_difference_that_the_tokens_make(encoders, trained, family):
    model = trained(family, "slm").task_model
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((3, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    scores = integrated_gradients(model, batch, torch.ones(3, dtype=torch.long), steps=100, plan=Plan())
    with dropout_off(model):
        for row in range(3):
            ids, types = rows_of(batch, family, row)
            inputs, baseline = path_ends(model, batch, ids)
            whole, blank = (plain_logits(model, embeds, types)[0, 1] for embeds in (inputs, baseline))
            assert float(scores[row].sum()) == pytest.approx(float((whole - blank).detach()), abs=2e-3)
    # The sentiment words carry it, and CLS and SEP nothing at all.
    assert scores[:, 0].eq(0).all()
    assert scores[batch.separators].eq(0).all()
    assert scores[~batch.attended].eq(0).all()
    assert scores.abs().max() > 0


def test_neither_plan_nor_company_changes_scores(encoders, trained):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((6, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    classes = torch.arange(6) % 2
    reference = integrated_gradients(model, batch, classes, steps=3, plan=Plan())
    for plan in (Plan(token_budget=64), Plan(pass_cost=0), Plan(stream=True), Plan(drop=False)):
        again = integrated_gradients(model, batch, classes, steps=3, plan=plan)
        assert torch.allclose(again, reference, atol=1e-5, rtol=1e-5)


def test_nothing_is_left_behind(encoders, trained):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((3, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    model.zero_grad()
    model.train()
    model.dropout.eval()
    modes = [part.training for part in model.modules()]
    state = torch.get_rng_state()
    with torch.no_grad():
        scores = integrated_gradients(model, batch, torch.zeros(3, dtype=torch.long), steps=3, plan=Plan())
    assert not scores.requires_grad
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    model.train()


def test_modes_come_back_after_an_error(trained):
    model = trained("bert", "slm").task_model
    model.train()

    def fail() -> None:
        with dropout_off(model):
            assert not model.training
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert all(part.training for part in model.modules())


def test_text_that_reads_pad_gets_no_score(trained):
    model = trained("bert", "slm").task_model
    split = make_split([[2, 30, 0, 31, 3]], [0])
    batch = whole_batch(split, Tokens(pad_id=0, sep_id=3))
    scores = integrated_gradients(model, batch, torch.tensor([0]), steps=3, plan=Plan())
    assert float(scores[0, 2]) == 0.0
    assert scores[0, [1, 3]].abs().min() > 0


def test_quadrature_by_hand():
    nodes, weights = gauss_legendre(3)
    assert nodes == pytest.approx((0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5))
    assert weights == pytest.approx((5 / 18, 8 / 18, 5 / 18))
    nodes, weights = gauss_legendre(5)
    for power in range(10):  # exact up to degree 2n - 1
        integral = sum(weight * node**power for node, weight in zip(nodes, weights, strict=True))
        assert integral == pytest.approx(1 / (power + 1))
