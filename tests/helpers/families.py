"""Tiny encoders, with random weights, of any family that the library can make so small."""

from pathlib import Path
from typing import Any

import torch
from helpers.tiny import MAX_LENGTH, save_tokenizer, vocabulary
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

ALL_FAMILIES = tuple(sorted({*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES}))
"""Everything that the library classifies texts, or fills gaps in them, with."""

_LARGEST = 2_000_000  # parameters
_KEYS = {
    32: "hidden_size d_model n_embd dim emb_dim true_hidden_size",
    16: "embedding_size input_embedding_size intra_bottleneck_size bottleneck_size local_attention",
    2: "num_hidden_layers n_layers n_layer num_layers encoder_layers decoder_layers num_decoder_layers",
    4: "num_attention_heads n_heads n_head num_heads encoder_attention_heads decoder_attention_heads "
    "num_key_value_heads",
    64: "intermediate_size d_ff d_inner hidden_dim n_inner encoder_ffn_dim decoder_ffn_dim",
    8: "head_dim d_kv d_head num_landmarks",
    1: "num_feedforward_networks",
    MAX_LENGTH + 2: "max_position_embeddings n_positions",
    0.15: "initializer_range init_std",
}
_SMALL = {key: value for value, keys in _KEYS.items() for key in keys.split()}
_OWN: dict[str, dict[str, Any]] = {
    "longformer": {"attention_window": [16, 16]},
    "funnel": {
        "num_hidden_layers": None,
        "block_sizes": [1, 1],
        "block_repeats": [1, 1],
        "architectures": ["FunnelModel"],
    },
    "xlnet": {"max_position_embeddings": None},
    "switch_transformers": {"num_sparse_encoder_layers": 2},
    "mobilebert": {"true_hidden_size": 16},
    "squeezebert": {"embedding_size": 32},
    "xmod": {"default_language": "en_XX"},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
}
_ROBERTA_NAMES = "roberta camembert longformer mpnet data2vec xmod ibert lilt esm"


def save_family(folder: Path, family: str, *, rows: int | None = None) -> None:
    """An encoder and its tokenizer, as a folder that the library loads.

    Args:
        family: a `model_type`; what follows "-without" is a variant of it.
        rows: word embeddings; as many as the tokenizer has, by default.

    Raises:
        Exception: of any kind, where the family cannot be made so small.
    """
    kind = family.partition("-without")[0]
    bert = not any(name in kind for name in _ROBERTA_NAMES.split())
    words = vocabulary(bert=bert)
    pad, cls, sep = (words[name] for name in (("[PAD]", "[CLS]", "[SEP]") if bert else ("<pad>", "<s>", "</s>")))
    special = {"pad_token_id": pad, "bos_token_id": cls, "eos_token_id": sep, "decoder_start_token_id": cls}
    make, own = CONFIG_MAPPING[kind], _OWN.get(family, {})
    usual = make()
    small = {key: value for key, value in {**_SMALL, **special}.items() if hasattr(usual, key) and key not in own}
    settings = make(
        **small, **{key: value for key, value in own.items() if value is not None}, vocab_size=rows or len(words)
    )
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in AutoModel.from_config(settings).parameters())
    if size > _LARGEST:
        raise ValueError(f"{family} has {size} parameters")
    torch.manual_seed(0)
    AutoModel.from_config(settings).save_pretrained(folder)
    save_tokenizer(folder, bert=bert)
