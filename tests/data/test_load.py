import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from unirex_ray.config import DataConfig
from unirex_ray.data import load as load_module
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.load import check_corpus, load_corpus
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError


def instance(id_: str, label: int = 0, text: str = "a good film", gold=((0, 2, 6),)) -> Instance:
    return Instance(id=id_, inputs=(Input(segments=(text,), gold=gold),), label=label)


CORPUS = Corpus(
    name="toy",
    labels=("no", "yes"),
    splits={
        "train": InstanceTable.from_instances([instance("a"), instance("b", 1)]),
        "dev": InstanceTable.from_instances([instance("c")]),
        "test": InstanceTable.from_instances([instance("d")]),
    },
)


def with_split(split: str, *instances: Instance) -> Corpus:
    return replace(CORPUS, splits={**CORPUS.splits, split: InstanceTable.from_instances(instances)})


def test_a_sound_corpus_passes():
    check_corpus(CORPUS)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (with_split("dev"), "the dev split of toy is empty"),
        (with_split("train", instance("a")), "the train split of toy has no instance of yes$"),
        (with_split("test", instance("a")), "toy, test, instance 'a': duplicate id"),
        (with_split("dev", instance("c", 2)), "'c': label 2 must be from 0 to 1"),
        (with_split("dev", instance("c", text=" \n", gold=None)), "'c': a text is empty"),
        (with_split("dev", instance("c", gold=((0, 2, 12),))), r"rationale \[2, 12\) must be within its text of 11"),
        (with_split("dev", instance("c", gold=((1, 0, 1),))), r"rationale \[0, 1\) must be within its text of 0"),
        (with_split("dev", instance("c", gold=((0, 3, 3),))), r"rationale \[3, 3\)"),
        (with_split("dev", instance("c", text="x\ud800", gold=None)), "character 1 is half of a surrogate pair"),
        (with_split("dev", instance("c\ud800")), "the id holds half of a surrogate pair"),
        (with_split("dev", Instance(id="c", inputs=(), label=0)), "must have 1 inputs, but has 0"),
        (with_split("dev", Instance(id="c", inputs=(Input(segments=()),), label=0)), "one or two texts, but has 0"),
        (replace(CORPUS, multi_choice=True), "must have 2 inputs, but has 1"),
    ],
)
def test_unsound_corpora_are_refused(corpus, message):
    with pytest.raises(UserError, match=message):
        check_corpus(corpus)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            DataConfig(name="movie"),
            r"unknown data.name = 'movie' \(did you mean 'movies'\?\); choose one of reviews, sst,",
        ),
        (DataConfig(name="sst"), r"data.name=sst needs data.source; give trainDevTestTrees_PTB\.zip"),
        (DataConfig(name="movies"), r"needs data.source; give ERASER's movies\.tar\.gz"),
        (DataConfig(name="cose"), r"needs data.source; give ERASER's cose\.tar\.gz"),
        (DataConfig(name="eraser", labels=("a", "b")), "needs data.source"),
        (DataConfig(name="eraser", source="x"), "needs data.labels"),
        (DataConfig(name="eraser", source="x", labels=("a", "a")), "at least two different labels"),
        (DataConfig(name="sst", source="/nowhere/x.zip"), "'/nowhere/x.zip' does not exist"),
        (DataConfig(name="sst", source="x", labels=("a", "b")), "data.labels is for data.name=eraser and table alone"),
        (DataConfig(name="reviews", source="x.zip"), r"data.source = 'x\.zip': data.name=reviews is generated"),
    ],
)
def test_impossible_requests_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        load_corpus(config)


def test_loads_by_name_and_limits_each_split(tmp_path):
    for split in ("train", "dev", "test"):
        lines = [f"({label} (2 w{number}) (2 .))" for number in range(10) for label in (0, 2, 4, 4)]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    whole = load_corpus(DataConfig(name="sst", source=str(tmp_path)))
    assert {split: len(instances) for split, instances in whole.splits.items()} == dict.fromkeys(whole.splits, 30)
    small = load_corpus(DataConfig(name="sst", source=str(tmp_path), limit=6))
    larger = load_corpus(DataConfig(name="sst", source=str(tmp_path), limit=12))
    for split, instances in small.splits.items():
        assert sorted(instance.label for instance in instances) == [0, 0, 1, 1, 1, 1]
        assert set(instances) < set(larger.splits[split]) < set(whole.splits[split])
        assert [i for i in whole.splits[split] if i in set(instances)] == list(instances)
    other = load_corpus(DataConfig(name="sst", source=str(tmp_path), limit=6, seed=1))
    assert other.splits != small.splits
    with pytest.raises(UserError, match=r"no instance of negative within data\.limit = 1; raise it"):
        load_corpus(DataConfig(name="sst", source=str(tmp_path), limit=1))


def test_loads_eraser_from_a_folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "d").write_text("one two")
    for number, file in enumerate(("train.jsonl", "val.jsonl", "test.jsonl")):
        rows = [
            {"annotation_id": f"{number}{label}", "classification": label, "evidences": [], "docids": ["d"]}
            for label in ("x", "y")
        ]
        (tmp_path / file).write_text("\n".join(map(json.dumps, rows)))
    corpus = load_corpus(DataConfig(name="eraser", source=str(tmp_path), labels=("x", "y")))
    assert [len(corpus.splits[split]) for split in ("train", "dev", "test")] == [2, 2, 2]
    assert not corpus.has_gold("train")


