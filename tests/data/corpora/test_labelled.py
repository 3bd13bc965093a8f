import io
import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.labelled_corpora import assert_sound, refused, rows, sizes, source

from unirex_ray.config import DataConfig
from unirex_ray.data.corpora.labelled import (
    load_irony,
    load_offenseval,
    load_stormfront,
)
from unirex_ray.data.files.source import Source, open_source
from unirex_ray.data.schema import SPLITS, Corpus

CONFIG = DataConfig()


# Stormfront

METADATA = "file_id,user_id,subforum_id,num_contexts,label"


def stormfront(*lines: str, **texts: str | bytes) -> dict[str, str | bytes]:
    names = [line.partition(",")[0] for line in lines]
    files: dict[str, str | bytes] = {f"all_files/{name}.txt": f"Text of {name}." for name in names}
    files |= {f"all_files/{name}.txt": text for name, text in texts.items()}
    return {"annotations_metadata.csv": "\n".join((METADATA, *lines)) + "\n", **files}


def test_stormfront_by_hand():
    kept = [f"{n}_1,7,8,0,{'hate' if n % 4 == 0 else 'noHate'}" for n in range(40)]
    others = ["90_1,7,8,0,relation", "90_2,7,8,0,idk/skip", "90_3,7,8,1,relation"]
    files = stormfront(*kept[:20], *others, *kept[20:], **{"3_1": "\ufeffA caf\u00e9. \r\n"})
    del files["all_files/90_1.txt"]
    corpus = load_stormfront(source(files), CONFIG)
    assert (corpus.name, corpus.labels, corpus.task_metric) == ("stormfront", ("noHate", "hate"), "binary_f1")
    assert sizes(corpus) == [29, 4, 7]
    assert_sound(corpus, 40)
    assert corpus.notes == (
        "1 sentences labelled idk/skip are left out",
        "2 sentences labelled relation are left out",
    )
    expected = {(f"{n}_1", (f"Text of {n}_1.",), int(n % 4 == 0)) for n in range(40) if n != 3}
    assert set(rows(corpus)) == {*expected, ("3_1", ("A caf\u00e9.",), 0)}
    hate = [Counter(corpus.splits[split].labels.tolist())[1] for split in SPLITS]
    assert sum(hate) == 10
    assert all(abs(count - size / 4) < 1 for count, size in zip(hate, sizes(corpus), strict=True))
    assert rows(load_stormfront(source(files), CONFIG)) == rows(corpus)
    assert rows(load_stormfront(source(files), DataConfig(seed=1))) != rows(corpus)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("1_1,7,8,0,hate", "line 3: 'file_id' must be unique, but '1_1' is there twice"),
        ("2_1,7,8,0,maybe", "line 3: 'label' must be one of noHate, hate, relation, idk/skip, but is 'maybe'"),
        ("2_1,7,8,hate", "line 3: must have 5 columns, but has 4"),
        ("../x,7,8,0,hate", "line 3: the text of '../x' must be in all_files/../x.txt, but there is no such file"),
        (",7,8,0,hate", "line 3: 'file_id' must be text, but is empty"),
    ],
)
def test_broken_metadata_of_stormfront_is_named(broken, message):
    files = {**stormfront("1_1,7,8,0,noHate", broken), "x.txt": "outside"}
    assert refused(load_stormfront, files) == f"corpus: annotations_metadata.csv, {message}"


def test_broken_texts_of_stormfront_are_named():
    good = "1_1,7,8,0,noHate"
    missing = stormfront(good, "2_1,7,8,0,hate")
    del missing["all_files/2_1.txt"]
    found = refused(load_stormfront, missing)
    assert found.startswith("corpus: annotations_metadata.csv, line 3: the text of '2_1' must be in all_files/2_1.txt")
    found = refused(load_stormfront, stormfront(good, **{"1_1": " \n"}))
    assert found == "corpus: all_files/1_1.txt, line 1: 'text' must be text, but is empty"
    found = refused(load_stormfront, stormfront(good, **{"1_1": b"one\ntwo \xff"}))
    assert found.startswith("corpus: all_files/1_1.txt, line 2: must be UTF-8 text")
    found = refused(load_stormfront, {"annotations_metadata.csv": "file_id,user_id\n1_1,7\n"})
    assert found == (
        "corpus: annotations_metadata.csv, line 1: must have one column 'label', but has 'file_id', 'user_id'"
    )
    found = refused(load_stormfront, {"annotations_metadata.csv": ""})
    assert found.endswith("line 1: must have one column 'file_id', but has no columns")


