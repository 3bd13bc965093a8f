"""Reading a corpus where its authors' files lie: a folder, an archive, one file, or a pinned revision on the hub.

Archives are read in memory: nothing is ever unpacked, so no member can write anywhere.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unirex_ray.errors import UserError, one_line

HUB = "hf://datasets/"

_UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(OSError, EOFError, RuntimeError, ValueError),
)
_SHOWN = 5
_PINNED = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})(?:/(.+))?")

COMPRESSED: dict[str, Callable[[io.BytesIO], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""Endings of single files that are unpacked as they are read."""

_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins as that of UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the mark that their files begin with."""

# Text shrinks to a third or, where it repeats itself, to a twentieth. What grows more than this is no corpus.
_MOST_GROWTH = 200
_ALWAYS_FINE = 16 << 20
_MOST_BYTES = 8 << 30


@dataclass(frozen=True)
class Source:
    """Read-only files by relative path, e.g. `docs/a.txt`.

    Attributes:
        label: how messages name the source.
        names: the files; of a folder, those of its first two levels.
    """

    label: str
    _read: Callable[[str], bytes | None]
    names: tuple[str, ...] = ()

    def find(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none, or where the name leads out of the source."""
        return self._read(name) if _is_inside(name) else None

    def content(self, name: str) -> bytes:
        """A file's bytes, unpacked where its name says that they are compressed.

        Raises:
            UserError: if it is missing, or cannot be unpacked.
        """
        data = self.find(name)
        if data is None:
            raise UserError(f"{self.label}: has no file {name!r}")
        opened = COMPRESSED.get(PurePosixPath(name).suffix.lower())
        try:
            return data if opened is None else _unpacked(name, data, opened)
        except _UNREADABLE as error:
            raise UserError(f"{self.label}: {name}: cannot be unpacked ({one_line(error)})") from None

    def lines(self, name: str) -> Iterator[tuple[int, str]]:
        r"""A file's lines without their ends (\n or \r\n), numbered from 1; only one of them is decoded at a time.

        Raises:
            UserError: if it is missing or not UTF-8; names the line. UTF-16 is known by the mark that it begins with.
        """
        for number, line in enumerate(io.BytesIO(self._as_utf8(name, self.content(name))), start=1):
            yield number, self.decode(name, line, line=number).rstrip("\r\n")

    def decode(self, name: str, data: bytes, *, line: int | None = None) -> str:
        """Bytes of the file `name` as text.

        Args:
            line: where the bytes come from; None: they are the whole file.

        Raises:
            UserError: if they are not UTF-8; names the line.
        """
        if line is None:
            data = self._as_utf8(name, data)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            number = line or data.count(b"\n", 0, error.start) + 1
            column = error.start - (data.rfind(b"\n", 0, error.start) + 1)
            raise UserError(
                f"{self.label}: {name}, line {number}: must be UTF-8 text, but byte {column} of the line is not"
            ) from None
        return text.removeprefix("\ufeff") if line in (None, 1) else text

    def _as_utf8(self, name: str, data: bytes) -> bytes:
        encoding = next((encoding for mark, encoding in _WIDE.items() if data.startswith(mark)), None)
        try:
            return data if encoding is None else data.decode(encoding).encode("utf-8")
        except UnicodeError as error:
            wide = encoding and encoding.upper()
            raise UserError(
                f"{self.label}: {name}: begins as {wide} does, but is broken ({one_line(error)}); save it as UTF-8"
            ) from None


def open_source(path: str | Path, expected: Sequence[str], remedy: str) -> Source:
    """Open a folder, .zip or .tar.gz whose top, or one folder at its top, holds all `expected` files.

    Args:
        path: also `hf://datasets/OWNER/NAME@COMMIT` or a folder below it; any single file where nothing is expected.
        remedy: what to give instead, e.g. "give trainDevTestTrees_PTB.zip as data.source".

    Raises:
        UserError: if the source is missing, unreadable, does not hold the expected files, or is an archive with a
            member that points outside, or one that is far larger than an archive of a corpus can be.
    """
    place, label = _locate(path, expected, remedy), str(path)
    try:
        read, names = _folder(place) if place.is_dir() else _file(place, single=not expected)
    except _UNREADABLE as error:
        raise UserError(f"data.source = {label!r} cannot be read ({one_line(error)}); {remedy}") from None
    prefix = _top(names, expected, label, remedy)

    def relative(name: str) -> bytes | None:
        try:
            return read(f"{prefix}{name}")
        except _UNREADABLE as error:
            raise UserError(f"{label}: cannot read {prefix}{name} ({error})") from None

    return Source(label, relative, tuple(sorted(n.removeprefix(prefix) for n in names if n.startswith(prefix))))


