"""Trained models as folders of safetensors, JSON and tokenizer files, which are never executed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from unirex_ray.config import ModelConfig
from unirex_ray.errors import UserError, one_line
from unirex_ray.models.encoder import bare_encoder
from unirex_ray.models.rationale_model import Design, RationaleModel, build_model

WEIGHTS = "model.safetensors"
MODEL = "rationale_model.json"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a folder holds besides weights and tokenizer, to encode texts as in training.

    Attributes:
        designs: of the method's stages; the model of the last one is saved.
        labels: class names by index.
        max_length: tokens per input.
        truncation: see `data.schema.Corpus`.
        seed: of the trial; the extractor `rand` draws its scores from it.
    """

    method: str
    designs: tuple[Design, ...]
    labels: tuple[str, ...]
    task_metric: str
    multi_choice: bool
    max_length: int
    truncation: str
    seed: int = 0

    @property
    def outputs(self) -> int:
        """Of the task model: 1 for multi-choice, else the number of classes."""
        return 1 if self.multi_choice else len(self.labels)


def read_card(values: dict[str, Any]) -> ModelCard:
    """Card from its JSON form."""
    designs = tuple(Design(**design) for design in values["designs"])
    return ModelCard(**{**values, "designs": designs, "labels": tuple(values["labels"])})


def save_model(
    folder: Path, model: RationaleModel, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, card: ModelCard
) -> None:
    """Write weights, tokenizer, the encoder's configuration and the card into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors creates it readable by its owner only
    tokenizer.save_pretrained(folder)
    model.task_model.encoder.backbone.config.save_pretrained(folder)
    values = {**asdict(card), "model": config.model_dump(mode="json")}
    (folder / MODEL).write_text(json.dumps(values, indent=2), encoding="utf-8")


def load_model(folder: Path) -> tuple[RationaleModel, PreTrainedTokenizerBase, ModelCard]:
    """Load what `save_model` wrote; the pre-trained encoder is not needed.

    Raises:
        UserError: if the folder is not an exported model, or is damaged.
    """
    if not (folder / MODEL).is_file():
        raise UserError(f"{str(folder)!r} is not an exported model (no {MODEL}); export one first")
    try:
        values = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        config = ModelConfig.model_validate(values.pop("model"))
        card = read_card(values)
        model = build_model(
            config,
            card.designs,
            card.outputs,
            seed=card.seed,
            make_encoder=lambda config: bare_encoder(folder, trust_remote_code=config.trust_remote_code),
        )
        model.load_state_dict(load_file(folder / WEIGHTS))
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{str(folder)!r} is damaged: {one_line(error)}; export the model again") from None
    return model.eval(), tokenizer, card
