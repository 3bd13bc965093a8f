"""One contract for every method of the paper, from recipe to a folder that others can load."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.marks import slow, slow_but
from helpers.tiny import encode, first_stage, last_stage, tiny_config, tiny_corpus, whole_batch

from unirex_ray.config import Config, config_keys
from unirex_ray.data.batching import Batch
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import Corpus
from unirex_ray.methods import METHODS, Method, Stage, get_method
from unirex_ray.methods.recipe import WEIGHT_KEYS
from unirex_ray.metrics.table import LOGGED, STANDARD_ERRORS, TIES, VERDICT
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.design import Design
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.store import load_model, save_model
from unirex_ray.models.token_subsets import ForwardPlan, rationale_subsets
from unirex_ray.models.top_k import selection_size
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.stage import StageTrainer
from unirex_ray.training.state import TrialResult
from unirex_ray.training.step import global_counts, loss_terms, weighted_sum
from unirex_ray.training.trial import final_result, train_trial

SIXTEEN = (
    "aa-grad",
    "aa-input-x-grad",
    "aa-deeplift",
    "aa-ig",
    "l2e",
    "sgt",
    "fresh",
    "a2r",
    "unirex-aa-f",
    "sgt-p",
    "fresh-p",
    "a2r-p",
    "unirex-dlm-p",
    "unirex-aa-fp",
    "unirex-dlm-fp",
    "unirex-slm-fp",
)
ABLATIONS = ("unirex-aa-f-rand", "unirex-aa-f-gold", "unirex-aa-f-inv")
REFERENCES = ("reference-gold", "reference-rand", "reference-inv")
TWO_STAGE = ("unirex-dlm-fp-two-stage", "unirex-slm-fp-two-stage")
BEYOND = ("refer-dlm-fp", "refer-slm-fp")
ALL = (*SIXTEEN, "unirex-slm-p", *ABLATIONS, *REFERENCES, *TWO_STAGE, *BEYOND)
WITHOUT_GOLD = (*SIXTEEN[:9], *ABLATIONS, *REFERENCES)
FAST = ("fresh-p", "unirex-slm-fp", "refer-dlm-fp")
"""A pipeline and joint methods; the tests of the others are slow."""
PIPELINES = ("fresh", "fresh-p", "a2r", "a2r-p")
KEYS = ("loss", "task_score", "accuracy", "macro_f1", "comprehensiveness", "sufficiency", "csd", "auprc", "token_f1")

Prepared = Callable[..., tuple[Config, Corpus]]


@pytest.fixture(params=slow_but(FAST, ALL))
def method(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def prepared(encoders: dict[str, str]) -> Prepared:
    """A configuration of a method, and a corpus with one input per instance or with three choices."""

    def prepare(method: str, choices: int = 1, **overrides: object) -> tuple[Config, Corpus]:
        changed = {"train__epochs": 2, "loss__top_k_percents": (10, 50), **overrides}
        return tiny_config(encoders["bert"], method=method, **changed), tiny_corpus((16, 8, 8), choices=choices)

    return prepare


def trained(config: Config, corpus: Corpus, folder: Path) -> tuple[StageTrainer, TrialResult]:
    trainer = last_stage(config, corpus, LocalRuntime(folder))
    trainer.train()
    return trainer, final_result(trainer, time.perf_counter())[0]


def lasting(result: TrialResult) -> dict[str, float]:
    return {key: value for key, value in result.metrics.flat().items() if not key.startswith("time/")}


def outputs(model: RationaleModel, batch: Batch) -> list[torch.Tensor]:
    """Everything that evaluation reads of a model."""
    with dropout_off(model), torch.no_grad():
        extracted = model.extract(batch, ForwardPlan())
        full = model.full_logits(batch, extracted, (5, 50), ForwardPlan())
        perturbed = model.perturbed_logits(batch, extracted.scores, full, (5, 50), ForwardPlan(), "fresh")
        return [extracted.scores, full, *perturbed]


def test_all_are_there() -> None:
    assert set(METHODS) == set(ALL)
    assert len(ALL) == 27
    assert {name for name, method in METHODS.items() if method.in_global_nrg} == {*SIXTEEN, "unirex-slm-p"}
    assert {name for name, method in METHODS.items() if not method.needs_gold} == set(WITHOUT_GOLD)
    weights = {name: sum(map(method.reads, WEIGHT_KEYS.values())) for name, method in METHODS.items()}
    # 3 values each: 27 configurations for FP, 9 for AA-F and SGT+P, 3 for SGT and P, 1 for none.
    assert [weights[name] for name in ("unirex-slm-fp", "unirex-aa-f", "sgt-p", "sgt", "unirex-dlm-p", "aa-ig")] == [
        3,
        2,
        2,
        1,
        1,
        0,
    ]


@pytest.mark.parametrize("choices", [1, *slow(3)])
def test_a_trial_of_any_method(method: str, choices: int, prepared: Prepared, tmp_path: Path) -> None:
    config, corpus = prepared(method, choices)
    trainer, result = trained(config, corpus, tmp_path)
    keys = {*KEYS, *(metric.key for metric in (*STANDARD_ERRORS.values(), *VERDICT))}
    assert set(lasting(result)) == {f"{split}/{key}" for split in ("dev", "test") for key in keys} | (
        {"dev/stage_loss"} if method == "l2e" else set()
    ) | {metric.on("dev") for metric in TIES}
    assert all(math.isfinite(value) for value in result.metrics.flat().values())
    assert set(result.metrics.flat()) <= {metric.on(group) for group in LOGGED for metric in LOGGED[group]}
    assert len(result.highlights) == 8
    if method in PIPELINES:
        assert result.metrics.flat()["test/sufficiency"] == 0.0
    if method in ("unirex-aa-f-gold", "reference-gold"):
        assert (result.metrics.flat()["test/auprc"], result.metrics.flat()["test/token_f1"]) == (100.0, 100.0)

    split, tokens = encode(config, corpus.splits["test"])
    batch = whole_batch(split, tokens)
    scores = outputs(trainer.model, batch)[0]
    assert scores.shape == batch.input_ids.shape
    assert scores.isfinite().all()
    assert not scores[~batch.attended].any()
    subsets = rationale_subsets(batch, scores, (20,))
    expected = [1 + selection_size(length - 1, 20) for length in batch.lengths.tolist()]
    assert subsets.subsets.lengths[subsets.index[0]].tolist() == expected
    if method in ("fresh", "fresh-p"):
        assert scores.sum(1).tolist() == [selection_size(length - 1, 10) for length in batch.lengths.tolist()]

    save_model(tmp_path / "model", trainer.model, load_tokenizer(config.model), config.model, trainer.setup.card)
    loaded, _, card = load_model(tmp_path / "model")
    assert card == trainer.setup.card
    for one, other in zip(outputs(loaded, batch), outputs(trainer.model, batch), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_one_seed_repeats_and_two_differ(method: str, prepared: Prepared, tmp_path: Path) -> None:
    config, corpus = prepared(method)
    one, again, other = (
        train_trial(config.changed({"train.seed": seed}), corpus, LocalRuntime(tmp_path / name))
        for name, seed in (("one", 3), ("again", 3), ("other", 4))
    )
    assert lasting(one) == lasting(again)
    assert one.highlights == again.highlights
    assert lasting(one) != lasting(other)


def own_objective(trainer: StageTrainer) -> float:
    """The last stage's loss over the whole train set, dropout off."""
    split, instances = trainer.data["train"], range(len(trainer.data["train"]))
    with dropout_off(trainer.model):
        batch = whole_batch(split, trainer.setup.encoded.special_tokens)
        criteria, counts = trainer.setup.method.stages[-1].criteria, global_counts(split, instances)
        terms = loss_terms(
            trainer.model, batch, counts, criteria, trainer.setup.config.loss, trainer.setup.forward_plan
        )
        return float(weighted_sum(terms, trainer.setup.config.loss).detach())


