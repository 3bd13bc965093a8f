import io
import json
from typing import Any

import pyarrow as pa
import pytest
from helpers.labelled_corpora import refused, source
from pyarrow import parquet

from unirex_ray.config import DataConfig
from unirex_ray.data.corpora.hatexplain import load_hatexplain
from unirex_ray.data.load import load_corpus

CONFIG = DataConfig(name="hatexplain")


def post(*labels: int | str, rationales: list[list[int]] | None = None, **extra: Any) -> dict[str, Any]:
    annotators = {"label": list(labels), "annotator_id": list(range(len(labels))), "target": [["None"]] * len(labels)}
    return {
        "id": "1_gab",
        "annotators": annotators,
        "rationales": rationales or [],
        "post_tokens": ["<user>", "is", "so", "dull"],
        **extra,
    }


POSTS = [
    post(0, 2, 0, rationales=[[0, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1]]),
    post(2, 2, 1, rationales=[[0, 0, 1, 1], [0, 1, 0, 1]]),
    post(1, 1, 1),
    post(0, 1, 2, rationales=[[1, 1, 1, 1]]),
]


def as_listed(record: dict[str, Any]) -> dict[str, Any]:
    """With a record for each annotator, as newer versions write them."""
    columns = record["annotators"]
    return {
        **record,
        "annotators": [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)],
    }


def as_parquet(records: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def as_lines(records: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, records)).encode()


@pytest.mark.parametrize("shape", [dict, as_listed])
@pytest.mark.parametrize(("kind", "write"), [("parquet", as_parquet), ("jsonl", as_lines)])
def test_the_majority_decides_label_and_rationale(kind, write, shape):
    content = write([shape(record) for record in POSTS])
    corpus = load_hatexplain(source({f"{name}.{kind}": content for name in ("train", "validation", "test")}), CONFIG)
    text = "<user> is so dull"
    # Of three, two have to agree; of two, one is half of them.
    expected = [("train-1", 0, ((0, 13, 17),)), ("train-2", 2, ((0, 7, 17),)), ("train-3", 1, None)]
    train = corpus.splits["train"]
    assert [(instance.id, instance.label, instance.inputs[0].gold) for instance in train] == expected
    assert {instance.inputs[0].segments for instance in train} == {(text,)}
    assert (corpus.labels, corpus.task_metric) == (("hatespeech", "normal", "offensive"), "macro_f1")
    left_out = "posts without a majority label are left out"
    assert corpus.notes == tuple(f"{split}: 1 {left_out}" for split in ("train", "dev", "test"))


def test_labels_may_be_names_and_a_corpus_is_loaded_by_its_name(tmp_path):
    names = [post("normal"), post("offensive", rationales=[[1, 0, 0, 0]]), post("hatespeech")]
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.json").write_bytes(as_lines(names))
    corpus = load_corpus(DataConfig(name="hatexplain", source=str(tmp_path), cache=str(tmp_path / "cache")))
    assert corpus.splits["test"].labels.tolist() == [1, 2, 0]
    assert corpus.has_gold("train")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            post(0, rationales=[[0, 1]]),
            "'rationales' must have one 0 or 1 for each of the 4 words of 'post_tokens', but one",
        ),
        (post(0, rationales=[[0, 1, 0, 2]]), "'rationales' must be lists of a 0 or 1 per word, but is [[0, 1, 0, 2]]"),
        (post(0, rationales=[0, 1]), "'rationales' must be lists of a 0 or 1 per word"),  # type: ignore[list-item]
        (post(3), "'label' must be one of hatespeech, normal, offensive, but is '3'"),
        (post("rude"), "'label' must be one of hatespeech, normal, offensive, but is 'rude'"),
        (post(), "'annotators' must have the label of at least one annotator"),
        (post(0, annotators=[{"id": 1}]), "'annotators' must have the label of at least one annotator"),
        (post(0, post_tokens=[]), "'post_tokens' must be text or a list of tokens, but is []"),
        (post(0, post_tokens=["a", ""]), "'post_tokens' must be text or a list of tokens"),
    ],
)
def test_broken_posts_are_named(broken, message):
    found = refused(load_hatexplain, {"train.jsonl": as_lines([POSTS[0], broken])}, name="hatexplain")
    assert found.startswith(f"corpus: train.jsonl, line 2: {message}")


def test_other_columns_are_no_hatexplain():
    found = refused(load_hatexplain, {"train.csv": "text,label\na,0\n"}, name="hatexplain")
    assert found.startswith("corpus: train.csv, line 1: must have one column 'post_tokens', but has 'text', 'label'")
