import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from unirex_ray.data import encode
from unirex_ray.data.cache import read_splits, write_splits
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.encode import encode_corpus
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import SPLITS, Corpus
from unirex_ray.errors import UserError

TENSORS = ("labels", "input_ids", "token_types", "gold", "offsets", "has_gold", "cut", "last_window", "spans")
NOTES = ("train: all is well",)


def make_split(seed: int) -> EncodedSplit:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (6,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    total = int(offsets[-1])
    return EncodedSplit(
        ids=tuple(f"é{seed}-{number}" for number in range(3)),
        labels=torch.tensor([0, 1, 1]),
        input_ids=torch.randint(0, 30_000, (total,), dtype=torch.int32, generator=generator),
        token_types=torch.randint(0, 2, (total,), dtype=torch.int8, generator=generator),
        gold=torch.randint(0, 2, (total,), generator=generator) > 0,
        offsets=offsets,
        has_gold=torch.tensor([True, False] * 3),
        cut=torch.randint(0, 9, (6, 3), dtype=torch.int32, generator=generator),
        last_window=torch.tensor([False, True, True] * 2),
        spans=torch.randint(-1, 99, (total, 3), dtype=torch.int32, generator=generator),
        choices=2,
    )


SPLIT_TENSORS = {split: make_split(number) for number, split in enumerate(SPLITS)}


def assert_equal(found, expected) -> None:
    assert set(found) == set(expected)
    for split, encoded in expected.items():
        assert (list(found[split].ids), found[split].choices) == (list(encoded.ids), encoded.choices)
        for name in TENSORS:
            one, other = getattr(found[split], name), getattr(encoded, name)
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert torch.equal(one, other)


def test_round_trip(tmp_path):
    file = tmp_path / "deep" / "er" / "a.arrow"
    write_splits(file, "key", SPLIT_TENSORS, NOTES)
    splits, notes = read_splits(file, "key")
    assert_equal(splits, SPLIT_TENSORS)
    assert notes == NOTES
    assert [path.name for path in file.parent.iterdir()] == ["a.arrow"]
    assert pa.ipc.open_file(file).num_record_batches == 1


@pytest.mark.filterwarnings("error")
def test_a_stray_write_neither_fails_nor_reaches_the_file(tmp_path):
    file = tmp_path / "a.arrow"
    write_splits(file, "key", SPLIT_TENSORS, NOTES)
    splits, _ = read_splits(file, "key")
    splits["train"].input_ids.fill_(7)
    assert_equal(read_splits(file, "key")[0], SPLIT_TENSORS)


def test_missing_and_stale_files_are_ignored(tmp_path):
    file = tmp_path / "a.arrow"
    assert read_splits(file, "key") is None
    write_splits(file, "key", SPLIT_TENSORS, NOTES)
    assert read_splits(file, "other key") is None
    assert read_splits(tmp_path, "key") is None


def test_files_cut_short_are_ignored(tmp_path):
    file = tmp_path / "a.arrow"
    write_splits(file, "key", SPLIT_TENSORS, NOTES)
    data = file.read_bytes()
    for size in range(0, len(data), 97):
        file.write_bytes(data[:size])
        assert read_splits(file, "key") is None
    file.write_bytes(data)
    assert read_splits(file, "key") is not None


@pytest.mark.slow
def test_damaged_files_are_ignored(tmp_path):
    file = tmp_path / "a.arrow"
    write_splits(file, "key", SPLIT_TENSORS, NOTES)
    data = file.read_bytes()
    ignored = 0
    for place in range(0, len(data), 29):
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        file.write_bytes(damaged)
        found = read_splits(file, "key")
        if found is None:
            ignored += 1
        else:  # padding between buffers
            assert_equal(found[0], SPLIT_TENSORS)
    assert ignored > 50


def test_other_arrow_files_are_ignored(tmp_path):
    file = tmp_path / "a.arrow"
    batch = pa.RecordBatch.from_pydict({"a": [1]})
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_file(stream, batch.schema) as writer:
        writer.write_batch(batch)
    assert read_splits(file, "key") is None


def test_readers_and_writers_at_once_see_whole_files(tmp_path):
    file = tmp_path / "a.arrow"
    write_splits(file, "key", SPLIT_TENSORS, NOTES)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                write_splits(file, "key", SPLIT_TENSORS, NOTES)
                stored = read_splits(file, "key")
                assert stored is not None
                assert_equal(stored[0], SPLIT_TENSORS)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_splits(tmp_path / "a.arrow", "key", SPLIT_TENSORS, NOTES)
    assert list(tmp_path.iterdir()) == []


def toy_tokenizer(word: str = "film"):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "good": 4, word: 5}
    engine = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=engine,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=64,
    )


