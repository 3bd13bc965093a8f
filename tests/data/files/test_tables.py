import io
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.labelled_corpora import assert_sound, refused, rows, sizes
from helpers.tables import KINDS, LABELS, as_csv, as_jsonl, as_parquet, load_yes_or_no, table
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from unirex_ray.config import DataConfig
from unirex_ray.data.load import load_corpus
from unirex_ray.data.schema import SPLITS, Corpus
from unirex_ray.errors import UserError

RECORDS = [
    {"text": 'Say "yes", or\tno', "label": "yes"},
    {"text": "Two\nlines", "label": "no"},
    {"text": " caf\u00e9 \u2713 ", "label": "yes"},
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_instances(kind):
    write, middle = KINDS[kind], "Two\nlines" if kind != "tsv" else "Two lines"
    records = [RECORDS[0], {**RECORDS[1], "text": middle}, RECORDS[2]]
    extra = [{"number": 7, **record} for record in records]
    files = {f"train.{kind}": write(extra), f"dev.{kind}": write(records[:1]), f"test.{kind}": write(records[1:])}
    corpus = table(files)
    assert (corpus.name, corpus.labels, corpus.task_metric, corpus.notes) == ("table", LABELS, "accuracy", ())
    assert rows(corpus) == [
        ("train-1", ('Say "yes", or\tno',), 1),
        ("train-2", (middle,), 0),
        ("train-3", (" caf\u00e9 \u2713 ",), 1),
        ("dev-1", ('Say "yes", or\tno',), 1),
        ("test-1", (middle,), 0),
        ("test-2", (" caf\u00e9 \u2713 ",), 1),
    ]
    assert_sound(corpus, 6)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0\r", exclude_categories=("Cs",))).map(lambda text: f"{text}x"),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_comes_back_from_every_kind(texts):
    records = [{"text": text, "label": "yes"} for text in texts]
    several_lines = any("\n" in text for text in texts)
    for kind, write in KINDS.items():
        if kind == "tsv" and several_lines:
            continue
        corpus = table({f"{split}.{kind}": write(records) for split in SPLITS})
        assert [segments for _, segments, _ in rows(corpus, "train")] == [(text,) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_is_split_three_ways(kind):
    records = [{"text": f"text {n}", "label": LABELS[n % 4 == 0]} for n in range(40)]
    corpus = table({f"reviews.{kind}": KINDS[kind](records)}, seed=3)
    assert sizes(corpus) == [32, 4, 4]
    assert_sound(corpus, 40)
    assert set(rows(corpus)) == {(f"train-{n + 1}", (f"text {n}",), int(n % 4 == 0)) for n in range(40)}
    assert [Counter(corpus.splits[split].labels.tolist()) for split in SPLITS] == [
        {0: 24, 1: 8},
        {0: 3, 1: 1},
        {0: 3, 1: 1},
    ]
    assert corpus.notes == (
        f"dev and test drawn from reviews.{kind}, stratified by label, with data.seed = 3: "
        "32 train, 4 dev, 4 test of 40 instances",
    )
    assert rows(table({f"reviews.{kind}": KINDS[kind](records)}, seed=3)) == rows(corpus)
    assert rows(table({f"reviews.{kind}": KINDS[kind](records)}, seed=4)) != rows(corpus)


def test_a_missing_split_is_drawn_from_train_and_a_given_one_is_kept():
    train = "text,label\n" + "".join(f"text {n},{LABELS[n % 2]}\n" for n in range(20))
    given = "text,label\ngiven,yes\n"
    for name, split, drawn in (("validation", "dev", "test"), ("test", "test", "dev")):
        corpus = table({"train.csv": train, f"{name}.csv": given})
        assert rows(corpus, split) == [(f"{split}-1", ("given",), 1)]
        assert len(corpus.splits[drawn]) == 2
        assert Counter(corpus.splits[drawn].labels.tolist()) == {0: 1, 1: 1}
        assert_sound(corpus, 21)
        assert corpus.notes == (
            f"{drawn} drawn from train.csv, stratified by label, with data.seed = 0: "
            f"18 train, 2 {drawn} of 20 instances",
        )


def test_pairs_have_two_segments_in_the_order_of_the_columns():
    records = [
        {"answer": "A ship", "question": "What?", "right": True},
        {"answer": "No", "question": "Who?", "right": False},
    ]
    options = {"text_columns": ("question", "answer"), "label_column": "right", "task_metric": "binary_f1"}
    files = {"train.jsonl": as_jsonl(records), "dev.parquet": as_parquet(records), "test.jsonl": as_jsonl(records)}
    corpus = table(files, ("false", "true"), **options)
    assert corpus.task_metric == "binary_f1"
    for split in SPLITS:
        assert rows(corpus, split) == [(f"{split}-1", ("What?", "A ship"), 1), (f"{split}-2", ("Who?", "No"), 0)]


@pytest.mark.parametrize(
    ("values", "labels"),
    [([0, 1, 1], ("0", "1")), ([True, False, True], ("true", "false")), ([1.5, 2.0, 1.5], ("2.0", "1.5"))],
)
def test_labels_compare_as_text(values, labels):
    records = [{"text": "a", "label": value} for value in values]
    expected = [labels.index(json.dumps(value)) for value in values]
    for write, kind in ((as_jsonl, "jsonl"), (as_parquet, "parquet")):
        corpus = table({f"{split}.{kind}": write(records) for split in SPLITS}, labels)
        assert corpus.splits["test"].labels.tolist() == expected


def test_shards_are_read_in_order_and_in_a_subfolder():
    shards = {
        f"data/train-0000{n}-of-00003.parquet": as_parquet([{"text": f"shard {n}", "label": LABELS[n % 2]}] * 2)
        for n in (2, 0, 1)
    }
    others = {f"data/{name}-00000-of-00001.parquet": as_parquet(RECORDS) for name in ("validation", "test")}
    corpus = table({**shards, **others, "README.md": "A card", "data/._train.csv": "\0"})
    assert rows(corpus, "train") == [
        (f"train-{2 * n + row}", (f"shard {n}",), n % 2) for n in range(3) for row in (1, 2)
    ]
    assert sizes(corpus) == [6, 3, 3]
    assert_sound(corpus, 12)
    assert corpus.notes == ()


@pytest.mark.parametrize("name", ["dev", "val", "valid", "validation", "Valid", "VALIDATION"])
def test_the_dev_split_has_several_names(name):
    good = as_csv(RECORDS)
    corpus = table({"a/Train.CSV": good, f"b/{name}.csv": good, "c/test.csv": good, "c/testimony.csv": b"no table"})
    assert rows(corpus, "dev")[0][0] == "dev-1"
    assert corpus.notes == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "must hold .csv, .tsv, .jsonl, .json, .parquet, .arrow files, but holds no files"),
        (("a.txt", "train"), "must hold .csv, .tsv, .jsonl, .json, .parquet, .arrow files, but holds a.txt, train"),
        (
            ("state.json", "dataset_info.json"),
            "must hold .csv, .tsv, .jsonl, .json, .parquet, .arrow files, but holds dataset_",
        ),
        (
            ("a.csv", "b.csv"),
            "must hold one file alone, or files named train, dev, val, valid, validation or test with train among "
            "them, but holds a.csv, b.csv",
        ),
        (("test.csv",), "must hold one file alone, or files named train"),
        (tuple(f"{n}.csv" for n in range(9)), "but holds 0.csv, 1.csv, 2.csv, 3.csv, 4.csv, ..."),
        (("train.csv", "x/train.csv"), "train must be one file, or all its shards in one folder, but is train.csv, x/"),
        (("train.csv", "train.jsonl"), "train must be one file, or all its shards"),
        (("train.csv", "train-1.csv"), "train must be one file, or all its shards"),
        (
            ("train.csv", "dev.csv", "val.csv"),
            "dev must be one file, or all its shards in one folder, but is dev.csv, val",
        ),
        (
            ("train-00000-of-00002.csv",),
            "train must be one file, or all its shards in one folder, but is train-00000-of",
        ),
        (("a-00001-of-00002.csv",), "train must be one file, or all its shards"),
        (("a/train-0-of-2.csv", "b/train-1-of-2.csv"), "train must be one file, or all its shards in one folder"),
    ],
)
def test_files_that_leave_the_splits_open_are_refused(names, message):
    found = refused(load_yes_or_no, dict.fromkeys(names, as_csv(RECORDS)))
    assert found.startswith("corpus: ")
    assert message in found


