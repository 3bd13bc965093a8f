"""Small ERASER corpora in memory."""

import json
from typing import Any

from unirex_ray.data.files.source import Source

DOCUMENT = "so  good\nreally bad\u00a0luck \n\n .\n"


def row(id_: str, label: str = "NEG", spans: tuple[tuple[int, int], ...] = ((2, 3),), **extra: Any) -> dict[str, Any]:
    evidence = [[{"docid": "d1", "start_token": start, "end_token": end}] for start, end in spans]
    return {"annotation_id": id_, "classification": label, "evidences": evidence, "query": "  what  now", **extra}


def files(*train: dict[str, Any] | str, docs: str | None = None) -> dict[str, bytes]:
    lines = [line if isinstance(line, str) else json.dumps(line) for line in train]
    contents = {
        "train.jsonl": "\n".join(lines) + "\n",
        "val.jsonl": json.dumps(row("v", "POS")),
        "test.jsonl": json.dumps(row("t", "POS")),
        "docs/d1": DOCUMENT,
        "docs/own": "one two",
        "docs/blank": " \n",
    }
    if docs is not None:
        contents["docs.jsonl"] = docs
    return {name: text.encode() for name, text in contents.items()}


def source(*train: dict[str, Any] | str, docs: str | None = None) -> Source:
    return Source("corpus", files(*train, docs=docs).get)


def sentences(start: int, end: int, **tokens: int) -> dict[str, Any]:
    return {"docid": "d1", "start_sentence": start, "end_sentence": end, **tokens}


def pair(id_: str, label: str, *evidence: tuple[str, int, int], **extra: Any) -> dict[str, Any]:
    spans = [
        {"docid": f"{id_}_{doc}", "start_token": a, "end_token": b, "start_sentence": -1} for doc, a, b in evidence
    ]
    return {
        "annotation_id": id_,
        "classification": label,
        "docids": [f"{id_}_hypothesis", f"{id_}_premise"],
        "evidences": [spans] if spans else [],
        "query": None,
        **extra,
    }
