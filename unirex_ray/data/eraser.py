"""ERASER corpora with document-level text and token spans (DeYoung et al. 2020)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unirex_ray.data.schema import Corpus, Input, Instance
from unirex_ray.data.source import Source
from unirex_ray.data.spans import gold_spans
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import Split

FILES: dict[Split, str] = {"train": "train.jsonl", "dev": "val.jsonl", "test": "test.jsonl"}

MOVIES_LABELS = ("NEG", "POS")
MOVIES_MAX_LENGTH = 1024
COSE_LABELS = ("A", "B", "C", "D", "E")

_CHOICE_SEPARATOR = "[sep]"

# As ERASER's own tools do: tokens are parted by blanks and line ends, never by a no-break space.
_TOKEN = re.compile(r"[^ \t\r\n]+")


def load_movies(source: Source) -> Corpus:
    """Read the Movies corpus: the sentiment of a document; the query, equal everywhere, is left out.

    Raises:
        UserError: as `load_eraser`.
    """
    splits, notes = _read_splits(source, MOVIES_LABELS, _document_alone)
    return Corpus(
        name="movies",
        labels=MOVIES_LABELS,
        splits=splits,
        task_metric="macro_f1",
        max_length=MOVIES_MAX_LENGTH,
        truncation="rationale",
        notes=notes,
    )


def load_cose(source: Source) -> Corpus:
    """Read the CoS-E corpus: a question with five choices, one input each.

    The document is the question; the query holds the choices, joined by ` [sep] `; `classification` is the letter of
    the right one. Segments are the question and the choice; the evidence lies in the question, so every input of an
    instance has the same gold rationale. Two choices may be equal, the right one included, as published.

    Raises:
        UserError: as `load_eraser`; for a query that does not hold five choices, or holds an empty one.
    """
    splits, notes = _read_splits(source, COSE_LABELS, _question_and_choices)
    return Corpus(name="cose", labels=COSE_LABELS, splits=splits, multi_choice=True, notes=notes)


def load_eraser(source: Source, labels: Sequence[str]) -> Corpus:
    """Read any ERASER corpus whose instances each stand on one document.

    The document, as whitespace tokens joined by single spaces, is the first segment; the query, where it is not empty,
    the second. Documents come from `docs.jsonl` or from a `docs` folder. An instance's document is the one that its
    `docids` or its evidence names, otherwise the one with the instance's own id. An instance without evidence has no
    gold rationale; an empty span (Movies has some) is no evidence.

    Args:
        labels: the values of `classification`, in the order of the classes.

    Raises:
        UserError: for anything broken, with its file and line.
    """
    splits, notes = _read_splits(source, tuple(labels), _document_and_query)
    return Corpus(name="eraser", labels=tuple(labels), splits=splits, task_metric="macro_f1", notes=notes)


@dataclass(frozen=True)
class _Row:
    """One line of a .jsonl file, with its place for messages."""

    place: str
    values: dict[str, Any]

    def get(self, key: str, kind: type, allowed: str) -> Any:
        value = self.values.get(key)
        if type(value) is not kind:
            raise UserError(f"{self.place}: {key!r} must be {allowed}, but is {_brief(value)}")
        return value


def _rows(source: Source, file: str) -> Iterator[_Row]:
    for number, line in enumerate(source.text(file).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{source.label}: {file}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: broken JSON ({error})") from None
        if not isinstance(values, dict):
            raise UserError(f"{place}: must be a JSON object, but is {_brief(values)}")
        yield _Row(place, values)


def _documents(source: Source) -> Callable[[str], tuple[str, ...] | None]:
    """Tokens by document id; None for an unknown one."""
    tokens: dict[str, tuple[str, ...]] = {}
    if source.find("docs.jsonl") is not None:
        for row in _rows(source, "docs.jsonl"):
            docid = row.get("docid", str, "a string")
            if docid in tokens:
                raise UserError(f"{row.place}: document {docid!r} comes twice")
            tokens[docid] = tuple(_TOKEN.findall(row.get("document", str, "a string")))
        return tokens.get

    def from_folder(docid: str) -> tuple[str, ...] | None:
        if docid not in tokens:
            name = f"docs/{docid}"
            data = source.find(name)
            if data is None:
                return None
            tokens[docid] = tuple(_TOKEN.findall(source.decode(name, data)))
        return tokens[docid]

    return from_folder


@dataclass
class _Counts:
    """What is worth a note."""

    instances: int = 0
    without_evidence: int = 0
    empty_spans: int = 0
    unlike_text: int = 0

    def notes(self, split: Split) -> Iterator[str]:
        if self.without_evidence:
            yield f"{split}: {self.without_evidence} of {self.instances} instances have no evidence"
        if self.empty_spans:
            yield f"{split}: {self.empty_spans} evidence spans are empty"
        if self.unlike_text:
            yield f"{split}: {self.unlike_text} evidence spans differ from the text that is quoted beside them"


_MakeInputs = Callable[[_Row, Sequence[str], Sequence[bool]], tuple[Input, ...]]
"""An instance's inputs from its line, the tokens of its document, and a gold flag for each of them."""