# OffensEval

OLID = ("olid-training-v1.0.tsv", "testset-levela.tsv", "labels-levela.csv")
OLID_TRAINING = "id\ttweet\tsubtask_a\tsubtask_b\tsubtask_c\n"


def olid(
    *training: str, tweets: Sequence[str] = ("9\t@USER ok",), answers: Sequence[str] = ("9,NOT",)
) -> dict[str, str]:
    return dict(
        zip(
            OLID,
            (
                OLID_TRAINING + "".join(f"{line}\n" for line in training),
                "id\ttweet\n" + "".join(f"{line}\n" for line in tweets),
                "".join(f"{line}\n" for line in answers),
            ),
            strict=True,
        )
    )


def test_offenseval_by_hand():
    quoted = '103\t"@USER ""Go"" home, \'now\'"""\tOFF\tTIN\tIND'
    training = [f"{n}\t@USER tweet {n}\t{'OFF' if n % 3 == 0 else 'NOT'}\tNULL\tNULL" for n in range(39, 79)]
    tweets = ('9\t"""Quoted"" from the start"', "8\tIt's #plain, \u2018really\u2019 URL")
    corpus = load_offenseval(
        source(olid(*training[:3], quoted, *training[3:], tweets=tweets, answers=("8,OFF", "9,NOT"))), CONFIG
    )
    assert (corpus.name, corpus.labels, corpus.task_metric) == ("offenseval", ("NOT", "OFF"), "macro_f1")
    assert sizes(corpus) == [37, 4, 2]
    assert_sound(corpus, 43)
    assert set(rows(corpus, "train", "dev")) == {
        *((str(n), (f"@USER tweet {n}",), int(n % 3 == 0)) for n in range(39, 79)),
        ("103", ('@USER "Go" home, \'now\'"',), 1),
    }
    assert rows(corpus, "test") == [
        ("9", ('"Quoted" from the start',), 0),
        ("8", ("It's #plain, \u2018really\u2019 URL",), 1),
    ]
    assert Counter(corpus.splits["dev"].labels.tolist()) == {0: 3, 1: 1}
    assert corpus.notes == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            olid("1\ta\tMAYBE\tNULL\tNULL"),
            "olid-training-v1.0.tsv, line 2: 'subtask_a' must be one of NOT, OFF, but is",
        ),
        (olid("1\ta\tNOT\tNULL\tNULL", "1\tb\tOFF\tUNT\tNULL"), "olid-training-v1.0.tsv, line 3: 'id' must be unique"),
        (olid("1\ta\tNOT\tNULL"), "olid-training-v1.0.tsv, line 2: must have 5 columns, but has 4"),
        (olid("1\t \tNOT\tNULL\tNULL"), "olid-training-v1.0.tsv, line 2: 'tweet' must be text, but is empty"),
        (olid('1\t"a" b\tNOT\tNULL\tNULL'), "olid-training-v1.0.tsv, line 2: must be a row whose quotes come in pairs"),
        (olid("9\ta\tNOT\tNULL\tNULL"), "testset-levela.tsv, line 2: 'id' must be unique, but '9' is there twice"),
        (
            olid(tweets=("9\ta", "7\tb")),
            "testset-levela.tsv, line 3: id '7' must have a label in labels-levela.csv, but has none",
        ),
        (
            olid(answers=("9,NOT", "6,OFF")),
            "labels-levela.csv, line 2: id '6' must have a tweet in testset-levela.tsv, but has none",
        ),
        (olid(answers=("9,NOT", "9,OFF")), "labels-levela.csv, line 2: 'id' must be unique, but '9' is there twice"),
        (olid(answers=("9,not",)), "labels-levela.csv, line 1: 'subtask_a' must be one of NOT, OFF, but is 'not'"),
        (olid(answers=("9",)), "labels-levela.csv, line 1: must have 2 columns, but has 1"),
        (
            {**olid(), OLID[0]: "id\ttweet\n"},
            "olid-training-v1.0.tsv, line 1: must have one column 'subtask_a', but has",
        ),
        (
            {**olid(), OLID[1]: "7\ttweet\n"},
            "testset-levela.tsv, line 1: must have one column 'id', but has '7', 'tweet'",
        ),
    ],
)
def test_broken_files_of_offenseval_are_named(files, message):
    assert refused(load_offenseval, files).startswith(f"corpus: {message}")