@pytest.mark.slow
def test_training_lowers_the_objective_of_the_last_stage(
    method: str, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"train__epochs": 8, "train__patience": 8, "train__batch_size": 16, "train__learning_rate": 1e-3}
    config, corpus = prepared(method, model__dropout=0.0, **changes)
    # Dev may call for an early epoch; here the last one is to be looked at.
    monkeypatch.setattr(StageTrainer, "load_best", lambda self: None)
    trainer = last_stage(config, corpus, LocalRuntime(tmp_path))
    before = own_objective(trainer)
    trainer.train()
    assert own_objective(trainer) < before - 0.01


KINDS = ("bce", "kl", "linear", "linear_margin")
FAST_PAIRS = [(name, KINDS[0]) for name in FAST]


@pytest.mark.parametrize(
    ("name", "plaus"),
    slow_but(FAST_PAIRS, [(name, kind) for name in ALL for kind in (KINDS[:1] if name in WITHOUT_GOLD else KINDS)]),
)
@pytest.mark.parametrize("choices", [1, *slow(3)])
def test_odd_batches_give_finite_losses_and_gradients(
    name: str, plaus: str, choices: int, prepared: Prepared, tmp_path: Path
) -> None:
    """Texts of one word beside long ones, none of them with a gold rationale, and logits that are very sure."""
    config, corpus = prepared(name, choices, loss__plaus=plaus)

    def odd(number: int, text: str) -> Instance:
        return Instance(id=f"odd-{number}", inputs=(Input(segments=(text,)),) * choices, label=number % 2)

    texts = ("good1", "w3", "w1 w2 w3 bad1 w4 w5 w6 w7", "bad0")
    # Beside them some with gold rationales: without any, methods that learn from them are refused.
    train = (*map(odd, range(4), texts), *corpus.splits["train"])
    corpus = replace(corpus, splits={**corpus.splits, "train": InstanceTable.from_instances(train)})
    trainer = last_stage(config, corpus, LocalRuntime(tmp_path))
    with torch.no_grad():
        trainer.model.task_model.head.weight.mul_(1e3)
    losses = trainer.learner.gradients([0, 1, 2, 3])
    assert all(math.isfinite(float(loss)) for loss in losses.values())
    assert losses.get("plaus_loss", 0.0) == 0.0
    grads = [parameter.grad for parameter in trainer.learner.parameters if parameter.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)


