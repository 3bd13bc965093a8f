"""Trained models as folders of safetensors, JSON and tokenizer files.

    rationale_model.json           the card, and where everything lies
    rationale_model.safetensors    the extractor's tensors, and whatever else is not in task_model/
    task_model/                    the task model as a checkpoint that the library's own classes load
    encoder/                       instead of it, where the encoder's family has no class that computes the same:
                                   configuration and tokenizer

Nothing in a folder is executed, but for an encoder's own Python code where the caller allows it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save

from unirex_ray.config import ModelConfig, refuse_remote_code
from unirex_ray.errors import UserError, one_line
from unirex_ray.models.card import MODEL, Layout, ModelCard, SavedModel, damaged, read_saved, write_saved
from unirex_ray.models.classifier import (
    CHECKPOINT,
    probe_batch,
    same_logits,
    task_logits,
    write_classifier,
    write_settings,
)
from unirex_ray.models.encoder import Encoder, bare_encoder, quiet
from unirex_ray.models.rationale_model import RationaleModel, build_model
from unirex_ray.models.stored_tensors import (
    StoredTensor,
    check_fit,
    check_sizes,
    read_header,
    read_tensors,
    without_memory,
    write_tensors,
)

WEIGHTS = "rationale_model.safetensors"
TASK_MODEL = "task_model"
_SETTINGS = ("config.json", "tokenizer_config.json")
_NEEDED = (*_SETTINGS, "tokenizer.json")
_OWN_ATTENTION = (None, "eager", "sdpa")


def save_model(
    folder: Path, model: RationaleModel, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, card: ModelCard
) -> None:
    """Write a model that is on the CPU into `folder`, and read it back.

    Raises:
        UserError: if what is read back is not the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = write_classifier(folder / TASK_MODEL, model.task_model, tokenizer, card)
    if names is None:
        _write_encoder(folder / "encoder", model.task_model.encoder, tokenizer)
    tensors = {f"task_model.{own}": in_checkpoint for own, in_checkpoint in (names or {}).items()}
    rest = {name: tensor for name, tensor in model.state_dict().items() if name not in tensors}
    write_tensors(folder / WEIGHTS, rest)
    place = folder / ("encoder" if names is None else TASK_MODEL)
    files = {file.name: _digest(file) for file in sorted(place.iterdir()) if file.is_file() and file.name != CHECKPOINT}
    weights = {file.name: _digest(file) for file in (folder / WEIGHTS, place / CHECKPOINT) if file.is_file()}
    layout = Layout(folder="encoder" if names is None else "task_model", tensors=tensors, files=files, weights=weights)
    write_saved(folder, SavedModel(card=card, model=config, layout=layout))
    _check_copy(folder, model, tokenizer, config, card)


def _write_encoder(folder: Path, encoder: Encoder, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write tokenizer and configuration, and the encoder's Python code where it has its own."""
    folder.mkdir()
    backbone, settings = encoder.backbone, encoder.settings
    if type(backbone).__module__.startswith("transformers_modules."):
        type(settings).register_for_auto_class("AutoConfig")
        type(backbone).register_for_auto_class("AutoModel")
        custom_object_save(backbone, folder, config=settings)
    write_settings(folder, settings, tokenizer)


def _check_copy(
    folder: Path, model: RationaleModel, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, card: ModelCard
) -> None:
    copy, its_tokenizer, _ = load_model(folder, trust_remote_code=config.trust_remote_code)
    ours, theirs = model.state_dict(), copy.state_dict()
    batch, text = probe_batch(tokenizer, model.task_model.encoder, card), "A word, and more!"
    checks = {
        "its weights": all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items()),
        "its logits": same_logits(task_logits(model.task_model, batch), task_logits(copy.task_model, batch)),
        "its tokens": tokenizer(text).input_ids == its_tokenizer(text).input_ids,
    }
    for what, same in checks.items():
        if not same:
            raise UserError(f"what was written to {str(folder)!r} is not the model: {what} differ; nothing is exported")