def test_loads_and_limits_cose_from_a_folder(tmp_path):
    (tmp_path / "docs.jsonl").write_text(json.dumps({"docid": "d", "document": "which one ?"}))
    query = " [sep] ".join(("one", "two", "three", "four", "five"))
    for file in ("train.jsonl", "val.jsonl", "test.jsonl"):
        rows = [
            {"annotation_id": f"{file}{n}", "classification": "ABCDE"[n % 5], "evidences": [], "query": query}
            for n in range(20)
        ]
        (tmp_path / file).write_text("\n".join(json.dumps({**row, "docids": ["d"]}) for row in rows))
    corpus = load_corpus(DataConfig(name="cose", source=str(tmp_path), limit=10))
    for instances in corpus.splits.values():
        assert sorted(instance.label for instance in instances) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    with pytest.raises(UserError, match=r"train split of cose has no instance of .* within data\.limit = 4; raise it"):
        load_corpus(DataConfig(name="cose", source=str(tmp_path), limit=4))


def treebank(folder: Path, **texts: str) -> str:
    folder.mkdir(exist_ok=True)
    for split in ("train", "dev", "test"):
        lines = [f"({label} (2 {texts.get(split, split)}{label}) (2 .))" for label in (0, 4)]
        (folder / f"{split}.txt").write_text("\n".join(lines))
    return str(folder)


@pytest.fixture
def parsed(monkeypatch):
    """Counts how often a treebank is parsed."""
    calls = []
    load = load_module.treebank.load_treebank
    monkeypatch.setattr(
        load_module.treebank, "load_treebank", lambda source: calls.append(source.label) or load(source)
    )
    return calls


@pytest.mark.parametrize("kind", ["folder", "zip", "gztar"])
def test_a_second_time_nothing_is_parsed_until_the_files_hold_something_else(tmp_path, parsed, kind):
    folder, cache = tmp_path / "sst", str(tmp_path / "cache")

    def written(**texts: str) -> str:
        treebank(folder, **texts)
        return str(folder) if kind == "folder" else shutil.make_archive(str(tmp_path / "sst"), kind, folder)

    config = DataConfig(name="sst", source=written(), cache=cache)
    first = load_corpus(config)
    if kind == "folder":
        (folder / "notes.md").write_text("nothing that is read")
    again = load_corpus(config)
    assert len(parsed) == 1
    assert again.splits == first.splits
    assert (again.digest(), again.notes, again.labels) == (first.digest(), first.notes, first.labels)
    written(dev="other")
    changed = load_corpus(config)
    assert len(parsed) == 2
    assert changed.splits["dev"][0].inputs[0].segments == ("other0 .",)
    assert changed.digest() != first.digest()


def test_a_damaged_cache_is_read_anew_and_put_right(tmp_path, parsed):
    config = DataConfig(name="sst", source=treebank(tmp_path / "sst"), cache=str(tmp_path / "cache"))
    first = load_corpus(config)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:-60], whole[:200], b"", whole.replace(b"train0", b"train1")):
        file.write_bytes(damaged)
        assert load_corpus(config).splits == first.splits
        assert file.read_bytes() == whole
    assert len(parsed) == 5


def test_a_broken_corpus_is_not_kept(tmp_path, parsed):
    source = treebank(tmp_path / "sst")
    (tmp_path / "sst" / "dev.txt").write_text("(0 (2 a) (2 .)")
    for _ in range(2):
        with pytest.raises(UserError, match=r"dev\.txt, line 1: a bracket is not closed"):
            load_corpus(DataConfig(name="sst", source=source, cache=str(tmp_path / "cache")))
    assert len(parsed) == 2
    assert not (tmp_path / "cache").exists()


def test_the_cache_of_a_corpus_that_cannot_be_written_is_refused_only_where_it_was_asked_for(tmp_path, monkeypatch):
    source = treebank(tmp_path / "sst")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache = .* cannot be written"):
        load_corpus(DataConfig(name="sst", source=source, cache=str(tmp_path / "file")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load_corpus(DataConfig(name="sst", source=source)).splits["train"]) == 2


def test_options_that_are_for_another_corpus_are_refused():
    for option, value in (("text_columns", ("a",)), ("label_column", "b"), ("task_metric", "accuracy")):
        with pytest.raises(UserError, match=rf"data\.{option} is for data\.name=.*table alone; leave it out"):
            load_corpus(DataConfig(name="sst", source="x", **{option: value}))


def test_binary_f1_needs_two_classes(tmp_path):
    config = DataConfig(name="eraser", source="x", labels=("a", "b", "c"), task_metric="binary_f1")
    with pytest.raises(UserError, match=r"data\.task_metric = binary_f1 .* but data\.labels has 3"):
        load_corpus(config)


def test_documents_behind_a_link_are_part_of_what_is_read(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "deep" / "d").write_text("one two")
    corpus = tmp_path / "corpus"
    (corpus / "docs").mkdir(parents=True)
    (corpus / "docs" / "sub").symlink_to(tmp_path / "real" / "deep")
    for file in ("train.jsonl", "val.jsonl", "test.jsonl"):
        rows = [
            {"annotation_id": f"{file}{label}", "classification": label, "evidences": [], "docids": ["sub/d"]}
            for label in ("x", "y")
        ]
        (corpus / file).write_text("\n".join(map(json.dumps, rows)))
    config = DataConfig(name="eraser", source=str(corpus), labels=("x", "y"), cache=str(tmp_path / "cache"))
    first = load_corpus(config)
    (tmp_path / "real" / "deep" / "d").write_text("three four")
    assert load_corpus(config).splits["train"][0].inputs[0].segments == ("three four",)
    assert load_corpus(config).digest() != first.digest()