@pytest.mark.parametrize("missing", OLID)
def test_offenseval_needs_its_three_files(missing):
    files = {name: text for name, text in olid().items() if name != missing}
    assert refused(load_offenseval, files) == f"corpus: has no file {missing!r}"


# Irony

IRONY = ("SemEval2018-T3-train-taskA_emoji.txt", "SemEval2018-T3_gold_test_taskA_emoji.txt")


def irony(*training: str, test: Sequence[str] = ("1\t0\tFine",)) -> dict[str, str]:
    header = "Tweet index\tLabel\tTweet text"
    return {name: "\n".join((header, *lines)) + "\n" for name, lines in zip(IRONY, (training, test), strict=True)}


def test_irony_by_hand():
    odd = ['1\t1\t"A quote that nobody ends ', '2\t0\t"a" and b', '3\t0\t:-) "" | \U0001f600', "4\t1\tback\\slash"]
    files = irony(*odd, *(f"{n}\t{n % 2}\ttweet {n}" for n in range(5, 17)), test=("1\t1\tOh, how nice", '2\t0\t"'))
    corpus = load_irony(source(files), CONFIG)
    assert (corpus.name, corpus.labels, corpus.task_metric) == ("irony", ("not ironic", "ironic"), "binary_f1")
    assert sizes(corpus) == [12, 4, 2]
    assert_sound(corpus, 18)
    assert set(rows(corpus, "train", "dev")) == {
        ("train-1", ('"A quote that nobody ends ',), 1),
        ("train-2", ('"a" and b',), 0),
        ("train-3", (':-) "" | \U0001f600',), 0),
        ("train-4", ("back\\slash",), 1),
        *((f"train-{n}", (f"tweet {n}",), n % 2) for n in range(5, 17)),
    }
    assert rows(corpus, "test") == [("test-1", ("Oh, how nice",), 1), ("test-2", ('"',), 0)]
    assert Counter(corpus.splits["dev"].labels.tolist()) == {0: 2, 1: 2}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("2\t2\ta", "'Label' must be one of 0, 1, but is '2'"),
        ("1\t0\ta", "'Tweet index' must be unique, but '1' is there twice"),
        ("2\t0", "must have 3 columns, but has 2"),
        ("2\t0\ta\tb", "must have 3 columns, but has 4"),
        ("2\t0\t ", "'Tweet text' must be text, but is empty"),
        ("2\t0\ta\0", "must be text, but holds a NUL character"),
    ],
)
def test_broken_lines_of_irony_are_named(broken, message):
    found = refused(load_irony, irony("1\t0\ta", broken))
    assert found == f"corpus: {IRONY[0]}, line 3: {message}"
    found = refused(load_irony, irony("1\t0\ta", test=("1\t0\ta", broken)))
    assert found == f"corpus: {IRONY[1]}, line 3: {message}"


def test_irony_needs_its_header_and_both_files():
    headless = {**irony(), IRONY[0]: "1\t0\ta\n"}
    assert refused(load_irony, headless).startswith(f"corpus: {IRONY[0]}, line 1: must have one column 'Tweet index'")
    assert refused(load_irony, {IRONY[0]: irony()[IRONY[0]]}) == f"corpus: has no file {IRONY[1]!r}"


