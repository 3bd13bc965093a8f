"""The commands of data/README.md's section on own corpora, as they stand, on the files that it describes."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.documented import blocks, commands, section
from helpers.job_module import job_module

from unirex_ray.config import DataConfig
from unirex_ray.data.load import load_corpus

SECTION = section("unirex_ray/data/README.md", "A corpus of your own")
COMMANDS = {words[2].removeprefix("--data.source="): words for words in commands(SECTION)}


def save_to_disk(folder: Path, records: list[dict]) -> None:
    """As `datasets` does."""
    table = pa.Table.from_pylist(records)
    for split in ("train", "validation", "test"):
        (folder / split).mkdir(parents=True)
        with pa.ipc.new_stream(folder / split / "data-00000-of-00001.arrow", table.schema) as writer:
            writer.write_table(table)
        (folder / split / "state.json").write_text("{}")
        (folder / split / "dataset_info.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = [f"a review {number},{('no', 'yes')[number % 2]}" for number in range(20)]
    Path("reviews.csv").write_text("\n".join(["review,verdict", *lines]))
    (example,) = blocks(SECTION, "jsonl")
    Path("my-table").mkdir()
    for split in ("train", "dev", "test"):
        Path("my-table", f"{split}.jsonl").write_text(example)
    Path("my-corpus").mkdir()
    Path("my-corpus", "docs.jsonl").write_text(json.dumps({"docid": "r", "document": "a film that is dull"}))
    for split in ("train", "val", "test"):
        evidence = [[{"docid": "r", "start_token": 4, "end_token": 5}]]
        rows = [
            {"annotation_id": f"{split}{label}", "classification": label, "query": None, "evidences": evidence}
            for label in ("NEG", "POS")
        ]
        Path("my-corpus", f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = {
        "review": "a film\nthat is dull",
        "passage": "It was red .\nIt sank .",
        "query_and_answer": "Colour ? || Red",
    }
    save_to_disk(Path("movie_rationales"), [{**text, "label": n, "evidences": ["film that"]} for n in (0, 1)])
    save_to_disk(Path("eraser_multi_rc"), [{**text, "label": n, "evidences": ["It was red ."]} for n in (0, 1)])
    post = {"post_tokens": ["so", "dull"], "rationales": [[0, 1]]}
    save_to_disk(Path("hatexplain"), [{**post, "annotators": {"label": [n] * 3}} for n in (0, 1, 2)])
    return tmp_path


def test_there_is_a_command_for_every_form() -> None:
    assert set(COMMANDS) == {
        "reviews.csv",
        "my-table",
        "movie_rationales",
        "eraser_multi_rc",
        "hatexplain",
        "my-corpus",
    }


@pytest.mark.slow
@pytest.mark.parametrize("source", COMMANDS)
def test_a_documented_corpus_is_prepared(
    source: str,
    files: Path,
    encoders: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job, *arguments = COMMANDS[source]
    monkeypatch.setattr(sys, "argv", [f"{job}.py", *arguments, f"--model.encoder={encoders['bert']}"])
    job_module(job).main()
    shown = capsys.readouterr().out
    assert "next:" in shown
    assert ("sweep.py" in shown) == (source != "reviews.csv")  # with gold rationales


def test_the_forms_of_the_example_mark_the_same_words(files: Path) -> None:
    config = DataConfig(
        name="table", source="my-table", labels=("no", "yes"), rationale_columns=("why",), cache=str(files / "cache")
    )
    *explained, plain = (instance.inputs[0] for instance in load_corpus(config).splits["train"])
    assert plain.gold is None
    marked = [[text.segments[0][start:end].strip(",") for _, start, end in text.gold or ()] for text in explained]
    assert marked == [["dull", "film"]] * 5