def load_model(
    folder: Path, *, trust_remote_code: bool = False
) -> tuple[RationaleModel, PreTrainedTokenizerBase, ModelCard]:
    """Load what `save_model` wrote, or version 0.1.0; the pre-trained encoder is not needed.

    Args:
        trust_remote_code: whether Python code that ships with the model may run, where the folder asks for it.

    Raises:
        UserError: if the folder is not an exported model, is damaged, or asks for code that may not run.
    """
    saved = read_saved(folder)
    card, place = saved.card, folder / saved.layout.folder if saved.layout else folder
    check_trust(folder, saved, trust_remote_code)
    runs_code = saved.model.trust_remote_code

    def build() -> RationaleModel:
        return build_model(
            saved.model,
            card.designs,
            card.outputs,
            seed=card.seed,
            make_encoder=lambda _: bare_encoder(place, trust_remote_code=runs_code),
        )

    try:
        check_files(folder, saved.layout)
        for name in _SETTINGS:
            _check_code(place / name, allowed=trust_remote_code)
        stored = _find_tensors(folder, saved.layout)
        _check_head(card, stored)
        check_sizes(_settings(place / "config.json"), stored.values())
        with without_memory(stored):
            sketch = build()
        check_fit(sketch, stored)
        if card.max_length > sketch.task_model.encoder.max_length:
            raise ValueError(f"{MODEL}: max_length = {card.max_length} is more than the encoder takes")
        model = build()
        model.load_state_dict(read_tensors(stored))
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=runs_code)
    except UserError:
        raise
    except Exception as error:  # the libraries raise all kinds on files that are not as they expect
        raise damaged(folder, one_line(error)) from None
    return model.eval(), tokenizer, card


def check_trust(folder: Path, saved: SavedModel, trust_remote_code: bool) -> None:
    """Refuse a card that asks for an encoder's own Python code where that may not run.

    Raises:
        UserError: naming the file and the option.
    """
    if saved.model.trust_remote_code and not trust_remote_code:
        raise refuse_remote_code(folder / MODEL)


def check_files(folder: Path, layout: Layout | None) -> None:
    """Refuse a folder that lacks a file which the library would make up for, or in which one was changed.

    Raises:
        UserError: naming the file.
    """
    place = "" if layout is None else f"{layout.folder}/"
    for name in dict.fromkeys([*_NEEDED, *(layout.files if layout else ())]):
        file = folder / f"{place}{name}"
        if not file.is_file():
            raise damaged(folder, f"{place}{name} is missing")
        if layout is not None and layout.files.get(name) != _digest(file):
            raise damaged(folder, f"{place}{name} is not the file that was exported")
    for name, digest in (layout.weights if layout else {}).items():
        file = folder / (name if name == WEIGHTS else f"{place}{name}")
        if not file.is_file() or _digest(file) != digest:
            raise damaged(folder, f"{file.relative_to(folder)} is not the file that was exported")


def _check_code(file: Path, *, allowed: bool) -> None:
    """Refuse a file of settings that names Python code, an attention kernel from the hub included."""
    asks = [
        key
        for key, value in _items(_settings(file))
        if key == "auto_map" or (key.endswith("_implementation") and value not in _OWN_ATTENTION)
    ]
    if asks and not allowed:
        raise refuse_remote_code(file, asks[0])


def _find_tensors(folder: Path, layout: Layout | None) -> dict[str, StoredTensor]:
    """Where each of the model's tensors lies, by its name in the model."""
    if layout is None:
        return read_header(folder / CHECKPOINT)
    stored = read_header(folder / WEIGHTS)
    checkpoint = read_header(folder / layout.folder / CHECKPOINT) if layout.tensors else {}
    if sorted(checkpoint) != sorted(layout.tensors.values()):
        raise ValueError(f"{MODEL} names other tensors than there are")
    return stored | {own: checkpoint[in_checkpoint] for own, in_checkpoint in layout.tensors.items()}


def _check_head(card: ModelCard, stored: dict[str, StoredTensor]) -> None:
    head = stored.get("task_model.head.weight")
    outputs = head.shape[0] if head is not None and head.shape else None
    if outputs is not None and outputs != card.outputs:
        raise ValueError(
            f"{MODEL} has {len(card.labels)} labels (multi_choice = {card.multi_choice}), "
            f"but the task model has {outputs} outputs"
        )


def _settings(file: Path) -> dict[str, Any]:
    settings = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise ValueError(f"{file.name} holds no mapping")
    return settings


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of mappings, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _items(inner)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