@pytest.mark.parametrize(
    "options", [{"text_columns": ("a", "a")}, {"text_columns": ("a", "label")}, {"label_column": "text"}]
)
def test_a_column_has_one_purpose(options):
    found = refused(load_yes_or_no, {"train.csv": as_csv(RECORDS)}, **options)
    assert found.startswith("data.text_columns and data.label_column must be different columns, but are ")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("csv", "text,class\na,yes\n", "line 1: must have one column 'label', but has 'text', 'class'"),
        ("csv", "text,text,label\na,b,yes\n", "line 1: must have one column 'text', but has 'text', 'text', 'label'"),
        ("csv", "", "line 1: must have one column 'text', but has no columns"),
        ("csv", "text,label\na,yes\nb,maybe\n", "line 3: 'label' must be one of no, yes, but is 'maybe'"),
        ("csv", 'text,label\n"a\nb",yes\n\n \t,no\n', "line 5: 'text' must be text, but is empty"),
        ("csv", 'text,label\n"a\nb",yes,no\n', "line 2: must have 2 columns, but has 3"),
        ("csv", "text,label\na,yes\nb\n", "line 3: must have 2 columns, but has 1"),
        ("csv", 'text,label\na,yes\n"b,no\nc,no\n', "line 3: must be a row whose quotes come in pairs"),
        ("csv", 'text,label\n"a"b,yes\n', "line 2: must be a row whose quotes come in pairs"),
        ("csv", "text,label\na\0,yes\n", "line 2: must be text, but holds a NUL character"),
        ("csv", "text,label\na,yes\n".encode("utf-16-le"), "line 1: must be text, but holds a NUL character"),
        ("csv", "text,label\na,yes\n".encode("utf-16")[:-1], "begins as UTF-16 does, but is broken ("),
        ("csv", "text,label\na,yes\n\u200b\u00a0\ufe0f,no\n", "line 3: 'text' must be text, but is empty"),
        (
            "csv",
            "review;verdict\na;yes\n",
            "line 1: must have one column 'text', but has 'review', 'verdict'; for data.name=table, name yours",
        ),
        (
            "csv",
            "text ,text ,label\na,b,yes\n",
            "line 1: must have one column 'text', but has 'text ', 'text ', 'label'",
        ),
        ("csv", b"text,label\ncaf\xe9,yes\n", "line 2: must be UTF-8 text, but byte 3 of the line is not"),
        (
            "csv",
            f"text,label\na,yes\n{'x' * ((16 << 20) + 1)},no\n",
            "line 3: must be a row whose quotes come in pairs",
        ),
        ("tsv", 'text\tlabel\n"a" b\tyes\tno\n', "line 2: must be a row whose quotes come in pairs"),
        ("csv.gz", b"\x1f\x8b broken", "cannot be unpacked ("),
        ("json", "[1, 2]", "record 1: must be a JSON object, but is 1"),
        ("json", '[{"text": "a", "label": "yes"}, {"text": "a"}]', "record 2: must have one column 'label', but has"),
        ("json", '[{"text": "a", ', "broken JSON"),
        ("json", "[" * 100_000, "broken JSON"),
        (
            "json",
            '{"text": 1}',
            "line 1: must have one column 'label', but has 'text'; for data.name=table, name yours",
        ),
        (
            "jsonl",
            '{"text": "a", "label": "yes"}\n\n{"text": "a"}\n',
            "line 3: must have one column 'label', but has 'text'",
        ),
        ("jsonl", "{}", "line 1: must have one column 'text', but has no columns"),
        ("jsonl", '{"text": ', "line 1: broken JSON"),
        ("jsonl", "[" * 100_000, "line 1: broken JSON"),
        ("jsonl", "[1, 2]", "line 1: must be a JSON object, but is [1, 2]"),
        ("jsonl", '{"text": 7, "label": "yes"}', "line 1: 'text' must be text, but is 7"),
        ("jsonl", '{"text": null, "label": "yes"}', "line 1: 'text' must be text, but is None"),
        ("jsonl", '{"text": "", "label": "yes"}', "line 1: 'text' must be text, but is empty"),
        ("jsonl", '{"text": "a\\u0000", "label": "yes"}', "line 1: must be text, but holds a NUL character"),
        ("jsonl", '{"text": "a", "label": true}', "line 1: 'label' must be one of no, yes, but is 'true'"),
        ("jsonl", '{"text": "a", "label": null}', "line 1: 'label' is missing; take the row out, or give it"),
        ("jsonl", '{"text": "a", "label": NaN}', "line 1: 'label' is missing; take the row out, or give it one of no"),
        ("csv", "text,label\na, \n", "line 2: 'label' is missing; take the row out, or give it one of no, yes"),
        ("parquet", as_parquet([{"text": "a", "label": float("nan")}]), "row 1: 'label' is missing; take the row out"),
        ("jsonl", '{"text": "a", "label": ["yes"]}', "line 1: 'label' must be one of no, yes, but is"),
        ("jsonl", b'{"text": "\xff"}', "line 1: must be UTF-8 text"),
        ("parquet", as_parquet([{"text": "a", "x": 1}]), "must have one column 'label', but has 'text', 'x'"),
        ("parquet", as_parquet([*RECORDS, {"text": "", "label": "yes"}]), "row 4: 'text' must be text, but is empty"),
        ("parquet", as_parquet([*RECORDS, {"text": None, "label": "yes"}]), "row 4: 'text' must be text, but is None"),
        ("parquet", as_parquet([{"text": 7, "label": "yes"}]), "row 1: 'text' must be text, but is 7"),
        ("parquet", as_parquet([*RECORDS, {"text": "a\0", "label": "no"}]), "row 4: must be text, but holds a NUL"),
        (
            "parquet",
            as_parquet([*RECORDS, {"text": "a", "label": "x"}]),
            "row 4: 'label' must be one of no, yes, but is",
        ),
        ("parquet", b"PAR1", "row 1: broken Parquet ("),
        ("parquet", as_parquet(RECORDS)[:-20], "row 1: broken Parquet ("),
    ],
)
def test_broken_tables_are_named(file, content, message):
    for split in SPLITS:
        good = {f"{other}.csv": as_csv(RECORDS) for other in SPLITS if other != split}
        found = refused(load_yes_or_no, {**good, f"{split}.{file}": content})
        assert found.startswith((f"corpus: {split}.{file}, {message}", f"corpus: {split}.{file}: {message}"))


