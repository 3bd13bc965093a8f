"""`answers.sqlite`: what the server of a study has received.

The file alone holds all of it whenever no answer is just being written: it has a rollback journal rather than a
write-ahead log, whose answers a copy of the file would leave out.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unirex_ray.errors import DamagedFileError, UserError
from unirex_ray.files import read_holder, try_lock, write_holder
from unirex_ray.study.answers import RawAnswer, follows, own_format, raw_answers, time_of
from unirex_ray.study.manifest import Study

ANSWERS = "answers.sqlite"
"""File in a study's folder."""

LOCK = ".serve.lock"

_TABLES = (
    "CREATE TABLE answers (number INTEGER PRIMARY KEY, annotator TEXT, item TEXT, answer TEXT, received TEXT)",
    "CREATE TABLE study (id TEXT)",
)
"""A file with anything else is none of ours."""


class AnswerStore:
    """Opens (and makes) the file; no other process can open it until this one closes it or ends.

    What `add` has taken survives the end of the process and of the machine's power. For one thread.

    Raises:
        UserError: if another process serves the study; if the file cannot be written, is damaged, or holds answers to
            another study.
    """

    def __init__(self, folder: Path, study: Study) -> None:
        try:
            lock = try_lock(folder / LOCK)
        except OSError as error:
            raise UserError(f"cannot write the study's folder {str(folder)!r}: {error.strerror}") from None
        if lock is None:
            holder = read_holder(folder / LOCK)
            raise UserError(
                f"another process{holder and f' ({holder})'} serves {str(folder)!r}; use its links, or stop it first"
            )
        write_holder(lock)
        self._lock, self._file = lock, folder / ANSWERS
        try:
            self._connection = self._open(study)
        except BaseException:
            lock.close()
            raise

    def _open(self, study: Study) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._file, isolation_level=None)
        except sqlite3.Error as error:
            raise UserError(f"cannot write {str(self._file)!r}: {error}") from None
        try:
            # With FULL alone, a power failure may bring back the journal, which takes the last answer away.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA journal_mode = DELETE")
            if not connection.execute("SELECT * FROM sqlite_master").fetchall():
                _make(connection, study)
            found = _study_of(connection)
            stored_answers(self._file)
        except (sqlite3.Error, ValueError) as error:
            connection.close()
            if _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY):
                raise UserError(f"cannot write {str(self._file)!r}: {error}") from None
            raise DamagedFileError(
                f"{str(self._file)!r} is damaged ({_told(error)}); move it away, or put a backup in its place"
            ) from None
        if found != study.id:
            connection.close()
            raise UserError(
                f"{str(self._file)!r} holds answers to study {found}, and this one is {study.id}; move it away, or "
                "serve the study that it belongs to"
            )
        return connection

    def close(self) -> None:
        """Let other processes in."""
        self._connection.close()
        self._lock.close()

    def add(self, annotator: str, answer: Mapping[str, Any]) -> None:
        """Put an answer on disk. One that says when it was given, `at`, changes nothing when it comes again.

        Args:
            answer: with its `item`, in JSON's values.

        Raises:
            OSError: where it is not on disk; `ENOSPC` for a full one.
        """
        text = json.dumps(answer, sort_keys=True)
        again = "SELECT * FROM answers WHERE annotator = ? AND answer = ? AND ?"
        values = (annotator, answer["item"], text, datetime.now(UTC).isoformat(), annotator, text, "at" in answer)
        add = f"INSERT INTO answers (annotator, item, answer, received) SELECT ?, ?, ?, ? WHERE NOT EXISTS ({again})"
        try:
            self._connection.execute(add, values)
        except sqlite3.Error as error:
            raise _as_os_error(error) from None

    def latest(self, annotator: str) -> list[dict[str, Any]]:
        """The answers of an annotator that count, the last given to each item.

        Raises:
            OSError: where the disk does not give them.
        """
        find = "SELECT answer FROM answers WHERE annotator = ? ORDER BY number"
        try:
            return _latest(json.loads(text) for (text,) in self._connection.execute(find, (annotator,)))
        except sqlite3.Error as error:
            raise _as_os_error(error) from None


def stored_answers(path: Path) -> list[RawAnswer]:
    """The answers in a file that count, whoever it comes from; a server may be at work on it.

    Raises:
        ValueError: saying why the file is none of ours.
    """
    if not path.is_file():
        raise ValueError("it is no file")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            study = _study_of(connection)
            rows = connection.execute("SELECT annotator, answer FROM answers ORDER BY number").fetchall()
    except sqlite3.Error as error:
        # To undo half an answer takes writing, and a journal that somebody sent would say what.
        if _code(error) == sqlite3.SQLITE_READONLY_ROLLBACK:
            raise ValueError("a server was killed while it wrote; serve the study once, which repairs it") from None
        raise ValueError(f"it is no file of answers, or damaged ({_told(error)})") from None
    given: dict[Any, list[dict[str, Any]]] = {}
    try:
        for annotator, text in rows:
            given.setdefault(annotator, []).append(json.loads(text))
        return [
            answer
            for annotator, answers in given.items()
            for answer in raw_answers(own_format(study, annotator, _latest(answers)), path.name)
        ]
    except (TypeError, KeyError, ValueError, RecursionError):
        raise ValueError("it is damaged: one of its answers is none") from None


def _latest(answers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each item's answers the last given, as `collect` and the forms have it: they may come in another order.

    Args:
        answers: of one annotator, as they came.
    """
    found: dict[Any, dict[str, Any]] = {}
    for answer in answers:
        item = answer["item"]
        if item not in found or follows(time_of(answer.get("at")), time_of(found[item].get("at"))):
            found[item] = answer
    return [*found.values()]


def _make(connection: sqlite3.Connection, study: Study) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        connection.execute(table)
    connection.execute("INSERT INTO study VALUES (?)", (study.id,))
    connection.execute("COMMIT")


def _study_of(connection: sqlite3.Connection) -> str:
    """The identifier of the study that a database belongs to.

    Nothing but our tables is in it then: no view or trigger whose SQL would run.

    Raises:
        ValueError, sqlite3.Error: where it is none of ours, or damaged.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    if connection.execute("SELECT sql FROM sqlite_master ORDER BY sql").fetchall() != [(table,) for table in _TABLES]:
        raise ValueError("it is no file of answers")
    if (problem := connection.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
        raise ValueError(f"it is damaged ({_told(problem[0])})")
    match connection.execute("SELECT id FROM study LIMIT 2").fetchall():
        case [(str(study),)]:
            return study
    raise ValueError("it does not say to which study it belongs")


def _as_os_error(error: sqlite3.Error) -> OSError:
    full = _code(error) == sqlite3.SQLITE_FULL
    return OSError(errno.ENOSPC if full else errno.EIO, os.strerror(errno.ENOSPC) if full else str(error))


def _code(error: Exception) -> int | None:
    """SQLite's; None where the error is Python's own."""
    return getattr(error, "sqlite_errorcode", None)


def _told(what: object) -> str:
    """What a foreign file has a share in, without what a terminal takes as commands."""
    return repr(" ".join(str(what).split())[:100])
