"""Corpora with labels alone, which the paper transfers to without training on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from unirex_ray.config import DataConfig
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.corpora.table import divided, numbered
from unirex_ray.data.files.source import Source
from unirex_ray.data.files.tables import PlainTabs, QuotedCommas, QuotedTabs, TableRow, delimited
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.progress_bar import progress_bar
from unirex_ray.data.sample import stratified_sample
from unirex_ray.data.schema import SPLITS, Corpus, Split
from unirex_ray.errors import UserError

POLARITY_LABELS = ("negative", "positive")
STORMFRONT_LABELS = ("noHate", "hate")
OFFENSEVAL_LABELS = ("NOT", "OFF")
IRONY_LABELS = ("not ironic", "ironic")

_POLARITY_CLASSES = ("1", "2")
_POLARITY_SIZES = (10_000, 2_000)
_POLARITY_TEST = 2_000
_STORMFRONT_SIZES = (7_773, 963, 1_967)
_STORMFRONT_CLASSES = (*STORMFRONT_LABELS, "relation", "idk/skip")
_OFFENSEVAL_SIZES = (11_916, 1_324)
_IRONY_CLASSES = ("0", "1")
_IRONY_COLUMNS = ("Tweet index", "Label", "Tweet text")
_IRONY_SIZES = (2_876, 958)


def load_yelp(source: Source, config: DataConfig) -> Corpus:
    r"""Read Yelp's polarity corpus (Zhang et al. 2015): whether a review is negative or positive.

    Train and dev are disjoint samples of 10,000 and 2,000 reviews of `train.csv`, test is one of 2,000 of `test.csv`,
    all drawn with `data.seed` and stratified by label; shorter files are shared out in the same proportion. A line
    break, which the files write as `\n`, becomes a blank.

    Raises:
        UserError: for anything broken, with its file and line.
    """
    return _load_polarity(source, config, "yelp", ("class", "text"))


def load_amazon(source: Source, config: DataConfig) -> Corpus:
    """Read Amazon's polarity corpus (Zhang et al. 2015) as `load_yelp` does: the text of a review, without its title.

    Raises:
        UserError: for anything broken, with its file and line.
    """
    return _load_polarity(source, config, "amazon", ("class", "title", "text"))


def load_stormfront(source: Source, config: DataConfig) -> Corpus:
    """Read the corpus from Stormfront (de Gibert et al. 2018): whether a sentence is hate speech.

    Sentences with another label than these two are left out and counted. The splits share the rest as 7,773 to 963 to
    1,967, drawn with `data.seed` and stratified by label.

    Raises:
        UserError: for anything broken, with its file and line; for a sentence whose text is missing.
    """
    left_out: Counter[str] = Counter()
    whole = _table(_sentences(source, left_out), ("text",), "label", STORMFRONT_LABELS)
    return Corpus(
        name="stormfront",
        labels=STORMFRONT_LABELS,
        splits=dict(zip(SPLITS, divided(whole, _STORMFRONT_SIZES, config), strict=True)),
        task_metric="binary_f1",
        notes=tuple(f"{count} sentences labelled {label} are left out" for label, count in sorted(left_out.items())),
    )


def load_offenseval(source: Source, config: DataConfig) -> Corpus:
    """Read task A of OLID (Zampieri et al. 2019): whether a tweet is offensive.

    Train and dev share the training file as 11,916 to 1,324, drawn with `data.seed` and stratified by label.

    Raises:
        UserError: for anything broken, with its file and line; for a test tweet without label, a label without tweet.
    """
    seen: set[str] = set()
    training = delimited(source, "olid-training-v1.0.tsv", ("id", "tweet", "subtask_a"), QuotedTabs)
    whole = _table(_identified(training, "id", seen), ("tweet",), "subtask_a", OFFENSEVAL_LABELS)
    test = _table(_olid_test(source, seen), ("tweet",), "subtask_a", OFFENSEVAL_LABELS)
    train, dev = divided(whole, _OFFENSEVAL_SIZES, config)
    splits: dict[Split, InstanceTable] = {"train": train, "dev": dev, "test": test}
    return Corpus(name="offenseval", labels=OFFENSEVAL_LABELS, splits=splits, task_metric="macro_f1")


def load_irony(source: Source, config: DataConfig) -> Corpus:
    """Read task 3A of SemEval-2018 (Van Hee et al. 2018): whether a tweet is ironic.

    A quote in these files is a character like any other. Train and dev share the training file as 2,876 to 958, drawn
    with `data.seed` and stratified by label.

    Raises:
        UserError: for anything broken, with its file and line.
    """

    def read(prefix: str, file: str) -> InstanceTable:
        index, label, text = _IRONY_COLUMNS
        rows = _identified(delimited(source, file, _IRONY_COLUMNS, PlainTabs), index, set())
        return _table(((f"{prefix}-{id_}", row) for id_, row in rows), (text,), label, _IRONY_CLASSES)

    train, dev = divided(read("train", "SemEval2018-T3-train-taskA_emoji.txt"), _IRONY_SIZES, config)
    test = read("test", "SemEval2018-T3_gold_test_taskA_emoji.txt")
    splits: dict[Split, InstanceTable] = {"train": train, "dev": dev, "test": test}
    return Corpus(name="irony", labels=IRONY_LABELS, splits=splits, task_metric="binary_f1")


_Identified = Iterator[tuple[str, TableRow]]


def _table(
    rows: Iterable[tuple[str, TableRow]], texts: Sequence[str], label: str, labels: Sequence[str]
) -> InstanceTable:
    return InstanceTable.from_instances(
        Instance(id=id_, inputs=(Input(segments=tuple(map(row.text, texts))),), label=row.index(label, labels))
        for id_, row in rows
    )


def _identified(rows: Iterable[TableRow], column: str, seen: set[str]) -> _Identified:
    """Rows by the id that a column holds."""
    for row in rows:
        id_ = row.text(column)
        if id_ in seen:
            raise UserError(f"{row.location}: {column!r} must be unique, but {id_!r} is there twice")
        seen.add(id_)
        yield id_, row


def _load_polarity(source: Source, config: DataConfig, name: str, columns: Sequence[str]) -> Corpus:
    def rows(file: str) -> _Identified:
        read = delimited(source, file, columns, QuotedCommas, headed=False)
        return numbered(progress_bar(read, f"reading {name}, {file}"), PurePosixPath(file).stem)

    def sample(file: str, size: int) -> InstanceTable:
        # Of millions of reviews, the first pass keeps the labels alone, and the second one those that were drawn.
        labels = [row.index("class", _POLARITY_CLASSES) for _, row in rows(file)]
        drawn = set(stratified_sample(labels, size, seed=config.seed))
        kept = (found for number, found in enumerate(rows(file)) if number in drawn)
        unescaped = ((id_, row.changed(text=row.values["text"].replace(r"\n", " "))) for id_, row in kept)
        return _table(unescaped, ("text",), "class", _POLARITY_CLASSES)

    train, dev = divided(sample("train.csv", sum(_POLARITY_SIZES)), _POLARITY_SIZES, config)
    splits: dict[Split, InstanceTable] = {"train": train, "dev": dev, "test": sample("test.csv", _POLARITY_TEST)}
    return Corpus(name=name, labels=POLARITY_LABELS, splits=splits)


def _sentences(source: Source, left_out: Counter[str]) -> _Identified:
    """Sentences with one of the two labels; the others are counted."""
    rows = delimited(source, "annotations_metadata.csv", ("file_id", "label"), QuotedCommas)
    for id_, row in _identified(progress_bar(rows, "reading stormfront"), "file_id", set()):
        label = _STORMFRONT_CLASSES[row.index("label", _STORMFRONT_CLASSES)]
        if label not in STORMFRONT_LABELS:
            left_out[label] += 1
            continue
        file = f"all_files/{id_}.txt"
        data = source.find(file)
        if data is None:
            raise UserError(f"{row.location}: the text of {id_!r} must be in {file}, but there is no such file")
        text = source.decode(file, data).strip()
        yield id_, TableRow(f"{source.label}: {file}, line 1", {"text": text, "label": label})


def _olid_test(source: Source, seen: set[str]) -> _Identified:
    """Tweets of the test file, each with its label from the file beside it."""
    tweets, answers = "testset-levela.tsv", "labels-levela.csv"
    rows = delimited(source, answers, ("id", "subtask_a"), QuotedCommas, headed=False)
    unused = dict(_identified(rows, "id", set()))
    for answer in unused.values():
        answer.index("subtask_a", OFFENSEVAL_LABELS)
    for id_, row in _identified(delimited(source, tweets, ("id", "tweet"), QuotedTabs), "id", seen):
        if id_ not in unused:
            raise UserError(f"{row.location}: id {id_!r} must have a label in {answers}, but has none")
        yield id_, row.changed(subtask_a=unused.pop(id_).values["subtask_a"])
    for id_, answer in unused.items():
        raise UserError(f"{answer.location}: id {id_!r} must have a tweet in {tweets}, but has none")
