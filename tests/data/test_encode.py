from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tokenizer_kinds import KINDS, byte_level, embedded, unigram
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, processors

from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.encode import encode_corpus, encode_split
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def word_piece() -> Any:
    return embedded()


@pytest.fixture(scope="module")
def small() -> Any:
    return byte_level(trim_offsets=True)


def instance(*segments: str, gold: Sequence[tuple[int, int, int]] | None = None, id_: str = "i") -> Instance:
    return Instance(id=id_, inputs=(Input(segments=segments, gold=None if gold is None else tuple(gold)),), label=0)


def row(split: EncodedSplit, number: int = 0) -> SimpleNamespace:
    part = slice(int(split.offsets[number]), int(split.offsets[number + 1]))
    return SimpleNamespace(
        ids=split.input_ids[part].tolist(),
        types=split.token_types[part].tolist(),
        gold=split.gold[part].tolist(),
        spans=[tuple(span) for span in split.spans[part].tolist()],
    )


def encode(tokenizer: Any, *instances: Instance, max_length: int = 10_000, truncation: Any = "head") -> EncodedSplit:
    return encode_split(instances, tokenizer, max_length=max_length, truncation=truncation)


def gold_characters(text: Input) -> set[tuple[int, int]]:
    """Naively: the characters of gold spans that are no blanks."""
    return {
        (segment, index)
        for segment, start, end in text.gold or ()
        for index in range(start, end)
        if not text.segments[segment][index].isspace()
    }


# Letters of many kinds and widths, marks that combine, blanks of all kinds; nothing that a normaliser deletes.
ALPHABET = "abcTHE the dog 12,.()-'éÅßçñüİŁ中文日本語한국ไทย😀👩\u0301\u00a0\u2003  \n\tﬁ①½"
texts = st.text(ALPHABET, min_size=1, max_size=40).filter(lambda text: text.strip() != "")


@st.composite
def gold_inputs(draw: st.DrawFn) -> Input:
    segments = tuple(draw(st.lists(texts, min_size=1, max_size=2)))
    spans = []
    for _ in range(draw(st.integers(0, 4))):
        segment = draw(st.integers(0, len(segments) - 1))
        start = draw(st.integers(0, len(segments[segment]) - 1))
        spans.append((segment, start, draw(st.integers(start + 1, len(segments[segment])))))
    return Input(segments=segments, gold=tuple(spans) or None)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(gold_inputs(), min_size=1, max_size=3))
def test_gold_tokens_are_those_that_hold_gold_characters(tokenizer, inputs):
    split = encode(tokenizer, *(Instance(id="i", inputs=(text,), label=0) for text in inputs))
    for number, text in enumerate(inputs):
        encoded, wanted = row(split, number), gold_characters(text)
        naive = [segment >= 0 and any((segment, i) in wanted for i in range(a, b)) for segment, a, b in encoded.spans]
        assert encoded.gold == naive
        assert bool(split.has_gold[number]) == any(naive)
        found = {(segment, i) for segment, a, b in encoded.spans for i in range(a, b)}
        marks = {(s, i) for s, i in wanted if text.segments[s][i] == "\u0301"}
        assert wanted - marks <= found
        assert not split.truncated[number]


def test_gold_by_hand_across_word_pieces_and_blanks(word_piece):
    text = "The unbelievably  good\u00a0film"
    split = encode(word_piece, instance(text, gold=[(0, 18, 22), (0, 10, 17), (0, 3, 4)]))
    words = [text[start:end] for segment, start, end in row(split).spans if segment >= 0]
    assert words == ["The", "un", "bel", "ie", "va", "bly", "good", "film"]
    # [10, 17) begins within "ie" and ends behind a blank; [3, 4) is a blank alone.
    assert row(split).gold == [False, False, False, False, True, True, True, True, False, False]


def test_a_leading_blank_in_the_offsets_is_not_gold():
    split = encode(byte_level(trim_offsets=False), instance("the dog", gold=[(0, 3, 4)]))
    assert (0, 3, 7) in row(split).spans or (0, 3, 5) in row(split).spans
    assert not any(row(split).gold)
    assert not split.has_gold.any()


def test_rows_begin_with_cls_and_special_tokens_are_never_gold(tokenizer):
    both = instance("the dog", "a film", gold=[(0, 0, 7), (1, 0, 6)])
    split = encode(tokenizer, both)
    encoded = row(split)
    special = [index for index, (segment, _, _) in enumerate(encoded.spans) if segment < 0]
    assert special[0] == 0
    assert encoded.ids[0] == tokenizer.cls_token_id
    assert {encoded.ids[index] for index in special[1:]} == {tokenizer.sep_token_id}
    assert all(encoded.spans[index] == (-1, 0, 0) and not encoded.gold[index] for index in special)
    second = [*(segment == 1 for segment, _, _ in encoded.spans[:-1]), True]
    has_types = "token_type_ids" in tokenizer.model_input_names
    assert encoded.types == [int(flag and has_types) for flag in second]