def test_text_in_parquet_must_be_utf_8():
    text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
    )
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"text": text, "label": ["yes", "no"]}), buffer)
    found = refused(load_yes_or_no, {"train.parquet": buffer.getvalue()})
    assert found == "corpus: train.parquet, row 2: must be UTF-8 text, but is not"


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_loaded_by_name_from_a_file_and_from_a_folder(tmp_path, kind):
    records = [{"text": f"text {n}", "label": n % 2} for n in range(20)]
    file = tmp_path / "folder" / "inner" / f"train.{kind}"
    file.parent.mkdir(parents=True)
    file.write_bytes(KINDS[kind](records))
    for place in (file, tmp_path / "folder"):
        corpus = load_corpus(
            DataConfig(name="table", source=str(place), labels=("0", "1"), cache=str(tmp_path / "cache"))
        )
        assert sizes(corpus) == [16, 2, 2]
        assert len(corpus.notes) == 1


def cached(tmp_path: Path, source: Path) -> Corpus:
    options = {"name": "table", "labels": LABELS, "cache": str(tmp_path / "cache")}
    return load_corpus(DataConfig(source=str(source), **options))


def test_the_cache_knows_a_single_file_by_its_name_too(tmp_path):
    records = [{"text": f"text {n}", "label": LABELS[n % 2]} for n in range(20)]
    (tmp_path / "a.tsv").write_bytes(as_csv(records, "\t"))
    (tmp_path / "a.jsonl").write_bytes(as_csv(records, "\t"))
    first = cached(tmp_path, tmp_path / "a.tsv")
    with pytest.raises(UserError, match=r"a\.jsonl, line 1: broken JSON"):
        cached(tmp_path, tmp_path / "a.jsonl")
    digests = {first.digest()}
    for kind, write in KINDS.items():
        (tmp_path / f"other.{kind}").write_bytes(write(records))
        corpus = cached(tmp_path, tmp_path / f"other.{kind}")
        assert corpus.notes[0].startswith(f"dev and test drawn from other.{kind},")
        digests.add(corpus.digest())
    assert len(digests) == 1  # equal data, whatever its form


def test_the_cache_follows_links_and_ignores_what_is_not_read(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    for split in SPLITS:
        (real / f"{split}.csv").write_bytes(as_csv(RECORDS))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data").symlink_to(real)
    first = cached(tmp_path, folder)
    (folder / "output").mkdir()
    (folder / "output" / "leaderboard.csv").write_text("method\naa-ig\n")
    (folder / "README.md").write_text("read me")
    assert cached(tmp_path, folder).digest() == first.digest()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    (real / "train.csv").write_bytes(as_csv(list(reversed(RECORDS))))
    assert cached(tmp_path, folder).digest() != first.digest()