# Real corpora

FOLDER = os.environ.get("UNIREX_DATA")


def real(name: str, file: str, expected: Sequence[str]) -> tuple[Source, DataConfig]:
    place = Path(FOLDER or "") / file
    if not place.exists():
        pytest.skip(f"{place} is missing")
    return open_source(place, expected, "give the corpus"), DataConfig(name=name, source=str(place))


def assert_stratified(corpus: Corpus, splits: Sequence[str]) -> None:
    """Within the splits that were drawn, each label's count is within one of its share."""
    counts = [Counter(corpus.splits[split].labels.tolist()) for split in splits]
    whole = sum(counts, Counter())
    for count in counts:
        for label in range(len(corpus.labels)):
            assert abs(count[label] - whole[label] * count.total() / whole.total()) < 1


@pytest.mark.corpus
@pytest.mark.skipif(FOLDER is None, reason="UNIREX_DATA does not name a folder of corpora")
class TestRealCorpora:
    def test_irony_as_published(self):
        files, config = real("irony", "semeval2018_irony", IRONY)
        corpus = load_irony(files, config)
        assert sizes(corpus) == [2876, 958, 784]
        assert_sound(corpus, 4618)
        assert_stratified(corpus, ("train", "dev"))
        assert Counter(corpus.splits["test"].labels.tolist()) == {0: 473, 1: 311}
        for splits, file in ((("train", "dev"), IRONY[0]), (("test",), IRONY[1])):
            lines = files.content(file).decode().rstrip("\n").split("\n")[1:]
            published = Counter((line.split("\t")[2], int(line.split("\t")[1])) for line in lines)
            assert Counter((text, label) for _, (text,), label in rows(corpus, *splits)) == published

    def test_offenseval_as_published(self):
        files, config = real("offenseval", "offenseval_olid", OLID)
        corpus = load_offenseval(files, config)
        assert sizes(corpus) == [11916, 1324, 860]
        assert_sound(corpus, 14100)
        assert_stratified(corpus, ("train", "dev"))
        assert Counter(corpus.splits["test"].labels.tolist()) == {0: 620, 1: 240}
        lines = [line.split("\t") for line in files.content(OLID[0]).decode().rstrip("\n").split("\n")[1:]]
        texts = {
            fields[0]: fields[1][1:-1].replace('""', '"') if fields[1].startswith('"') else fields[1]
            for fields in lines
        }
        labels = {fields[0]: ("NOT", "OFF").index(fields[2]) for fields in lines}
        found = rows(corpus, "train", "dev")
        assert {id_: text for id_, (text,), _ in found} == texts
        assert {id_: label for id_, _, label in found} == labels
        answers = dict(line.split(",") for line in files.content(OLID[2]).decode().split())
        assert {id_: corpus.labels[label] for id_, _, label in rows(corpus, "test")} == answers

    def test_stormfront_as_published(self):
        files, config = real("stormfront", "stormfront.tar.gz", ("annotations_metadata.csv",))
        corpus = load_stormfront(files, config)
        assert sizes(corpus) == [7773, 963, 1967]
        assert_sound(corpus, 10703)
        assert_stratified(corpus, SPLITS)
        counts = Counter(label for _, _, label in rows(corpus))
        assert counts == {0: 9507, 1: 1196}
        with tarfile.open(Path(FOLDER or "") / "stormfront.tar.gz") as tar:
            texts = {
                Path(member.name).stem: (tar.extractfile(member) or io.BytesIO()).read().decode()
                for member in tar
                if member.isreg() and Path(member.name).parent.name == "all_files"
            }
        assert all(texts[id_] == text for id_, (text,), _ in rows(corpus))
        assert corpus.notes == (
            "73 sentences labelled idk/skip are left out",
            "168 sentences labelled relation are left out",
        )