def test_ids_are_those_of_the_tokenizer_itself(tokenizer):
    pairs = [("the quick brown fox", "naïve, isn't it?"), ("a dog", "the acting is superb , and so on")]
    split = encode(tokenizer, *(instance(*pair) for pair in pairs))
    for number, pair in enumerate(pairs):
        assert row(split, number).ids == tokenizer(*pair)["input_ids"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(5, 40))
def test_pairs_are_cut_as_the_library_cuts_the_longest_first(small, first, second, length):
    pair = "!" * (first + 1), "?" * (second + 1)
    split = encode(small, instance(*pair), max_length=length)
    expected = small(*pair, truncation="longest_first", max_length=length)["input_ids"]
    assert row(split).ids == expected
    assert bool(split.truncated[0]) == (first + second + 5 > length)


LONG = " ".join(f"w{number}" for number in range(300))


@pytest.mark.parametrize("seen", ["head", "tail", "middle", "none"])
def test_windows(word_piece, seen):
    whole = row(encode(word_piece, instance(LONG)))
    assert len(whole.ids) > 600  # not cut by the settings that the tokenizer's own file carries
    place = {"head": 0, "tail": len(LONG) - 1, "middle": LONG.index("w150")}.get(seen)
    text = instance(LONG, gold=None if place is None else [(0, place, place + 1)])
    head, last = [encode(word_piece, text, max_length=50, truncation=how) for how in ("head", "rationale")]
    inner = whole.spans[1:-1]
    assert row(head).spans == [(-1, 0, 0), *inner[:48], (-1, 0, 0)]
    assert row(last).spans == (row(head).spans if seen in ("head", "none") else [(-1, 0, 0), *inner[-48:], (-1, 0, 0)])
    assert bool(head.has_gold[0]) == any(row(head).gold) == (seen == "head")
    assert bool(last.has_gold[0]) == any(row(last).gold) == (seen in ("head", "tail"))
    assert bool(head.truncated[0])


def test_the_given_tokenizer_keeps_its_settings(word_piece):
    before = word_piece.backend_tokenizer.to_str()
    encode(word_piece, instance(LONG), max_length=20)
    assert word_piece.backend_tokenizer.to_str() == before


@pytest.mark.parametrize("kind", ["word-piece", "byte-level"])  # Unigram models know the names as pieces
def test_special_tokens_spelt_in_the_text_are_text(kind):
    tokenizer = KINDS[kind]()
    text = f"a {tokenizer.sep_token} b {tokenizer.cls_token} {tokenizer.pad_token}"
    encoded = row(encode(tokenizer, instance(text)))
    assert [encoded.ids.count(id_) for id_ in (tokenizer.cls_token_id, tokenizer.sep_token_id)] == [1, 1]
    assert tokenizer.pad_token_id not in encoded.ids


def test_choices_are_rows_of_one_instance(word_piece):
    choices = tuple(Input(segments=("who", answer), gold=((1, 0, 3),)) for answer in ("dog", "cat", "fox jumps"))
    split = encode(word_piece, *(Instance(id=f"q{n}", inputs=choices, label=n) for n in range(2)))
    assert (split.choices, len(split), list(split.ids)) == (3, 2, ["q0", "q1"])
    assert split.labels.tolist() == [0, 1]
    assert split.lengths.tolist() == [5, 5, 6] * 2
    assert [tensor.dtype for tensor in (split.input_ids, split.token_types, split.gold, split.spans)] == [
        torch.int32,
        torch.int8,
        torch.bool,
        torch.int32,
    ]


def test_chunks_do_not_show(word_piece, monkeypatch):
    instances = [instance("a dog " * (n % 7 + 1), gold=[(0, 2, 5)], id_=str(n)) for n in range(23)]
    whole = encode(word_piece, *instances, max_length=9)
    monkeypatch.setattr("unirex_ray.data.encode._CHUNK", 4)
    parts = encode(word_piece, *instances, max_length=9)
    for name in ("input_ids", "token_types", "gold", "offsets", "has_gold", "cut", "last_window", "spans", "labels"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def without_template() -> Any:
    broken = unigram()
    broken.backend_tokenizer.post_processor = processors.ByteLevel()
    return broken


def without_pad() -> Any:
    broken = unigram()
    broken.pad_token = None
    return broken


def with_python_part() -> Any:
    broken = unigram()
    broken.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(SimpleNamespace(pre_tokenize=print))
    return broken


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (with_python_part, "cannot be copied"),
        (lambda: SimpleNamespace(is_fast=False, name_or_path="slow"), "tokenizer of 'slow' gives no character offsets"),
        (without_pad, "has no PAD token"),
        (without_template, "does not begin its inputs with CLS"),
    ],
)
def test_unfit_tokenizers_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        encode(make(), instance("a dog"))


