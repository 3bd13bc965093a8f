"""The task model as a checkpoint that the library's own classes load, where one of them computes the same."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from unirex_ray.data.batching import Batch
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.card import ModelCard
from unirex_ray.models.encoder import Encoder, made_up_row, quiet
from unirex_ray.models.stored_tensors import write_tensors
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.token_subsets import ForwardPlan

CHECKPOINT = "model.safetensors"
TOLERANCE = 1e-5
"""Largest difference of logits in single precision, for logits up to 1; in proportion for larger ones."""

_BACKBONE = "encoder.backbone."


def write_classifier(
    folder: Path, task_model: TaskModel, tokenizer: PreTrainedTokenizerBase, card: ModelCard
) -> dict[str, str] | None:
    """Write a checkpoint of the sequence classifier (multi-choice: multiple choice) of the encoder's family.

    Most families have a class of each kind, but not every one computes a linear head on tanh(linear(first token)):
    whether it does is tried out with the checkpoint as it lies on the disk.

    Returns:
        The task model's tensors by name, and their names in the checkpoint; None, and no folder, where the family has
        no such class.
    """
    auto: Any = AutoModelForMultipleChoice if card.multi_choice else AutoModelForSequenceClassification
    settings = copy.deepcopy(task_model.encoder.settings)
    settings.id2label = dict(enumerate(card.labels))
    settings.label2id = {label: number for number, label in enumerate(card.labels)}
    names = _names(task_model, auto, settings)
    if names is None:
        return None
    folder.mkdir()
    write_settings(folder, settings, tokenizer)
    tensors = task_model.state_dict()
    write_tensors(folder / CHECKPOINT, {in_checkpoint: tensors[name] for name, in_checkpoint in names.items()})
    if _computes_the_same(folder, auto, task_model, probe_batch(tokenizer, task_model.encoder, card)):
        return names
    shutil.rmtree(folder)
    return None


def write_settings(folder: Path, settings: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write an encoder's configuration and its tokenizer.

    Python code that their repository names is left out, unless it ran.
    """
    tokenizer.save_pretrained(folder)
    settings.save_pretrained(folder)
    for part, name in ((settings, "config.json"), (tokenizer, "tokenizer_config.json")):
        written = json.loads((folder / name).read_text(encoding="utf-8"))
        if type(part).__module__.startswith("transformers.") and written.pop("auto_map", None):
            (folder / name).write_text(json.dumps(written, indent=2), encoding="utf-8")


def _names(task_model: TaskModel, auto: Any, settings: Any) -> dict[str, str] | None:
    """Which tensor of the library's class each of the task model's is; None where they do not pair up.

    The backbone's have the same names below the class' prefix; the others are paired in the order of the layers.
    """
    try:
        with quiet(), torch.device("meta"):
            model = auto.from_config(settings)
    except Exception:  # the library raises all kinds where a family lacks the class
        return None
    settings.architectures = [type(model).__name__]
    ours, theirs = task_model.state_dict(), model.state_dict()
    names = {name: name.replace(_BACKBONE, f"{model.base_model_prefix}.", 1) for name in ours}
    names = {own: their for own, their in names.items() if their in theirs}
    unpaired = [own for own in ours if own not in names]
    unpaired_theirs = [their for their in theirs if their not in names.values()]
    if len(unpaired) != len(unpaired_theirs):
        return None
    names |= zip(unpaired, unpaired_theirs, strict=True)
    return names if all(ours[own].shape == theirs[their].shape for own, their in names.items()) else None


def _computes_the_same(folder: Path, auto: Any, task_model: TaskModel, batch: Batch) -> bool:
    """Whether the checkpoint gives the task model's logits on a batch."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attended.long()}
    if getattr(task_model.encoder.settings, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = batch.token_types
    try:
        with quiet(), torch.no_grad():
            AutoTokenizer.from_pretrained(folder)
            model = auto.from_pretrained(folder, dtype=torch.float32).eval()
            if batch.choices == 1:
                logits = model(**inputs).logits
            else:
                logits = model(**{name: value[None] for name, value in inputs.items()}).logits.view(-1, 1)
    except Exception:  # it may want inputs of other kinds, and say so in any way
        return False
    return same_logits(logits, task_logits(task_model, batch))


def task_logits(task_model: TaskModel, batch: Batch) -> Tensor:
    """Logits of whole rows without dropout [R, O]."""
    with dropout_off(task_model), torch.no_grad():
        return task_model.full_logits(batch, ForwardPlan())


def same_logits(left: Tensor, right: Tensor) -> bool:
    """Whether logits agree up to rounding; NaN agrees with nothing."""
    if left.shape != right.shape:
        return False
    return bool((left - right).abs().max() < TOLERANCE * right.abs().max().clamp(min=1))


def probe_batch(tokenizer: PreTrainedTokenizerBase, encoder: Encoder, card: ModelCard) -> Batch:
    """Rows of different lengths: any tokens between the tokenizer's special ones, of both segments."""
    edges = len(tokenizer("").input_ids)
    lengths_of_rows = (min(length + edges, card.max_length) for length in (12, 7, 2))
    rows = [made_up_row(tokenizer, encoder, length, seed) for seed, length in enumerate(lengths_of_rows)]
    lengths = torch.tensor([len(row) for row in rows])
    input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    inside = torch.arange(input_ids.shape[1]) < lengths[:, None]
    second = (torch.arange(input_ids.shape[1]) >= lengths[:, None] // 2) & inside
    instances = 1 if card.multi_choice else len(rows)
    return Batch(
        input_ids=input_ids,
        token_types=second.long(),
        lengths=lengths,
        host_lengths=lengths.numpy(),
        labels=torch.zeros(instances, dtype=torch.long),
        gold=torch.zeros_like(inside),
        has_gold=torch.zeros(len(rows), dtype=torch.bool),
        host_has_gold=np.zeros(len(rows), dtype=bool),
        separators=torch.zeros_like(inside),
        pad_id=tokenizer.pad_token_id,
        choices=len(rows) // instances,
        ids=tuple(str(number) for number in range(instances)),
    )
