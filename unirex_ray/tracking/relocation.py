"""Artifacts of a database that has moved: MLflow records where they lie as absolute addresses."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

ARTIFACTS = "mlartifacts"
"""Folder beside a database, with a folder for each experiment."""

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns in which MLflow keeps addresses; a version of MLflow may lack some."""


def artifact_location(database: Path, experiment: str) -> str:
    """The address of an experiment's artifacts, beside its database."""
    return (database.absolute().parent / ARTIFACTS / experiment).as_uri()


def follow_artifacts(database: Path) -> None:
    """Where a database was moved or copied, have it point to the artifacts beside it.

    Other addresses stay as they are, as do those of a database that was moved without its artifacts.
    """
    with closing(sqlite3.connect(database)) as connection:
        columns = [pair for pair in _ADDRESSES if _exists(connection, *pair)]
        if _ADDRESSES[0] not in columns:
            return  # a fresh database
        moved = {}
        for name, recorded in connection.execute("SELECT name, artifact_location FROM experiments"):
            here = artifact_location(database, name)
            if recorded != here and _has_moved(recorded, here, database.name):
                moved[recorded] = here
        if not moved:
            return
        with connection:  # all or none
            for table, column in columns:
                for before, now in moved.items():
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )


def _exists(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return any(row[1] == column for row in connection.execute(f"PRAGMA table_info({table})"))


def _has_moved(recorded: str, here: str, database: str) -> bool:
    """Whether an address is one that we gave, and is not for this database to write to any more."""
    old, new = _folder(recorded), _folder(here)
    if old is None or new is None or old.parts[-2:] != new.parts[-2:]:
        return False
    if not old.is_dir():
        return True
    if not new.is_dir():  # left behind by a database that was moved; a copy's original goes on writing there
        return (old.parent.parent / database).exists()
    return not os.path.samefile(old, new)  # one folder by two paths, as under a link or in a container, is no move


def _folder(address: str) -> Path | None:
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