def toy_corpus(text: str = "a good film") -> Corpus:
    inputs = (Input(segments=(text,), gold=((0, 2, 6),)),)
    splits = {split: InstanceTable.from_instances([Instance(id=split, inputs=inputs, label=0)]) for split in SPLITS}
    return Corpus(name="toy", labels=("no", "yes"), splits=splits)


def test_a_second_time_nothing_is_tokenised_until_something_changes(tmp_path, monkeypatch):
    tokenizer, corpus = toy_tokenizer(), toy_corpus()
    first = encode_corpus(corpus, tokenizer, max_length=None, cache=tmp_path)
    tokenizer(["x"], truncation=True, max_length=4, padding="max_length")  # settings that change no row

    def refuse(*_: object) -> None:
        raise AssertionError("tokenised again")

    with monkeypatch.context() as patch:
        patch.setattr("unirex_ray.data.encode._tokenise", refuse)
        again = encode_corpus(corpus, tokenizer, max_length=None, cache=tmp_path)
        assert_equal(again.splits, first.splits)
        assert replace(again, splits={}).__dict__ == replace(first, splits={}).__dict__
        for change in (
            lambda: encode_corpus(toy_corpus("a good movie"), tokenizer, max_length=None, cache=tmp_path),
            lambda: encode_corpus(corpus, toy_tokenizer("movie"), max_length=None, cache=tmp_path),
            lambda: encode_corpus(corpus, tokenizer, max_length=4, cache=tmp_path),
            lambda: encode_corpus(replace(corpus, truncation="rationale"), tokenizer, max_length=None, cache=tmp_path),
        ):
            with pytest.raises(AssertionError, match="tokenised again"):
                change()

    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    rebuilt = encode_corpus(corpus, tokenizer, max_length=None, cache=tmp_path)
    assert_equal(rebuilt.splits, first.splits)
    assert rebuilt.splits["train"].input_ids.tolist() == [1, 3, 4, 5, 2]


def test_the_slower_of_two_builders_leaves_the_file_of_the_faster_one(tmp_path, monkeypatch):
    tokenise = encode._tokenise

    def overtaken(*args: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(encode, "_tokenise", tokenise)
            encode_corpus(toy_corpus(), toy_tokenizer(), max_length=None, cache=tmp_path)
        seen.append(next(tmp_path.iterdir()).stat().st_ino)
        return tokenise(*args)

    seen: list[int] = []
    monkeypatch.setattr(encode, "_tokenise", overtaken)
    encode_corpus(toy_corpus(), toy_tokenizer(), max_length=None, cache=tmp_path)
    assert [file.stat().st_ino for file in tmp_path.iterdir()] == seen[:1]


def test_a_cache_that_cannot_be_written_is_refused_only_where_it_was_asked_for(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"data\.cache = .*file' cannot be written: File exists"):
        encode_corpus(toy_corpus(), toy_tokenizer(), max_length=None, cache=blocked)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(blocked))
    encoded = encode_corpus(toy_corpus(), toy_tokenizer(), max_length=None, cache=None)
    assert encoded.splits["test"].gold.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(("variable", "below"), [("HOME", ".cache/unirex_ray"), ("XDG_CACHE_HOME", "unirex_ray")])
def test_the_default_cache_lies_where_the_user_keeps_such_things(tmp_path, monkeypatch, variable, below):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    encode_corpus(toy_corpus(), toy_tokenizer(), max_length=None, cache=None)
    (file,) = Path(tmp_path / below).iterdir()
    assert file.name.startswith("toy-")
    assert file.suffix == ".arrow"
