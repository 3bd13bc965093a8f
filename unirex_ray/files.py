"""Files that other processes read at the same time: written as a whole, once, by one process."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from unirex_ray.errors import UserError, one_line


def writable_folder(folder: str | Path, option: str = "output") -> Path:
    """Make a folder, and try to write into it: before hours of work rather than after them.

    Returns:
        Its absolute path.

    Raises:
        UserError: if it is no local path or cannot be written; names the option.
    """
    if "://" in str(folder):
        raise UserError(f"{option} must be a folder (shared by all nodes of a cluster), but got {str(folder)!r}")
    path = Path(folder).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise UserError(f"cannot write {option} {str(path)!r}: {error.strerror}; choose another --{option}") from None
    return path


def replace_text(file: Path, text: str) -> Path:
    """Put a text file in place as a whole: a reader sees the old one or the new one."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial.replace(file)


def try_lock(file: Path) -> IO[str] | None:
    """Lock a file against other processes until it is closed or this process ends; None where another one holds it.

    On a file system without locks nobody is kept out.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError:
        pass
    return lock


@contextmanager
def new_folder(folder: Path, option: str) -> Iterator[Path]:
    """A folder to fill, beside its place; it is put in place as a whole, and removed if that fails.

    Args:
        folder: absolute; may exist if it is empty.

    Raises:
        UserError: if it already holds something, or cannot be written or put there; names the option.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{str(folder)!r} is not empty; choose another --{option}")
    partial = writable_folder(folder.parent, option) / f".{folder.name}.{secrets.token_hex(4)}.partial"
    partial.mkdir()
    try:
        yield partial
        os.rename(partial, folder)
    except OSError as error:  # the disk is full; or the place has been filled by now, or is a mount point
        raise UserError(f"cannot write {str(folder)!r}: {one_line(error)}; choose another --{option}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