def _document_alone(row: _Row, tokens: Sequence[str], gold: Sequence[bool]) -> tuple[Input, ...]:
    return (Input(segments=(" ".join(tokens),), gold=gold_spans(tokens, gold) or None),)


def _document_and_query(row: _Row, tokens: Sequence[str], gold: Sequence[bool]) -> tuple[Input, ...]:
    query = row.values.get("query")
    if query is not None and not isinstance(query, str):
        raise UserError(f"{row.place}: 'query' must be a string, but is {_brief(query)}")
    (document,) = _document_alone(row, tokens, gold)
    query = _tidy(query or "")
    return (replace(document, segments=(*document.segments, query)) if query else document,)


def _question_and_choices(row: _Row, tokens: Sequence[str], gold: Sequence[bool]) -> tuple[Input, ...]:
    query = row.get("query", str, "a string")
    choices = [_tidy(choice) for choice in query.split(_CHOICE_SEPARATOR)]
    expected = f"'query' must hold {len(COSE_LABELS)} choices joined by ' {_CHOICE_SEPARATOR} '"
    if len(choices) != len(COSE_LABELS):
        raise UserError(f"{row.place}: {expected}, but holds {len(choices)}: {_brief(query)}")
    if "" in choices:
        raise UserError(f"{row.place}: {expected}, but choice {COSE_LABELS[choices.index('')]} is empty")
    (question,) = _document_alone(row, tokens, gold)
    return tuple(replace(question, segments=(*question.segments, choice)) for choice in choices)


def _tidy(text: str) -> str:
    return " ".join(_TOKEN.findall(text))


@dataclass
class _Reader:
    document: Callable[[str], tuple[str, ...] | None]
    labels: tuple[str, ...]
    make_inputs: _MakeInputs
    seen: set[str] = field(default_factory=set)

    def instance(self, row: _Row, counts: _Counts) -> Instance:
        id_ = row.get("annotation_id", str, "a string")
        if id_ in self.seen:
            raise UserError(f"{row.place}: annotation_id {id_!r} comes twice")
        self.seen.add(id_)
        label = row.get("classification", str, "a string")
        if label not in self.labels:
            raise UserError(f"{row.place}: classification {label!r} is not one of {', '.join(self.labels)}")

        evidence = list(_evidence(row))
        docid = _docid(row, id_, evidence)
        tokens = self.document(docid)
        if tokens is None:
            raise UserError(f"{row.place}: document {docid!r} is neither in docs.jsonl nor in docs/")
        if not tokens:
            raise UserError(f"{row.place}: document {docid!r} is empty")

        gold = [False] * len(tokens)
        for span in evidence:
            start, end = (span.get(key, int, "a token index") for key in ("start_token", "end_token"))
            if not 0 <= start <= end <= len(tokens):
                raise UserError(
                    f"{row.place}: evidence span [{start}, {end}) must be within the {len(tokens)} tokens of {docid!r}"
                )
            counts.empty_spans += start == end
            gold[start:end] = [True] * (end - start)
            quoted = span.values.get("text")
            counts.unlike_text += isinstance(quoted, str) and _TOKEN.findall(quoted) != list(tokens[start:end])
        counts.instances += 1
        counts.without_evidence += not any(gold)
        return Instance(id=id_, inputs=self.make_inputs(row, tokens, gold), label=self.labels.index(label))


def _read_splits(
    source: Source, labels: tuple[str, ...], make_inputs: _MakeInputs
) -> tuple[dict[Split, tuple[Instance, ...]], tuple[str, ...]]:
    reader = _Reader(_documents(source), labels, make_inputs)
    splits: dict[Split, tuple[Instance, ...]] = {}
    notes: list[str] = []
    for split, file in FILES.items():
        counts = _Counts()
        splits[split] = tuple(reader.instance(row, counts) for row in _rows(source, file))
        notes.extend(counts.notes(split))
    return splits, tuple(notes)


def _evidence(row: _Row) -> Iterator[_Row]:
    for group in row.get("evidences", list, "a list of groups of spans"):
        if not isinstance(group, list) or not all(isinstance(span, dict) for span in group):
            raise UserError(f"{row.place}: 'evidences' must be a list of groups of spans, but holds {_brief(group)}")
        yield from (_Row(row.place, span) for span in group)


def _docid(row: _Row, id_: str, evidence: Sequence[_Row]) -> str:
    named = row.values.get("docids") or ()
    if not isinstance(named, list | tuple) or not all(isinstance(docid, str) for docid in named):
        raise UserError(f"{row.place}: 'docids' must be a list of strings, but is {_brief(named)}")
    docids = {*named, *(span.get("docid", str, "a string") for span in evidence)}
    if len(docids) > 1:
        raise UserError(f"{row.place}: must stand on one document, but names {', '.join(sorted(docids))}")
    return docids.pop() if docids else id_


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