def fingerprint(
    path: str | Path,
    expected: Sequence[str],
    remedy: str,
    *,
    also: Sequence[str] = (),
    choose: Callable[[Sequence[str]], Iterable[str]] | None = None,
) -> str:
    """64 hex digits over everything that a reader of these files can see; nothing is parsed.

    Args:
        also: files and folders beside `expected` that are read where they exist.
        choose: which of a folder's names are read beside them; none by default.

    Raises:
        UserError: if the source is missing or cannot be read; of a folder, also if it lacks an expected file.
    """
    place, label = _locate(path, expected, remedy), str(path)
    try:
        if place.is_file():
            # The name as well: of a single file, it decides how the file is read.
            return hashlib.sha256(f"{place.name} {_content_hash(place)}".encode()).hexdigest()
        names = _folder(place)[1]
        root = place / _top(names, expected, label, remedy)
        chosen = (*expected, *also, *(choose(sorted(names)) if choose else ()))
        sha = hashlib.sha256()
        for file in sorted({file for name in chosen for file in _files(root / name)}):
            content = _content_hash(file)
            sha.update(
                f"{len(file.relative_to(root).as_posix())} {file.relative_to(root).as_posix()} {content}".encode()
            )
        return sha.hexdigest()
    except OSError as error:
        raise UserError(f"data.source = {label!r} cannot be read ({error.strerror or error}); {remedy}") from None


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    for folder, _, names in os.walk(place, followlinks=True):
        yield from (Path(folder) / name for name in names)


def _content_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _locate(path: str | Path, expected: Sequence[str], remedy: str) -> Path:
    if str(path).startswith(HUB):
        return _download(str(path))
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"data.source = {str(path)!r} does not exist; {remedy}")
    return place


def _download(address: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    match = _PINNED.fullmatch(address.removeprefix(HUB).rstrip("/"))
    if match is None:
        raise UserError(
            f"data.source = {address!r} must be {HUB}OWNER/NAME@COMMIT, with all 40 digits of the commit, "
            "so that it always names the same data"
        )
    repository, revision, below = match.groups()
    wanted = f"{below}/**" if below else "**"
    try:
        root = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=wanted)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"data.source = {address!r} cannot be downloaded ({one_line(error, 200)}); download it yourself"
        ) from None
    place = Path(root) / (below or "")
    if not place.exists():
        raise UserError(f"data.source = {address!r}: {repository} has no {below!r} in this revision")
    return place


def _top(names: Collection[str], expected: Sequence[str], label: str, remedy: str) -> str:
    """The prefix, empty or with a slash at its end, below which all `expected` files lie."""
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
    return fitting[0]


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


def _file(file: Path, *, single: bool) -> _Opened:
    limit = _Limit(file.stat().st_size)
    contents: dict[str, bytes] = {}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                limit.add(member.filename, member.file_size)
                if not member.is_dir():
                    # zipfile hands out no more bytes than the member claims, and refuses it where there are more.
                    contents[PurePosixPath(member.filename).as_posix()] = archive.read(member)
    elif tarfile.is_tarfile(file):
        with tarfile.open(file) as tar:
            for entry in tar:
                limit.add(entry.name, entry.size)
                if entry.issym() or entry.islnk():
                    target = str(PurePosixPath(entry.name).parent / entry.linkname) if entry.issym() else entry.linkname
                    limit.add(target, 0)
                stream = tar.extractfile(entry) if entry.isreg() else None
                if stream is not None:
                    contents[PurePosixPath(entry.name).as_posix()] = stream.read()
    elif single:
        return {file.name: file.read_bytes()}.get, {file.name}
    else:
        raise ValueError("it is neither a folder nor a .zip or .tar.gz archive")
    return contents.get, set(contents)


def _unpacked(name: str, data: bytes, opened: Callable[[io.BytesIO], Any]) -> bytes:
    limit, parts = _Limit(len(data)), []
    with opened(io.BytesIO(data)) as stream:
        while part := stream.read(_ALWAYS_FINE):
            limit.add(name, len(part))
            parts.append(part)
    return b"".join(parts)


class _Limit:
    """Refuses members that point outside, and archives that unfold to far more than they are."""

    def __init__(self, size: int) -> None:
        self._most = min(_MOST_BYTES, max(_ALWAYS_FINE, _MOST_GROWTH * size))
        self._total = 0

    def add(self, name: str, size: int) -> None:
        path = PurePosixPath(name)
        depth = 0
        for part in path.parts:
            depth += -1 if part == ".." else 1
            if path.is_absolute() or depth < 0 or "\0" in name:
                raise ValueError(f"its member {name!r} points outside of it, and nothing of it is read")
        self._total += size
        if self._total > self._most:
            raise ValueError(f"it unfolds to more than {self._most >> 20} MiB, which no archive of a corpus does")
