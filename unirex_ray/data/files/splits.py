"""Which of a folder's tables is a split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from unirex_ray.data.files.source import Source
from unirex_ray.data.files.tables import READERS, unpacked_name
from unirex_ray.data.schema import SPLITS, Split
from unirex_ray.errors import UserError

_SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "dev": ("dev", "val", "valid", "validation"),
    "test": ("test",),
}
_ABOUT_TABLES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What Hugging Face's `datasets` writes beside its tables."""
_SHARD = re.compile(r"-\d+-of-(\d+)")
_SHOWN = 5


def table_files(names: Sequence[str]) -> list[str]:
    """Which of a folder's files are read."""
    tables = _tables(names)
    return [str(file) for file in tables if len(tables) == 1 or any(_is_of(file, split) for split in SPLITS)]


def files_of_splits(source: Source) -> dict[Split, tuple[str, ...]]:
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


def _is_of(file: PurePosixPath, split: Split) -> bool:
    return _name(file) in _SPLIT_NAMES[split]


def _name(file: PurePosixPath) -> str:
    """Of what a file holds: `train` in train-00000-of-00002.parquet, and in train/data-00000-of-00002.arrow."""
    name = _stem(file).partition("-")[0]
    return file.parent.name.lower() if name == "data" and _ending(file) == ".arrow" else name


def _stem(file: PurePosixPath) -> str:
    return unpacked_name(file).stem.lower()


def _ending(file: PurePosixPath) -> str:
    return unpacked_name(file).suffix.lower()


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
