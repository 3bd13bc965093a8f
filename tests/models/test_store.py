"""Saved models: who can load them, and what is refused before it is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.exports import LABELS, Made, make, save_old
from helpers.marks import slow, slow_but
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from unirex_ray.errors import UserError
from unirex_ray.models import store
from unirex_ray.models.card import MODEL
from unirex_ray.models.classifier import probe_batch, task_logits
from unirex_ray.models.design import Design
from unirex_ray.models.store import WEIGHTS, load_model, save_model

SMALL: dict[str, Any] = {
    "vocab_size": 144,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 98,
    "initializer_range": 0.15,
    "pad_token_id": 1,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "camembert": {},
    "albert": {"embedding_size": 16},
    "mpnet": {},
    "ernie": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "deberta-v2": {},
    "modernbert": {"cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2},
    "big_bird": {"attention_type": "original_full"},
}
SAME = ("bert", "roberta", "xlm-roberta", "camembert", "albert", "mpnet", "ernie")
OTHER = ("distilbert", "electra", "deberta-v2", "modernbert", "big_bird")
SAME_CHOICES = ("bert", "roberta", "albert", "mpnet")


@pytest.fixture(scope="module")
def of_family(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folder of a tiny encoder of any family, with RoBERTa's tokenizer."""
    folder = tmp_path_factory.mktemp("families")

    def encoder(family: str) -> str:
        place = folder / family
        if not place.exists():
            shutil.copytree(encoders["roberta"], place)
            torch.manual_seed(0)
            AutoModel.from_config(AutoConfig.for_model(family, **{**SMALL, **FAMILIES[family]})).save_pretrained(place)
        return str(place)

    return encoder


def logits(made: Made, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a model, and of the one that is loaded from a folder."""
    loaded, tokenizer, _ = load_model(folder)
    batch = probe_batch(made.tokenizer, made.model.task_model.encoder, made.card)
    assert tokenizer("w1 good2").input_ids == made.tokenizer("w1 good2").input_ids
    return task_logits(loaded.task_model, batch), task_logits(made.model.task_model, batch)


def by_the_library(folder: Path, made: Made) -> torch.Tensor:
    """Logits of texts by nothing but the library, as a reader of the README types it."""
    auto: Any = AutoModelForMultipleChoice if made.card.multi_choice else AutoModelForSequenceClassification
    tokenizer, model = AutoTokenizer.from_pretrained(folder), auto.from_pretrained(folder).eval()
    inputs = tokenizer(["w1 good2 w3 w4", "bad1", "w7 w8"], return_tensors="pt", padding=True)
    with torch.no_grad():
        if not made.card.multi_choice:
            return model(**inputs).logits
        return model(**{name: value[None] for name, value in inputs.items()}).logits.view(-1, 1)


def by_us(made: Made) -> torch.Tensor:
    rows = []
    for text in ("w1 good2 w3 w4", "bad1", "w7 w8"):
        inputs = made.tokenizer(text, return_tensors="pt")
        states, pooled = made.model.task_model.encoder(
            input_ids=inputs.input_ids,
            position_ids=torch.arange(inputs.input_ids.shape[1])[None],
            token_types=torch.zeros_like(inputs.input_ids),
            attention_mask=None,
        )
        rows.append(made.model.task_model.logits_from_states(states, pooled))
    return torch.cat(rows).detach()


@pytest.mark.parametrize(
    ("family", "multi_choice"),
    slow_but(
        [("bert", True), ("roberta", False)],
        [(family, False) for family in SAME] + [(family, True) for family in SAME_CHOICES],
    ),
)
def test_the_library_loads_the_task_model_and_computes_the_same(
    family: str, multi_choice: bool, of_family: Callable[[str], str], tmp_path: Path
) -> None:
    made = make(of_family(family), Design(extractor="dlm"), multi_choice=multi_choice)
    save_model(tmp_path / "model", *made)
    ours = by_us(made)
    assert (by_the_library(tmp_path / "model" / "task_model", made) - ours).abs().max() < 1e-5
    assert ours.std() > 0.05
    config = AutoConfig.from_pretrained(tmp_path / "model" / "task_model")
    assert tuple(config.id2label.values()) == LABELS
    assert config.label2id == {label: number for number, label in enumerate(LABELS)}
    assert torch.equal(*logits(made, tmp_path / "model"))


@pytest.mark.parametrize("family", slow_but(OTHER[:2], OTHER))
def test_without_a_class_that_computes_the_same_there_is_no_task_model(
    family: str, of_family: Callable[[str], str], tmp_path: Path
) -> None:
    made, folder = make(of_family(family), Design(extractor="slm")), tmp_path / "model"
    save_model(folder, *made)
    assert {path.name for path in folder.iterdir()} == {MODEL, WEIGHTS, "encoder"}
    for loader in (AutoModel, AutoModelForSequenceClassification):
        with pytest.raises(OSError, match="model"):
            loader.from_pretrained(folder / "encoder")
    assert torch.equal(*logits(made, folder))


def test_no_loader_takes_the_root_for_a_checkpoint(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {MODEL, WEIGHTS, "task_model"}
    for loader in (AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer):
        with pytest.raises((OSError, ValueError)):
            loader.from_pretrained(whole)


def test_every_tensor_is_there_once(whole: Path, made: Made) -> None:
    names = json.loads((whole / MODEL).read_text())["layout"]["tensors"]
    classifier, rest = load_file(whole / "task_model" / "model.safetensors"), load_file(whole / WEIGHTS)
    assert set(rest) == {name for name in made.model.state_dict() if name.startswith("extractor.")}
    assert sorted(names.values()) == sorted(classifier)
    assert names.keys() | rest.keys() == made.model.state_dict().keys()
    for name, there in names.items():
        assert torch.equal(classifier[there], made.model.state_dict()[name])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", *slow("roberta")])
@pytest.mark.parametrize(
    "designs",
    [
        (Design(extractor="rand"),),
        (Design(extractor="aa-ig"), Design(extractor="selection", top_k_percent=10, predicts_from="rationale")),
        (Design(extractor="aa-ig"), Design(extractor="imitation", task_model="earlier")),
    ],
)
def test_folders_of_the_earlier_version_are_read(
    family: str, designs: tuple[Design, ...], encoders: dict[str, str], tmp_path: Path
) -> None:
    made = make(encoders[family], *designs)
    save_old(tmp_path / "old", made)
    assert torch.equal(*logits(made, tmp_path / "old"))
    loaded, _, card = load_model(tmp_path / "old")
    assert card == made.card
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in made.model.state_dict().items())


def test_a_copy_that_is_not_the_model_is_refused(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = store.write_tensors
    monkeypatch.setattr(store, "write_tensors", lambda file, all_: write(file, {n: t + 1 for n, t in all_.items()}))
    with pytest.raises(UserError, match="is not the model: its weights differ; nothing is exported"):
        save_model(tmp_path / "model", *made)
