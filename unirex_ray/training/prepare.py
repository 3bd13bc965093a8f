"""What is checked and prepared before a trial trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from unirex_ray.config import Config
from unirex_ray.data.encode import encode_corpus
from unirex_ray.data.encoded import EncodedCorpus
from unirex_ray.data.load import train_sample
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS, get_method
from unirex_ray.models.acceptance import Acceptance, accept_encoder
from unirex_ray.models.encoder import Encoder, check_vocabulary, load_encoder, load_tokenizer

_LENGTH_STEP = 32  # tokens
_BF16_UNITS = ("amx_bf16", "avx512_bf16")


def check_method(config: Config, corpus: Corpus) -> None:
    """Refuse a method that cannot learn what it is asked to.

    Raises:
        UserError: for a method that learns from gold rationales where there are none, or whose batches have no room
            beside them; for a head that pools attributions where no loss trains it.
    """
    method, corpus = get_method(config.method), train_sample(corpus, config.data)
    if method.needs_gold and not corpus.has_gold("train"):
        limit = config.data.train_limit
        within = f" within data.train_limit = {limit}" if limit else ""
        fixed = ("gold", "inv")
        others = [m.name for m in METHODS.values() if not m.needs_gold and m.stages[-1].design.extractor not in fixed]
        raise UserError(
            f"{method.name} learns from gold rationales, but no train instance of {corpus.name}{within} has one; "
            f"choose a --method without them: {', '.join(others)}"
        )
    without = [split for split in ("dev", "test") if not corpus.has_gold(split)]
    if method.stages[-1].design.extractor in ("gold", "inv") and without:
        raise UserError(
            f"{method.name} scores tokens by their gold rationale, and {corpus.name}, {without[0]} has none; "
            "leave the method out"
        )
    if method.needs_gold and config.data.gold_percent < 100 and config.train.batch_size == 1:
        raise UserError(
            f"data.gold_percent = {config.data.gold_percent:g} puts a gold instance into every batch, and "
            "train.batch_size = 1 leaves no room beside it; raise it to 2 or more"
        )
    pools = [stage for stage in method.stages if stage.design.extractor == "aa-ig"]
    if config.model.pooling == "mlp" and any("plaus" not in stage.criteria for stage in pools):
        raise UserError(
            f"model.pooling = 'mlp' is trained by a plausibility loss, and {method.name} has none where it pools; "
            "set --model.pooling=sum, or choose unirex-aa-fp or sgt-p"
        )


def prepare(config: Config, corpus: Corpus, methods: Sequence[str] = ()) -> tuple[str, ...]:
    """Tokenise a corpus and try out its encoder, before the trials that will find both in the cache.

    Args:
        methods: of the trials; none: `config.method` alone.

    Returns:
        What is worth telling: the corpus' own notes, how many inputs are cut, how
        the encoder was accepted.

    Raises:
        UserError: as a trial would, for an encoder that cannot be found or used, or is asked for more than it has.
    """
    encoded = prepared_corpus(config, corpus)
    acceptance = accepted_encoder(config, encoded)
    methods = methods or (config.method,)
    for name in methods:
        check_perturbation(config.changed({"method": name}), acceptance)
    encoder = f"encoder {config.model.encoder}: {acceptance.describe()}"
    gated = [name for name in methods if get_method(name).learns_through_selection]
    if gated:
        encoder += f"; those of {' and '.join(gated)} mask them, to learn through attention"
    return (*encoded.notes, encoder)


def choose_precision(config: Config) -> tuple[Config, tuple[str, ...]]:
    """Settle what `train.precision = auto` stands for on this machine, so that what is recorded says it.

    Returns:
        The configuration with `fp32` or `bf16`, and one line that tells the choice and why; none where the user chose.
    """
    if config.train.precision != "auto":
        return config, ()
    # Not every version of torch that is allowed tells what the CPU can do.
    has: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    unit = next((unit for unit in _BF16_UNITS if has.get(unit)), None)
    if config.train.gpu:
        precision, why = "bf16", "as on every GPU"
    elif unit:
        precision, why = "bf16", f"as this machine's CPU has {unit}"
    else:
        precision, why = "fp32", f"as this machine's CPU has none of {', '.join(_BF16_UNITS)}"
    return config.changed({"train.precision": precision}), (f"train.precision=auto: {precision}, {why}",)


def accepted_encoder(config: Config, encoded: EncodedCorpus) -> Acceptance:
    """What a configuration's encoder was found to do, on rows at least as long as the corpus' longest input.

    Raises:
        UserError: for an encoder that cannot be used.
    """
    longest = max(int(split.lengths.max()) for split in encoded.splits.values())
    # In few steps: corpora of like lengths, and other samples of the same one, share an answer.
    length = min(math.ceil(longest / _LENGTH_STEP) * _LENGTH_STEP, encoded.max_length)
    return accept_encoder(config.model, length, config.data.cache)


def check_perturbation(config: Config, acceptance: Acceptance) -> None:
    """Refuse a way to hide tokens that this encoder, or the method, has no use of.

    Raises:
        UserError: for an encoder without gates, where the method learns through them; naming the option and what
            dropping does, where it is asked for and computes something else.
    """
    if get_method(config.method).learns_through_selection:
        if not acceptance.gates_are_exact:
            raise UserError(
                f"{config.method} learns through attention, but {config.model.encoder!r} computes it by itself and "
                "takes no gates; choose another encoder (BERT's, RoBERTa's and like families do) or another --method"
            )
        if config.train.perturbation == "dropped":
            raise UserError(
                f"train.perturbation = 'dropped': {config.method} learns through attention to the tokens that losses "
                "hide; set it to auto or masked"
            )
    if config.train.perturbation == "dropped" and not acceptance.dropping_is_exact:
        raise UserError(
            f"train.perturbation = 'dropped': for {config.model.encoder!r} that is not the same as masking "
            f"({acceptance.describe()}); set it to auto or masked"
        )


def prepared_corpus(config: Config, corpus: Corpus) -> EncodedCorpus:
    """What a configuration learns from and is evaluated on, as its encoder reads it; no weights are read.

    Raises:
        UserError: as `prepare`.
    """
    corpus = train_sample(corpus, config.data)
    encoder, tokenizer = load_encoder(config.model, weights=False), load_tokenizer(config.model)
    check_vocabulary(encoder, tokenizer, config.model.encoder)
    encoded = encoded_corpus(config, corpus, encoder, tokenizer)
    highest = max(int(split.token_types.max()) for split in encoded.splits.values())
    if encoder.token_types and highest >= encoder.token_types:
        raise UserError(
            f"model.encoder = {config.model.encoder!r}: its tokenizer gives token types up to {highest}, but it has "
            f"{encoder.token_types}; use the tokenizer that belongs to the encoder"
        )
    return encoded


def encoded_corpus(
    config: Config, corpus: Corpus, encoder: Encoder, tokenizer: PreTrainedTokenizerBase
) -> EncodedCorpus:
    """A configuration's corpus as its encoder reads it, from the cache where it lies there."""
    length = input_length(config, corpus, encoder, tokenizer)
    return encode_corpus(corpus, tokenizer, max_length=length, cache=config.data.cache)


def input_length(config: Config, corpus: Corpus, encoder: Encoder, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens per input: what the user asks for, else the corpus' own limit, and never more than the encoder takes.

    Raises:
        UserError: if the user asks for more.
    """
    most: int = min(encoder.max_length, tokenizer.model_max_length)
    if config.data.max_length is not None:
        if config.data.max_length > most:
            raise UserError(
                f"data.max_length = {config.data.max_length}: {config.model.encoder!r} takes at most {most} tokens"
            )
        return config.data.max_length
    return min(most, corpus.max_length or most)