def test_lengths_without_room_are_refused(word_piece):
    with pytest.raises(UserError, match=r"data\.max_length = 4 leaves no room"):
        encode(word_piece, instance("a dog", "a film"), max_length=4)
    assert row(encode(word_piece, instance("a dog", "a film"), max_length=5)).spans[1] == (0, 0, 1)


def corpus_of(**options: Any) -> Corpus:
    splits = {
        split: InstanceTable.from_instances([instance(LONG, gold=[(0, 0, 2)], id_=split)])
        for split in ("train", "dev", "test")
    }
    return Corpus(name="toy", labels=("no", "yes"), splits=splits, **options)


@pytest.mark.parametrize(
    ("own", "requested", "expected"), [(None, None, 512), (100, None, 100), (1024, None, 512), (100, 200, 200)]
)
def test_the_length_is_the_users_or_the_corpus_own_within_the_encoders(word_piece, tmp_path, own, requested, expected):
    corpus = corpus_of(max_length=own, notes=("found",))
    encoded = encode_corpus(corpus, word_piece, max_length=requested, cache=tmp_path)
    assert encoded.max_length == expected
    assert encoded.splits["dev"].lengths.tolist() == [expected]
    special = encoded.special_tokens
    assert (special.pad_id, special.sep_id) == (word_piece.pad_token_id, word_piece.sep_token_id)
    assert (encoded.digest, encoded.labels) == (corpus.digest(), corpus.labels)
    assert encoded.notes[:2] == ("found", f"train: 1 of 1 inputs are cut to {expected} tokens")


def test_a_length_beyond_the_encoder_is_refused(word_piece, tmp_path):
    with pytest.raises(UserError, match=r"data\.max_length = 513: this encoder takes at most 512"):
        encode_corpus(corpus_of(), word_piece, max_length=513, cache=tmp_path)


def test_last_windows_are_counted_and_who_loses_all_gold_is_named(word_piece, tmp_path):
    corpus = Corpus(
        name="toy",
        labels=("no", "yes"),
        splits={
            "train": InstanceTable.from_instances(
                [
                    instance(LONG, gold=[(0, 0, 2)], id_="a"),
                    instance(LONG, gold=[(0, len(LONG) - 1, len(LONG))], id_="b"),
                    instance(LONG, id_="unknown"),
                ]
            ),
            "dev": InstanceTable.from_instances(
                [instance(LONG, gold=[(0, LONG.index("w150"), LONG.index("w150") + 1)], id_=f"m{n}") for n in range(12)]
            ),
            "test": InstanceTable.from_instances([instance(LONG, gold=[(0, 0, 2)], id_="e")]),
        },
        truncation="rationale",
        max_length=64,
    )
    assert encode_corpus(corpus, word_piece, max_length=None, cache=tmp_path).notes == (
        "train: 3 of 3 inputs are cut to 64 tokens, 1 of them to their last window",
        "dev: 12 of 12 inputs are cut to 64 tokens, 12 of them to their last window",
        "dev: no gold token is left of m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more; they count as without a gold "
        "rationale",
        "test: 1 of 1 inputs are cut to 64 tokens",
    )


def test_each_row_says_what_was_cut_from_it(word_piece):
    split = encode(
        word_piece,
        instance("a dog", id_="whole"),
        instance("a dog " * 4, gold=[(0, 20, 23)], id_="first"),
        max_length=6,
    )
    assert split.truncation_note(0) == ""
    assert split.truncation_note(1) == "4 tokens are cut, 1 of them gold; the first ones are kept"
    assert split.cut.tolist() == [[0, 0, 0], [4, 0, 1]]
    pair = instance("a dog " * 4, "a dog " * 3, gold=[(0, 20, 23), (1, 14, 17)])
    split = encode(word_piece, pair, max_length=9, truncation="rationale")
    assert (
        split.truncation_note(0)
        == "8 tokens are cut (5 of the first text, 3 of the second text); the last ones are kept"
    )
    assert split.truncated.tolist() == split.last_window.tolist() == [True]
    one_side = encode(word_piece, instance("a dog " * 4, "dog"), max_length=9)
    assert one_side.truncation_note(0) == "3 tokens are cut (3 of the first text); the first ones are kept"
