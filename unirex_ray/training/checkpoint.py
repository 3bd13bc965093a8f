"""A trial's files: where to go on from, and its best weights."""

from __future__ import annotations

import io
import os
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pyarrow import fs

from unirex_ray.errors import DamagedFileError, one_line

LAST = "last.pt"
BEST = "best.pt"
CONFIG = "config.yaml"
_PARTIAL = ".partial"
_OBJECT_STORES = ("s3", "gcs", "abfs")


def below(folder: str, name: str) -> str:
    """A folder within another one, which may be a URI with options behind a `?`."""
    place, mark, options = folder.partition("?") if "://" in folder else (folder, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{options}"


class CheckpointStore:
    """A folder on any file system that pyarrow knows: a local or NFS path, or a URI such as `s3://bucket/folder`.

    A file is replaced as a whole: a reader sees the old one or the new one, never half of one.
    """

    def __init__(self, folder: str | Path) -> None:
        uri = str(folder)
        if "://" not in uri:
            uri = str(Path(uri).absolute())
        self._fs, self._root = fs.FileSystem.from_uri(uri)
        self.folder = uri
        self._uploads = self._fs.type_name in _OBJECT_STORES

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place, atomically on a local file system."""
        with self._replacing(name) as stream:
            stream.write(data)

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none."""
        if self._fs.get_file_info(f"{self._root}/{name}").type != fs.FileType.File:
            return None
        with self._fs.open_input_file(f"{self._root}/{name}") as stream:
            return bytes(stream.read())

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        if self._fs.get_file_info(f"{self._root}/{name}").type == fs.FileType.File:
            self._fs.delete_file(f"{self._root}/{name}")

    def delete_all(self) -> None:
        """Remove the folder with all that lies below it."""
        if self._fs.get_file_info(self._root).type == fs.FileType.Directory:
            self._fs.delete_dir(self._root)

    def move(self, name: str, target: str) -> None:
        """Rename a file, in place of what was there."""
        self._fs.move(f"{self._root}/{name}", f"{self._root}/{target}")

    def link(self, name: str, other: CheckpointStore, source: str) -> None:
        """Have another folder's file here as well, without its bytes a second time where the file system can do that.

        Several processes may do so at once: one of them is the last.

        Raises:
            FileNotFoundError: where the other one has no such file.
        """
        self._fs.create_dir(self._root, recursive=True)
        partial = Path(self.folder) / f"{name}.{secrets.token_hex(4)}{_PARTIAL}"
        try:
            os.link(Path(other.folder) / source, partial)
        except OSError:
            data = other.read(source)
            if data is None:
                raise FileNotFoundError(f"{other.folder}/{source}") from None
            with self._replacing(name, partial.name) as stream:
                stream.write(data)
        else:
            partial.replace(Path(self.folder) / name)

    def names(self) -> list[str]:
        """Of the files in the folder."""
        found = self._fs.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        return sorted(file.base_name for file in found if file.type == fs.FileType.File)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a state of tensors and plain values."""
        try:
            with self._replacing(name) as stream:
                torch.save(state, stream)
        except RuntimeError as error:  # what torch makes of a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    @contextmanager
    def _replacing(self, name: str, partial: str = "") -> Iterator[Any]:
        """A stream to a file that is put in place when all has been written.

        Args:
            partial: its name before that; needed where others write the same file.
        """
        self._fs.create_dir(self._root, recursive=True)
        path = f"{self._root}/{name}"
        if self._uploads:
            # An object is there as a whole when its upload has ended, and to rename it is to copy it.
            written = io.BytesIO()
            yield written
            with self._fs.open_output_stream(path) as stream:
                stream.write(written.getbuffer())
            return
        beside = f"{self._root}/{partial or name + _PARTIAL}"
        with self._fs.open_output_stream(beside, buffer_size=0) as stream:
            yield stream
        self._fs.move(beside, path)

    def load(self, name: str) -> dict[str, Any] | None:
        """Read what `save` wrote, onto the CPU; None where there is none.

        Raises:
            DamagedFileError: where it is torn, or a bit of it has changed.
        """
        data = self.read(name)
        return None if data is None else self.parse(name, data)

    def parse(self, name: str, data: bytes) -> dict[str, Any]:
        """What `save` wrote, from a file's bytes; see `load`."""
        try:
            # torch writes checksums, and reads without a look at them.
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                changed = archive.testzip()
            if changed is not None:
                raise ValueError(f"the checksum of {changed} is another one")
            state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # the libraries raise all kinds on bytes that are not as they expect
            raise self.damaged(name, error) from None
        return state

    def damaged(self, name: str, error: Exception) -> DamagedFileError:
        """The error that names a file."""
        return DamagedFileError(f"{self.folder}/{name} is damaged: {one_line(error)}; it has to be trained again")
