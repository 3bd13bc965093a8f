"""Files that other processes read at the same time, written as a whole, once; and YAML that people write."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

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
    """`replace_bytes` for text."""
    return replace_bytes(file, text.encode())


def replace_bytes(file: Path, data: bytes) -> Path:
    """Put a file in place as a whole: a reader sees the old one or the new one."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_bytes(data)
    return partial.replace(file)


def try_lock(file: Path) -> IO[str] | None:
    """Lock a file against other processes until it is closed or this process ends; None where another one holds it.

    On a file system without locks nobody is kept out. Linux makes of `flock` a lock of the server's on NFS; unlike
    `lockf`, it parts two handles of one process, and outlives that another handle of the file is closed.
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


def write_holder(lock: IO[str]) -> None:
    """Say in a locked file who holds it; a full disk keeps nobody from working."""
    holder = f"{socket.gethostname()} {os.getpid()} {time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n"
    with suppress(OSError):
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), holder.encode())


def read_holder(file: Path) -> str:
    """Who holds a locked file, for a message; empty where the file does not say so."""
    try:
        text = file.read_bytes()[:300].decode()
    except (OSError, UnicodeDecodeError):
        return ""
    holder = re.fullmatch(r"([\w.-]+) (\d+) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4})\n", text, re.ASCII)
    return "host {}, pid {}, since {}".format(*holder.groups()) if holder else ""


def is_locked_elsewhere(file: Path) -> bool:
    """Whether another process holds a file that `write_holder` has written to."""
    try:
        lock = try_lock(file) if file.exists() else None
    except OSError:
        return False
    if lock is not None:
        lock.close()
        return False
    return file.exists() and f"host {socket.gethostname()}, pid {os.getpid()}," not in read_holder(file)


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


_MOST_VALUES = 100_000
"""In a YAML file: with anchors, a few lines can stand for more than any memory holds."""


class _Loader(yaml.SafeLoader):
    """Reads what is no plain number as text, as it is spelled: the tree gives it its type.

    YAML 1.1 would make booleans of the labels `no` and `yes`, 7 of `007`, and a date of `2020-01-01`.
    Of a key that stands there twice YAML would take the last, and a file may hold itself: both are refused.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """See PyYAML's."""
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and node is not None and node.end_mark is None:  # its end has not been read yet
            raise yaml.composer.ComposerError(None, None, "what an anchor names holds itself", node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See PyYAML's."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, name in enumerate(names):
            if name in names[:number] and name != "<<":
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands there twice", mark)
        return super().construct_mapping(node, deep)


def _number_of_values(tree: Any, known: dict[int, int]) -> int:
    """How many there are once every anchor is unfolded.

    Args:
        known: by identity, of what was counted before.
    """
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in known:
        inner = tree.values() if isinstance(tree, dict) else tree
        known[id(tree)] = 1 + sum(_number_of_values(value, known) for value in inner)
    return known[id(tree)]


def _number_or_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    number = loader.construct_yaml_int(node)
    return number if str(number) == node.value else str(node.value)


_TEXT = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:int", _number_or_text)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; words such as `no` stay text.

    Raises:
        UserError: if the file is missing, unreadable, broken, or no mapping.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {str(path)!r}: {error}") from None
    try:
        tree = yaml.load(text, Loader=_Loader)
        if _number_of_values(tree, {}) > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES:,} values, anchors unfolded")
    except Exception as error:  # PyYAML lets all kinds through: of deep nesting, of a tag that does not fit its value
        raise UserError(f"{str(path)!r} is not valid YAML: {one_line(error)}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{str(path)!r} must hold a YAML mapping of keys, but holds {type(tree).__name__}")
    return tree
