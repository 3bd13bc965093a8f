"""What is checked and prepared before a trial trains."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from unirex_ray.config import Config
from unirex_ray.data.encode import encode_corpus
from unirex_ray.data.encoded import EncodedCorpus
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS, get_method
from unirex_ray.models.encoder import Encoder, load_encoder, load_tokenizer


def check_method(config: Config, corpus: Corpus) -> None:
    """Refuse a method that cannot learn what it is asked to.

    Raises:
        UserError: for a method that learns from gold rationales where there are none, or whose batches have no room
            beside them; for a head that pools attributions where no loss trains it.
    """
    method = get_method(config.method)
    if method.needs_gold and not corpus.has_gold("train"):
        fixed = ("gold", "inv")
        others = [m.name for m in METHODS.values() if not m.needs_gold and m.stages[-1].design.extractor not in fixed]
        raise UserError(
            f"{method.name} learns from gold rationales, but no train instance of {corpus.name} has one; "
            f"choose a --method without them: {', '.join(others)}"
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


def prepare(config: Config, corpus: Corpus) -> tuple[str, ...]:
    """Tokenise a corpus before the trials that will find it in the cache; no weights are read.

    Returns:
        What is worth telling of the corpus: its own notes, and how many inputs are cut.

    Raises:
        UserError: as a trial would, for an encoder that cannot be found, or is asked for more than it has.
    """
    return prepared_corpus(config, corpus).notes


def prepared_corpus(config: Config, corpus: Corpus) -> EncodedCorpus:
    """A configuration's corpus as its encoder reads it; no weights are read.

    Raises:
        UserError: as `prepare`.
    """
    encoder = load_encoder(config.model, weights=False)
    return encoded_corpus(config, corpus, encoder, load_tokenizer(config.model))


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
