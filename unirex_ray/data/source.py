"""Reading a corpus where its authors' files lie: a folder, a .zip or a .tar.gz.

Archives are read in memory: nothing is ever unpacked, so no member can write anywhere.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unirex_ray.errors import UserError

_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)
_SHOWN = 5


@dataclass(frozen=True)
class Source:
    """Read-only files by relative path, e.g. `docs/a.txt`.

    Attributes:
        label: how messages name the source.
    """

    label: str
    _read: Callable[[str], bytes | None]

    def find(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none, or where the name leads out of the source."""
        return self._read(name) if _is_inside(name) else None

    def text(self, name: str) -> str:
        """A file as UTF-8 text.

        Raises:
            UserError: if it is missing or not UTF-8.
        """
        data = self.find(name)
        if data is None:
            raise UserError(f"{self.label}: has no file {name!r}")
        return self.decode(name, data)

    def decode(self, name: str, data: bytes) -> str:
        """Bytes of the file `name` as text.

        Raises:
            UserError: if they are not UTF-8.
        """
        try:
            return data.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.label}: {name} must be UTF-8 text, but byte {error.start} is not") from None


def open_source(path: str | Path, expected: Sequence[str], remedy: str) -> Source:
    """Open a folder, .zip or .tar.gz whose top, or one folder at its top, holds all `expected` files.

    Args:
        remedy: what to give instead, e.g. "give trainDevTestTrees_PTB.zip as data.source".

    Raises:
        UserError: if the source is missing, unreadable, or does not hold the expected files.
    """
    place = Path(path).expanduser()
    label = str(path)
    try:
        if place.is_dir():
            read, names = _folder(place)
        elif place.is_file():
            read, names = _archive(place)
        else:
            raise UserError(f"data.source = {label!r} does not exist; {remedy}")
    except _UNREADABLE as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"data.source = {label!r} cannot be read ({reason}); {remedy}") from None

    tops = ["", *sorted({f"{PurePosixPath(name).parts[0]}/" for name in names if "/" in name})]
    fitting = [top for top in tops if all(f"{top}{file}" in names for file in expected)]
    if not fitting:
        shown = sorted(names)[:_SHOWN]
        found = ", ".join(shown) + (", ..." if len(names) > _SHOWN else "") if shown else "no files"
        raise UserError(
            f"data.source = {label!r} must hold {', '.join(expected)} at its top or in one folder, "
            f"but holds {found}; {remedy}"
        )
    if fitting[0] and len(fitting) > 1:
        folders = ", ".join(top.rstrip("/") for top in fitting)
        raise UserError(f"data.source = {label!r} holds {', '.join(expected)} in several folders: {folders}; name one")
    prefix = fitting[0]

    def relative(name: str) -> bytes | None:
        try:
            return read(f"{prefix}{name}")
        except _UNREADABLE as error:
            raise UserError(f"{label}: cannot read {prefix}{name} ({error})") from None

    return Source(label, relative)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


_Opened = tuple[Callable[[str], bytes | None], set[str]]


def _folder(root: Path) -> _Opened:
    def read(name: str) -> bytes | None:
        file = root / name
        return file.read_bytes() if file.is_file() else None

    # Two levels tell what the folder holds; thousands of documents further down need no listing.
    names = {
        file.relative_to(root).as_posix()
        for entry in root.iterdir()
        for file in (_entries(entry) if entry.is_dir() else (entry,))
    }
    return read, names


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except PermissionError:
        return ()


def _archive(file: Path) -> _Opened:
    contents: dict[str, bytes] = {}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if not member.is_dir() and _is_inside(member.filename):
                    contents[PurePosixPath(member.filename).as_posix()] = archive.read(member)
    elif tarfile.is_tarfile(file):
        with tarfile.open(file) as tar:
            for entry in tar:
                stream = tar.extractfile(entry) if entry.isreg() and _is_inside(entry.name) else None
                if stream is not None:
                    contents[PurePosixPath(entry.name).as_posix()] = stream.read()
    else:
        raise ValueError("it is neither a folder nor a .zip or .tar.gz archive")
    return contents.get, set(contents)