SEVENTEENTH = Method(
    name="seventeenth",
    label="AA (Grad) on rationales of Input*Grad",
    stages=(
        Stage(name="task-model", criteria=("task",), design=Design(extractor="aa-input-x-grad"), shared=True),
        Stage(
            name="predict",
            criteria=("task", "plaus"),
            design=Design(extractor="dlm", predicts_from="rationale"),
        ),
    ),
)


@pytest.fixture
def seventeenth(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(METHODS, SEVENTEENTH.name, SEVENTEENTH)
    return SEVENTEENTH.name


def test_a_recipe_knows_the_keys_that_it_reads() -> None:
    def unread(name: str) -> set[str]:
        return {key for key in config_keys() if not METHODS[name].reads(key)}

    comp, suff, plaus = (
        {f"loss.{name}", f"loss.{name}_margin", f"loss.{name}_weight"} for name in ("comp", "suff", "plaus")
    )
    plaus |= {"data.gold_percent", "data.gold_batch_factor"}
    ig = {"model.ig_steps", "model.pooling", "model.convergence_delta"}
    agreement, warmup, head = {"loss.agreement_weight"}, {"loss.warmup"}, {"model.head"}
    k = {"loss.top_k_percents", "loss.sampled_top_k"}
    assert unread("unirex-slm-fp") == agreement | ig
    assert unread("unirex-slm-fp-two-stage") == agreement | ig
    assert unread("refer-slm-fp") == unread("unirex-slm-fp")
    assert unread("unirex-aa-fp") == agreement | head
    assert unread("sgt") == comp | plaus | agreement | head
    assert unread("aa-grad") == comp | suff | plaus | agreement | warmup | k | ig | head
    assert unread("l2e") == comp | suff | plaus | agreement | warmup | k
    assert unread("fresh") == comp | suff | plaus | agreement | warmup | k | head
    assert unread("a2r") == comp | suff | plaus | warmup | ig


def test_only_a_first_stage_can_be_shared() -> None:
    stage = Stage(name="task-model", criteria=("task",), design=Design(extractor="aa-ig"), shared=True)
    with pytest.raises(ValueError, match="only a first stage can be shared"):
        Method(name="x", label="X", stages=(stage, stage))


IMITATES_DLM = Method(
    name="imitates-dlm",
    label="L2E of DLM-P",
    stages=(
        Stage(name="dlm-p", criteria=("task", "plaus"), design=Design(extractor="dlm")),
        Stage(name="imitate", criteria=("imitation",), design=Design(extractor="imitation", task_model="earlier")),
    ),
)


@pytest.mark.slow
def test_a_restart_hands_on_what_an_earlier_extractor_had_learned(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, IMITATES_DLM.name, IMITATES_DLM)
    config, corpus = prepared(IMITATES_DLM.name)
    trainer = last_stage(config, corpus, LocalRuntime(tmp_path))
    again = first_stage(config, corpus, LocalRuntime(tmp_path))
    assert again.state.stage == 1
    for split in ("train", "dev"):
        teacher_scores = again.data[split].teacher_scores
        assert teacher_scores is not None
        assert teacher_scores.abs().max() > 0
        assert torch.equal(teacher_scores, trainer.data[split].teacher_scores)


@pytest.mark.slow
def test_another_method_is_one_recipe(seventeenth: str, prepared: Prepared, tmp_path: Path) -> None:
    assert [key for key in WEIGHT_KEYS.values() if get_method(seventeenth).reads(key)] == ["loss.plaus_weight"]
    config, corpus = prepared(seventeenth)
    result = train_trial(config, corpus, LocalRuntime(tmp_path))
    assert all(math.isfinite(value) for value in result.metrics.flat().values())
    assert result.metrics.flat()["test/sufficiency"] == 0.0
