"""What other distributions register: values that `method` and `data.name` may take beside the package's own.

They do so by entry points of the groups `unirex_ray.methods` and `unirex_ray.corpora`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal, TypeVar

from unirex_ray.errors import UserError, one_line

Kind = Literal["method", "corpus"]
T = TypeVar("T")

_GROUPS: Mapping[Kind, str] = {"method": "unirex_ray.methods", "corpus": "unirex_ray.corpora"}
_RAISED = (Exception, SystemExit)
"""What the code of others may raise; Ctrl-C and signals are neither."""


def registered_names(kind: Kind) -> list[str]:
    """The names that distributions register, whether or not what is behind them can be loaded."""
    return sorted(_entries(kind, tuple(sys.path)))


def is_registered(kind: Kind, name: str) -> bool:
    """Whether any distribution registers a name."""
    return name in _entries(kind, tuple(sys.path))


def load_registered(kind: Kind, name: str, wanted: type[T], own: Collection[str]) -> T | None:
    """What a distribution registers by a name; None where none does.

    Args:
        wanted: what it has to be.
        own: the package's names, which nobody else can take.

    Raises:
        UserError: naming the distribution, for a name that is taken twice, and for what cannot be loaded or is
            something else.
    """
    entry = _entry(kind, name)
    if entry is None:
        return None
    origin = _origin(entry)
    if name in own:
        raise UserError(
            f"the {kind} {name!r} is one of unirex_ray's own, but {origin} registers it too; give it another name "
            "there, or uninstall that"
        )
    try:
        loaded = entry.load()
    except _RAISED as error:
        raise _failure(kind, entry, "loaded", error) from error
    if not isinstance(loaded, wanted):
        raise UserError(
            f"the {kind} {name!r} of {origin} must be a {wanted.__name__}, but {entry.value} is a "
            f"{type(loaded).__name__}"
        )
    return loaded


@contextmanager
def code_of_others(kind: Kind, name: str, task: str) -> Iterator[None]:
    """Name the distribution that registers a name in whatever its code raises; errors of our own code stay as they are.

    Args:
        task: of the code, as a participle: `read`.

    Raises:
        UserError: for an exception that is none already, and for an exit of the interpreter.
    """
    entry = _entry(kind, name)
    try:
        yield
    except UserError:
        raise
    except _RAISED as error:
        if entry is None:
            raise
        raise _failure(kind, entry, task, error) from error


def registered_version(kind: Kind, name: str) -> str | None:
    """Which distribution, version and code is behind a name, e.g. `my-methods 1.0 (0123abcd)`; None where none is.

    The code is told by 8 hex digits over the source of the whole package that the entry point is in, and over the other
    modules that were installed with it.
    """
    entry = _entry(kind, name)
    return None if entry is None else f"{_origin(entry)} ({_source_digest(entry)})"


def _failure(kind: Kind, entry: EntryPoint, task: str, error: BaseException) -> UserError:
    return UserError(
        f"the {kind} {entry.name!r} of {_origin(entry)} cannot be {task} ({type(error).__name__}: "
        f"{one_line(error, 200)}); mend or uninstall that"
    )


def _entry(kind: Kind, name: str) -> EntryPoint | None:
    entries = _entries(kind, tuple(sys.path)).get(name, ())
    if len(entries) > 1:
        raise UserError(
            f"the {kind} {name!r} is registered by {' and '.join(sorted(map(_origin, entries)))}; uninstall all but one"
        )
    return entries[0] if entries else None


@lru_cache(maxsize=8)
def _entries(kind: Kind, path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Entry points by name, as they were when the process first asked on this search path."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=_GROUPS[kind]):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _source_digest(entry: EntryPoint) -> str:
    files, installed = _package_files(entry.module.partition(".")[0]), _installed_files(entry)
    # An editable installation lists what finds its files, by where they lie on this machine, and none of them.
    if {file.resolve() for file in installed.values()} & {file.resolve() for file in files.values()}:
        files |= installed
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def _package_files(package: str) -> dict[str, Path]:
    """The source of a package or a module, by name as from the folder that it is in."""
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = {
        f"{package}/{file.relative_to(folder).as_posix()}": file for folder in folders for file in folder.rglob("*.py")
    }
    if not files and spec and spec.origin and Path(spec.origin).is_file():
        files = {Path(spec.origin).name: Path(spec.origin)}
    return files


def _installed_files(entry: EntryPoint) -> dict[str, Path]:
    """The modules that an installer listed, by the same names; scripts, which name this machine's Python, are none."""
    if entry.dist is None or not entry.dist.read_text("RECORD"):
        return {}
    modules = [file for file in entry.dist.files or () if file.suffix == ".py" and ".." not in file.parts]
    located = {file.as_posix(): Path(str(file.locate())) for file in modules}
    return {name: file for name, file in located.items() if file.is_file()}
