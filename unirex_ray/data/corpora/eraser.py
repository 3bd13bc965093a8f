"""ERASER corpora: documents, token or sentence spans, one line of JSON per instance (DeYoung et al. 2020)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.files.source import Source
from unirex_ray.data.files.spans import Span, gold_spans
from unirex_ray.data.files.tables import TableRow, brief, json_lines
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.progress_bar import progress_bar
from unirex_ray.data.schema import Corpus, Split, TaskMetric
from unirex_ray.errors import UserError

FILES: dict[Split, str] = {"train": "train.jsonl", "dev": "val.jsonl", "test": "test.jsonl"}

MOVIES_LABELS = ("NEG", "POS")
MOVIES_MAX_LENGTH = 1024
COSE_LABELS = ("A", "B", "C", "D", "E")
MULTIRC_LABELS = ("False", "True")
ESNLI_LABELS = ("contradiction", "entailment", "neutral")

_CHOICE_SEPARATOR = "[sep]"


def load_movies(source: Source) -> Corpus:
    """Read the Movies corpus: the sentiment of a document; the query, equal everywhere, is left out.

    Raises:
        UserError: as `load_eraser`.
    """
    splits, notes = _read_splits(source, _Format("movies", MOVIES_LABELS, _own_document, _document_alone))
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
    splits, notes = _read_splits(source, _Format("cose", COSE_LABELS, _own_document, _question_and_choices))
    return Corpus(name="cose", labels=COSE_LABELS, splits=splits, multi_choice=True, notes=notes)


def load_multirc(source: Source) -> Corpus:
    """Read the MultiRC corpus: whether an answer to a question about a passage is right.

    Segments are the passage and the query, which holds question and answer as published (`question || answer`). The
    evidence are whole sentences of the passage.

    Raises:
        UserError: as `load_eraser`.
    """
    splits, notes = _read_splits(source, _Format("multirc", MULTIRC_LABELS, _own_document, _document_and_query))
    return Corpus(name="multirc", labels=MULTIRC_LABELS, splits=splits, task_metric="macro_f1", notes=notes)


def load_esnli(source: Source) -> Corpus:
    """Read the e-SNLI corpus: premise and hypothesis are the documents `ID_premise` and `ID_hypothesis`.

    Raises:
        UserError: as `load_eraser`.
    """
    splits, notes = _read_splits(source, _Format("esnli", ESNLI_LABELS, _premise_and_hypothesis, _documents_in_order))
    return Corpus(name="esnli", labels=ESNLI_LABELS, splits=splits, task_metric="macro_f1", notes=notes)


def load_eraser(source: Source, labels: Sequence[str], task_metric: TaskMetric = "macro_f1") -> Corpus:
    """Read any ERASER corpus.

    The document, as tokens joined by single spaces, is the first segment; the query, where it is not empty, the second.
    Documents come from `docs.jsonl` or from a `docs` folder. An instance's document is the one that its `docids` or its
    evidence names, otherwise the one with the instance's own id; several (FEVER) are joined in the order in which they
    are named. Evidence is a span of tokens or, where it has none, of sentences, which are the document's lines, both
    counted as ERASER's own reader counts them. An instance without evidence has no gold rationale; an empty span
    (Movies has some) is no evidence. Ids and classifications may be numbers.

    Args:
        labels: the values of `classification`, in the order of the classes.

    Raises:
        UserError: for anything broken, with its file and line.
    """
    splits, notes = _read_splits(source, _Format("eraser", tuple(labels), _named_documents, _joined_and_query))
    return Corpus(name="eraser", labels=tuple(labels), splits=splits, task_metric=task_metric, notes=notes)


@dataclass(frozen=True)
class _Document:
    """A document as ERASER's own reader counts it.

    Attributes:
        tokens: which are not empty.
        counted: how many of them stand before each token that evidence counts; one more is their end.
        lines: how many of them stand before each line, which is a sentence; one more is their end.
    """

    tokens: tuple[str, ...]
    counted: tuple[int, ...]
    lines: tuple[int, ...]

    @classmethod
    def from_lines(cls, lines: Iterable[Sequence[str]]) -> _Document:
        tokens: list[str] = []
        counted, starts = [0], [0]
        for line in lines:
            for token in line:
                tokens += [token] if token else []
                counted.append(len(tokens))
            starts.append(len(tokens))
        return cls(tuple(tokens), tuple(counted), tuple(starts))

    @classmethod
    def from_file(cls, text: str) -> _Document:
        """Of `docs/`: lines are stripped, of no-break spaces too, and count where anything is left."""
        lines = map(str.strip, io.StringIO(text, newline=None))
        return cls.from_lines(_tokens(line) for line in lines if line)

    @classmethod
    def from_listed(cls, text: str) -> _Document:
        """Of `docs.jsonl`: lines are stripped, but count even if they are empty, as one token; so do doubled blanks."""
        return cls.from_lines(line.strip().split(" ") for line in text.split("\n"))


def _documents(source: Source) -> Callable[[str], _Document | None]:
    """Documents by id; None for an unknown one."""
    texts: dict[str, str] = {}
    listed = source.find("docs.jsonl") is not None
    for row in progress_bar(json_lines(source, "docs.jsonl"), "reading docs.jsonl") if listed else ():
        docid = _id(row, "docid")
        if docid in texts:
            raise UserError(f"{row.location}: duplicate document {docid!r}")
        texts[docid] = row.get("document", str, "a string")

    # Questions on one passage follow each other, so that a few documents serve many instances.
    @lru_cache(maxsize=64)
    def document(docid: str) -> _Document | None:
        if listed:
            return _Document.from_listed(texts[docid]) if docid in texts else None
        name = f"docs/{docid}"
        data = source.find(name)
        return None if data is None else _Document.from_file(source.decode(name, data))

    return document


@dataclass
class _Counts:
    """What is worth a note."""

    instances: int = 0
    without_evidence: int = 0
    empty_spans: int = 0
    quoted: int = 0
    unlike_text: int = 0

    def check(self, location: str) -> None:
        """Refuse documents that most evidence was not counted on."""
        if 2 * self.unlike_text > self.quoted:
            raise UserError(
                f"{location}: {self.unlike_text} of {self.quoted} evidence spans differ from the text that is quoted "
                "beside them: they were counted on other documents, or otherwise; give the documents as published"
            )

    def notes(self, split: Split) -> Iterator[str]:
        if self.without_evidence:
            yield f"{split}: {self.without_evidence} of {self.instances} instances have no evidence"
        if self.empty_spans:
            yield f"{split}: {self.empty_spans} evidence spans are empty"
        if self.unlike_text:
            yield f"{split}: {self.unlike_text} evidence spans differ from the text that is quoted beside them"


@dataclass(frozen=True)
class _Marked:
    """A document of an instance, and which of its tokens are gold."""

    tokens: tuple[str, ...]
    gold: Sequence[bool]

    @property
    def text(self) -> str:
        return " ".join(self.tokens)

    def spans(self, segment: int = 0) -> tuple[Span, ...]:
        return gold_spans(self.tokens, self.gold, segment=segment)


@dataclass(frozen=True)
class _Format:
    """What tells one ERASER corpus from another.

    Attributes:
        docids: the ids of an instance's documents, in the order of the segments.
        inputs: made of the instance's line and its documents.
    """

    name: str
    labels: tuple[str, ...]
    docids: Callable[[TableRow, str, Sequence[TableRow]], tuple[str, ...]]
    inputs: Callable[[TableRow, Sequence[_Marked]], tuple[Input, ...]]


def _own_document(row: TableRow, id_: str, evidence: Sequence[TableRow]) -> tuple[str, ...]:
    docids = _named_documents(row, id_, evidence)
    if len(docids) > 1:
        raise UserError(
            f"{row.location}: must have its evidence in one document, but names {', '.join(sorted(docids))}"
        )
    return docids


def _named_documents(row: TableRow, id_: str, evidence: Sequence[TableRow]) -> tuple[str, ...]:
    return tuple(_named(row, evidence)) or (id_,)


def _premise_and_hypothesis(row: TableRow, id_: str, evidence: Sequence[TableRow]) -> tuple[str, ...]:
    docids = (f"{id_}_premise", f"{id_}_hypothesis")
    others = set(_named(row, evidence)).difference(docids)
    if others:
        raise UserError(
            f"{row.location}: must have its evidence in {' and '.join(docids)}, but names {', '.join(sorted(others))}"
        )
    return docids


def _named(row: TableRow, evidence: Iterable[TableRow]) -> dict[str, None]:
    """The documents in the order in which they are named."""
    named = row.values.get("docids") or ()
    ids = [_id_text(docid) for docid in named] if isinstance(named, list | tuple) else [None]
    if None in ids:
        raise UserError(f"{row.location}: 'docids' must be a list of strings, but is {brief(named)}")
    return dict.fromkeys([*(docid for docid in ids if docid is not None), *(_id(span, "docid") for span in evidence)])


def _id(row: TableRow, column: str) -> str:
    text = _id_text(row.values.get(column))
    if text is None:
        raise UserError(
            f"{row.location}: {column!r} must be a string or a whole number, but is {brief(row.values.get(column))}"
        )
    return text


def _id_text(value: object) -> str | None:
    """An id as text; None for what cannot be one."""
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value) if type(value) in (str, int) else None


def _document_alone(row: TableRow, documents: Sequence[_Marked]) -> tuple[Input, ...]:
    (document,) = documents
    return (Input(segments=(document.text,), gold=document.spans() or None),)


def _document_and_query(row: TableRow, documents: Sequence[_Marked]) -> tuple[Input, ...]:
    query = row.values.get("query")
    if query is not None and not isinstance(query, str):
        raise UserError(f"{row.location}: 'query' must be a string, but is {brief(query)}")
    (document,), tidy = documents, _tidy(query or "")
    return (Input(segments=(document.text, tidy) if tidy else (document.text,), gold=document.spans() or None),)


def _joined_and_query(row: TableRow, documents: Sequence[_Marked]) -> tuple[Input, ...]:
    joined = _Marked(
        tuple(token for document in documents for token in document.tokens),
        [flag for document in documents for flag in document.gold],
    )
    return _document_and_query(row, [joined])


def _documents_in_order(row: TableRow, documents: Sequence[_Marked]) -> tuple[Input, ...]:
    gold = tuple(span for number, document in enumerate(documents) for span in document.spans(number))
    return (Input(segments=tuple(document.text for document in documents), gold=gold or None),)


def _question_and_choices(row: TableRow, documents: Sequence[_Marked]) -> tuple[Input, ...]:
    query = row.get("query", str, "a string")
    choices = [_tidy(choice) for choice in query.split(_CHOICE_SEPARATOR)]
    expected = f"'query' must hold {len(COSE_LABELS)} choices joined by ' {_CHOICE_SEPARATOR} '"
    if len(choices) != len(COSE_LABELS):
        raise UserError(f"{row.location}: {expected}, but holds {len(choices)}: {brief(query)}")
    if "" in choices:
        raise UserError(f"{row.location}: {expected}, but choice {COSE_LABELS[choices.index('')]} is empty")
    (question,) = documents
    return tuple(Input(segments=(question.text, choice), gold=question.spans() or None) for choice in choices)


def _tidy(text: str) -> str:
    return " ".join(_tokens(text.translate(_BLANKS)))


_BLANKS = str.maketrans("\t\r\n", "   ")


def _tokens(line: str) -> list[str]:
    return [token for token in line.split(" ") if token]


@dataclass
class _Reader:
    document: Callable[[str], _Document | None]
    format: _Format
    seen: set[str] = field(default_factory=set)

    def instance(self, row: TableRow, counts: _Counts) -> Instance:
        id_ = _id(row, "annotation_id")
        if id_ in self.seen:
            raise UserError(f"{row.location}: duplicate annotation_id {id_!r}")
        self.seen.add(id_)
        label = row.index("classification", self.format.labels)
        evidence = list(_evidence(row))
        docids = self.format.docids(row, id_, evidence)
        documents = [self._found(row, docid) for docid in docids]
        gold = [[False] * len(document.tokens) for document in documents]
        for span in evidence:
            number = docids.index(_id(span, "docid"))
            start, end = _tokens_of(span, documents[number], docids[number])
            counts.empty_spans += start == end
            gold[number][start:end] = [True] * (end - start)
            quoted = span.values.get("text")
            if isinstance(quoted, str) and start < end:
                counts.quoted += 1
                found = "".join(documents[number].tokens[start:end])
                counts.unlike_text += "".join(quoted.split()) != "".join(found.split())
        counts.instances += 1
        counts.without_evidence += not any(map(any, gold))
        marked = [_Marked(document.tokens, flags) for document, flags in zip(documents, gold, strict=True)]
        return Instance(id=id_, inputs=self.format.inputs(row, marked), label=label)

    def _found(self, row: TableRow, docid: str) -> _Document:
        document = self.document(docid)
        if document is None:
            raise UserError(f"{row.location}: document {docid!r} is neither in docs.jsonl nor in docs/")
        if not document.tokens:
            raise UserError(f"{row.location}: document {docid!r} is empty")
        return document


def _tokens_of(span: TableRow, document: _Document, docid: str) -> tuple[int, int]:
    """Half-open token indices of a span of tokens or, where it has none, of sentences."""
    by_sentence = span.values.get("start_token") in (None, -1) and span.values.get("start_sentence") not in (None, -1)
    unit, places = ("sentence", document.lines) if by_sentence else ("token", document.counted)
    size = len(places) - 1
    start, end = (span.get(f"{edge}_{unit}", int, f"a {unit} index") for edge in ("start", "end"))
    if not 0 <= start <= end <= size:
        raise UserError(
            f"{span.location}: evidence span [{start}, {end}) must be within the {size} {unit}s of {docid!r}"
        )
    return places[start], places[end]


def _read_splits(source: Source, form: _Format) -> tuple[dict[Split, InstanceTable], tuple[str, ...]]:
    reader = _Reader(_documents(source), form)
    splits: dict[Split, InstanceTable] = {}
    notes: list[str] = []
    for split, file in FILES.items():
        counts = _Counts()
        rows = progress_bar(json_lines(source, file), f"reading {form.name}, {split}")
        splits[split] = InstanceTable.from_instances(reader.instance(row, counts) for row in rows)
        counts.check(f"{source.label}: {file}")
        notes.extend(counts.notes(split))
    return splits, tuple(notes)


def _evidence(row: TableRow) -> Iterator[TableRow]:
    for group in row.get("evidences", list, "a list of groups of spans"):
        if not isinstance(group, list) or not all(isinstance(span, dict) for span in group):
            raise UserError(f"{row.location}: 'evidences' must be a list of groups of spans, but holds {brief(group)}")
        yield from (TableRow(row.location, span) for span in group)
