"""Corpora with labels alone: those that the paper transfers to without training on them, and tables of your own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath

from unirex_ray.config import DataConfig
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.files.source import Source
from unirex_ray.data.files.tables import (
    READERS,
    PlainTabs,
    QuotedCommas,
    QuotedTabs,
    TableRow,
    delimited,
    unpacked_name,
)
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.progress_bar import progress_bar
from unirex_ray.data.sample import partition, stratified_sample
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

_SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "dev": ("dev", "val", "valid", "validation"),
    "test": ("test",),
}
_ABOUT_TABLES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What Hugging Face's `datasets` writes beside its tables."""
_SHARD = re.compile(r"-\d+-of-(\d+)")
_SHOWN = 5


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
        splits=dict(zip(SPLITS, _divided(whole, _STORMFRONT_SIZES, config), strict=True)),
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
    train, dev = _divided(whole, _OFFENSEVAL_SIZES, config)
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

    train, dev = _divided(read("train", "SemEval2018-T3-train-taskA_emoji.txt"), _IRONY_SIZES, config)
    test = read("test", "SemEval2018-T3_gold_test_taskA_emoji.txt")
    splits: dict[Split, InstanceTable] = {"train": train, "dev": dev, "test": test}
    return Corpus(name="irony", labels=IRONY_LABELS, splits=splits, task_metric="binary_f1")


def load_table(source: Source, config: DataConfig, labels: Sequence[str]) -> Corpus:
    """Read labelled texts, or pairs of texts, from .csv, .tsv, .jsonl, .json or .parquet files with named columns.

    Files are known by their names: train; dev, val, valid or validation; test. Each may be in shards, e.g.
    `train-00000-of-00002.parquet`. Where dev or test is missing, or there is one file alone, a tenth is drawn for each
    with `data.seed`, stratified by label. Labels are compared as text: 1 and 1.0 are "1", true and True are "true".

    Args:
        labels: the values of `data.label_column`, in the order of the classes.

    Raises:
        UserError: for anything broken, with its file and line (in Parquet: row); for files that leave open which of
            them is a split; for a column that is named twice.
    """
    texts, label = config.text_columns or ("text",), config.label_column or "label"
    columns = (*texts, label)
    if len(set(columns)) < len(columns):
        raise UserError(
            "data.text_columns and data.label_column must be different columns, "
            f"but are {' and '.join(texts)}, and {label}"
        )

    def rows(file: str) -> Iterator[TableRow]:
        return READERS[_ending(PurePosixPath(file))](source, file, columns)

    def whole(split: Split, names: Sequence[str]) -> InstanceTable:
        found = progress_bar(chain.from_iterable(map(rows, names)), f"reading table, {split}")
        return _table(_numbered(found, split), texts, label, labels)

    files = _files_of_splits(source)
    given = {split: whole(split, names) for split, names in files.items()}
    drawn, notes = _with_drawn_splits(given, ", ".join(files["train"]), config)
    return Corpus(
        name="table",
        labels=tuple(labels),
        splits=drawn,
        task_metric=config.task_metric or "accuracy",
        notes=notes,
    )


_Identified = Iterator[tuple[str, TableRow]]


def _table(
    rows: Iterable[tuple[str, TableRow]], texts: Sequence[str], label: str, labels: Sequence[str]
) -> InstanceTable:
    return InstanceTable.from_instances(
        Instance(id=id_, inputs=(Input(segments=tuple(map(row.text, texts))),), label=row.index(label, labels))
        for id_, row in rows
    )


def _divided(table: InstanceTable, shares: Sequence[int], config: DataConfig) -> list[InstanceTable]:
    parts = partition(table.labels.tolist(), shares, seed=config.seed)
    return [InstanceTable.from_instances(table[index] for index in part) for part in parts]


def _identified(rows: Iterable[TableRow], column: str, seen: set[str]) -> _Identified:
    """Rows by the id that a column holds."""
    for row in rows:
        id_ = row.text(column)
        if id_ in seen:
            raise UserError(f"{row.location}: {column!r} must be unique, but {id_!r} is there twice")
        seen.add(id_)
        yield id_, row


def _numbered(rows: Iterable[TableRow], split: str) -> _Identified:
    """Rows without ids, which their numbers stand for."""
    for number, row in enumerate(rows, start=1):
        yield f"{split}-{number}", row


