"""Exported folders: of an untrained model, and as version 0.1.0 wrote them; and changes to their files."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from unirex_ray.config import ModelConfig
from unirex_ray.models.card import MODEL, ModelCard
from unirex_ray.models.design import Design
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel, build_model

LABELS = ("negative", "positive", "neither")


class Made(NamedTuple):
    """A model and all that is saved with it."""

    model: RationaleModel
    tokenizer: PreTrainedTokenizerBase
    config: ModelConfig
    card: ModelCard


def make(encoder: str, *designs: Design, multi_choice: bool = False, **settings: Any) -> Made:
    """A model with random weights, large enough that logits differ where functions do."""
    config = ModelConfig(encoder=encoder, **settings)
    card = ModelCard(
        method="aa-ig",
        designs=designs or (Design(extractor="aa-ig"),),
        labels=LABELS,
        task_metric="accuracy",
        multi_choice=multi_choice,
        max_length=96,
        truncation="head",
    )
    model = build_model(config, card.designs, card.outputs, seed=1).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "pooler" in name or name.endswith("head.weight"):
                parameter.normal_(std=0.4)
    return Made(model, load_tokenizer(config), config, card)


def save_old(folder: Path, made: Made) -> None:
    """Write a folder as version 0.1.0 did."""
    folder.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in made.model.state_dict().items()}, folder / "model.safetensors"
    )
    made.tokenizer.save_pretrained(folder)
    made.model.task_model.encoder.backbone.config.save_pretrained(folder)
    values = {**asdict(made.card), "model": made.config.model_dump(mode="json")}
    (folder / MODEL).write_text(json.dumps(values, indent=2))


def change(file: Path, **values: Any) -> None:
    """Set keys of a JSON file; dots lead into mappings."""
    content = json.loads(file.read_text())
    for key, value in values.items():
        *sections, leaf = key.split("__")
        node = content
        for section in sections:
            node = node[section]
        node[leaf] = value
    file.write_text(json.dumps(content))


def vouch(folder: Path) -> None:
    """Write the files' present digests into the card, as somebody would who means harm."""
    layout = json.loads((folder / MODEL).read_text())["layout"]
    files = {
        name: hashlib.sha256((folder / layout["folder"] / name).read_bytes()).hexdigest() for name in layout["files"]
    }
    change(folder / MODEL, layout__files=files)
