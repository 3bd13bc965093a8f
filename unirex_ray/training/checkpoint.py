"""A trial's files: where to go on from, and its best weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pyarrow import fs

LAST = "last.pt"
BEST = "best.pt"
RESULT = "result.json"
CONFIG = "config.yaml"


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

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a state of tensors and plain values."""
        with self._replacing(name) as stream:
            torch.save(state, stream)

    @contextmanager
    def _replacing(self, name: str) -> Iterator[Any]:
        self._fs.create_dir(self._root, recursive=True)
        path = f"{self._root}/{name}"
        with self._fs.open_output_stream(f"{path}.partial", buffer_size=0) as stream:
            yield stream
        self._fs.move(f"{path}.partial", path)

    def load(self, name: str) -> dict[str, Any] | None:
        """Read what `save` wrote, onto the CPU; None where there is none."""
        data = self.read(name)
        if data is None:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return state
