"""Tables of your own: labelled texts or pairs of texts, with or without gold rationales."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from unirex_ray.config import DataConfig
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.files.rationales import gold_of, plain_text, without_marks
from unirex_ray.data.files.source import Source
from unirex_ray.data.files.splits import files_of_splits
from unirex_ray.data.files.tables import TableRow, table_rows
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.progress_bar import progress_bar
from unirex_ray.data.sample import partition
from unirex_ray.data.schema import SPLITS, Corpus, Split
from unirex_ray.errors import UserError


def load_table(source: Source, config: DataConfig, labels: Sequence[str]) -> Corpus:
    """Read labelled texts, or pairs of texts, from .csv, .tsv, .jsonl, .json, .parquet or .arrow files with named
    columns.

    Files are known by their names: train; dev, val, valid or validation; test. Each may be in shards, e.g.
    `train-00000-of-00002.parquet`. Where dev or test is missing, or there is one file alone, a tenth is drawn for each
    with `data.seed`, stratified by label. Labels are compared as text: 1 and 1.0 are "1", true and True are "true".

    The first of `data.rationale_columns` has the gold rationale of the first text, in one of the `FORMS` of
    `files.rationales`; a row where it is missing or marks nothing has none.

    Args:
        labels: the values of `data.label_column`, in the order of the classes.

    Raises:
        UserError: for anything broken, with its file and line (in Parquet: row); for files that leave open which of
            them is a split; for a column that is named twice.
    """
    texts, label = config.text_columns or ("text",), config.label_column or "label"
    rationales = config.rationale_columns or ()
    _check_purposes(texts, label, rationales)
    columns = tuple(dict.fromkeys((*texts, label, *rationales)))

    def instance(id_: str, row: TableRow) -> Instance:
        return Instance(id=id_, inputs=(_explained(row, texts, rationales),), label=row.index(label, labels))

    splits, notes = read_splits(source, config, columns, instance)
    return Corpus(
        name="table",
        labels=tuple(labels),
        splits=splits,
        task_metric=config.task_metric or "accuracy",
        notes=(*notes, *(_without_gold(splits) if rationales else ())),
    )


def read_splits(
    source: Source, config: DataConfig, columns: Sequence[str], instance: Callable[[str, TableRow], Instance | None]
) -> tuple[dict[Split, InstanceTable], tuple[str, ...]]:
    """The splits of a table's files, and notes; those that have none are drawn from train.

    Args:
        columns: that every file must have.
        instance: of an id and a row; None leaves the row out.

    Raises:
        UserError: see `load_table`.
    """

    def whole(split: Split, names: Sequence[str]) -> InstanceTable:
        rows = chain.from_iterable(table_rows(source, name, columns) for name in names)
        made = (instance(*row) for row in numbered(progress_bar(rows, f"reading {config.name}, {split}"), split))
        return InstanceTable.from_instances(each for each in made if each is not None)

    files = files_of_splits(source)
    given = {split: whole(split, names) for split, names in files.items()}
    return _with_drawn_splits(given, ", ".join(files["train"]), config)


def _check_purposes(texts: Sequence[str], label: str, rationales: Sequence[str]) -> None:
    if len({*texts, label}) <= len(texts):
        raise UserError(
            "data.text_columns and data.label_column must be different columns, "
            f"but are {' and '.join(texts)}, and {label}"
        )
    # A text may hold its own marks, but not another one's.
    misplaced = [name for name, text in zip(rationales, texts, strict=False) if name in {*texts, label} - {text}]
    if len(rationales) > len(texts) or len(set(rationales)) < len(rationales) or misplaced:
        raise UserError(
            "data.rationale_columns must be one column for each text at most, in the order of data.text_columns "
            f"({', '.join(texts)}), but are {', '.join(rationales)}"
        )


def _explained(row: TableRow, texts: Sequence[str], rationales: Sequence[str]) -> Input:
    """A row's texts, and what its rationales mark in them."""
    segments, gold = [], []
    for number, column in enumerate(texts):
        if column in rationales:
            text, places = without_marks(row, column)
        else:
            text = plain_text(row, column)
            places = gold_of(row, rationales[number], text, column) if number < len(rationales) else []
        segments.append(text)
        gold += [(number, start, end) for start, end in places]
    return Input(segments=tuple(segments), gold=tuple(gold) or None)


def _without_gold(splits: Mapping[Split, InstanceTable]) -> Iterator[str]:
    for split, table in splits.items():
        lacking = sum(instance.inputs[0].gold is None for instance in table)
        if lacking:
            yield f"{split}: {lacking} of {len(table)} instances have no gold rationale"


def _with_drawn_splits(
    given: Mapping[Split, InstanceTable], origin: str, config: DataConfig
) -> tuple[dict[Split, InstanceTable], tuple[str, ...]]:
    """The given splits, and those that are missing, drawn from train; and a note that says so."""
    missing = [split for split in SPLITS if split not in given]
    if not missing:
        return dict(given), ()
    names: tuple[Split, ...] = ("train", *missing)
    parts = divided(given["train"], (10 - len(missing), *[1] * len(missing)), config)
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


def divided(table: InstanceTable, shares: Sequence[int], config: DataConfig) -> list[InstanceTable]:
    """Disjoint samples in these proportions, drawn with `data.seed`, stratified by label."""
    parts = partition(table.labels.tolist(), shares, seed=config.seed)
    return [InstanceTable.from_instances(table[index] for index in part) for part in parts]


def numbered(rows: Iterable[TableRow], split: str) -> Iterator[tuple[str, TableRow]]:
    """Rows without ids, which their numbers stand for."""
    for number, row in enumerate(rows, start=1):
        yield f"{split}-{number}", row