def _load_polarity(source: Source, config: DataConfig, name: str, columns: Sequence[str]) -> Corpus:
    def rows(file: str) -> _Identified:
        read = delimited(source, file, columns, QuotedCommas, headed=False)
        return _numbered(progress_bar(read, f"reading {name}, {file}"), PurePosixPath(file).stem)

    def sample(file: str, size: int) -> InstanceTable:
        # Of millions of reviews, the first pass keeps the labels alone, and the second one those that were drawn.
        labels = [row.index("class", _POLARITY_CLASSES) for _, row in rows(file)]
        drawn = set(stratified_sample(labels, size, seed=config.seed))
        kept = (found for number, found in enumerate(rows(file)) if number in drawn)
        unescaped = ((id_, row.changed(text=row.values["text"].replace(r"\n", " "))) for id_, row in kept)
        return _table(unescaped, ("text",), "class", _POLARITY_CLASSES)

    train, dev = _divided(sample("train.csv", sum(_POLARITY_SIZES)), _POLARITY_SIZES, config)
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


def _with_drawn_splits(
    given: Mapping[Split, InstanceTable], origin: str, config: DataConfig
) -> tuple[dict[Split, InstanceTable], tuple[str, ...]]:
    """The given splits, and those that are missing, drawn from train; and a note that says so."""
    missing = [split for split in SPLITS if split not in given]
    if not missing:
        return dict(given), ()
    names: tuple[Split, ...] = ("train", *missing)
    parts = _divided(given["train"], (10 - len(missing), *[1] * len(missing)), config)
    drawn = dict(zip(names, parts, strict=True))
    empty = [split for split in names if not len(drawn[split])]
    if empty:
        raise UserError(
            f"{origin} has {len(given['train'])} instances, too few to draw {' and '.join(missing)} from them; "
            f"give files for {' and '.join(missing)}"
        )
    counts = ", ".join(f"{len(drawn[split])} {split}" for split in names)
    note = (
        f"{' and '.join(missing)} drawn from {origin}, stratified by label, with data.seed = {config.seed}: "
        f"{counts} of {len(given['train'])} instances"
    )
    return {**given, **drawn}, (note,)


def table_files(names: Sequence[str]) -> list[str]:
    """Which of a folder's files `load_table` may read."""
    tables = _tables(names)
    return [str(file) for file in tables if len(tables) == 1 or any(_is_of(file, split) for split in SPLITS)]


def _stem(file: PurePosixPath) -> str:
    return unpacked_name(file).stem.lower()


def _ending(file: PurePosixPath) -> str:
    return unpacked_name(file).suffix.lower()


def _is_of(file: PurePosixPath, split: Split) -> bool:
    return _stem(file).partition("-")[0] in _SPLIT_NAMES[split]


def _files_of_splits(source: Source) -> dict[Split, tuple[str, ...]]:
    """The files of each split that has any; train always has."""
    tables = _tables(sorted(source.names))
    if not tables:
        raise UserError(f"{source.label}: must hold {', '.join(READERS)} files, but holds {_some(source.names)}")
    found = {split: [file for file in tables if _is_of(file, split)] for split in SPLITS}
    if len(tables) == 1 and not any(found.values()):
        found["train"] = tables
    if not found["train"]:
        raise UserError(
            f"{source.label}: must hold one file alone, or files named train, {', '.join(_SPLIT_NAMES['dev'])} or test "
            f"with train among them, but holds {_some(map(str, tables))}"
        )
    for split, files in found.items():
        _check_shards(source, split, files)
    return {split: tuple(map(str, files)) for split, files in found.items() if files}


def _tables(names: Iterable[str]) -> list[PurePosixPath]:
    """A folder's tables; JSON, which holds all kinds of things, is one by a split's name, or where nothing else is."""
    tables = [file for file in map(PurePosixPath, names) if _is_table(file)]
    sure = [file for file in tables if _ending(file) != ".json" or any(_is_of(file, split) for split in SPLITS)]
    return sure or tables


def _is_table(file: PurePosixPath) -> bool:
    # Archives made on a Mac hold a shadow of each file, whose name begins with a dot.
    return _ending(file) in READERS and not file.name.startswith(".") and file.name not in _ABOUT_TABLES


def _check_shards(source: Source, split: Split, files: Sequence[PurePosixPath]) -> None:
    kinds = {(file.parent, _ending(file), *_stem(file).partition("-")[:2]) for file in files}
    sizes = {int(match[1]) for file in files if (match := _SHARD.search(_stem(file)))}
    if len(kinds) > 1 or sizes - {len(files)}:
        raise UserError(
            f"{source.label}: {split} must be one file, or all its shards in one folder, "
            f"but is {_some(map(str, files))}"
        )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "") or "no files"
