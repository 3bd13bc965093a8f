"""A sweep's journal: every event of it, on disk before anything acts on it.

One line an event, each behind a checksum of its own, so that a line that a kill tore is told from one that was changed.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirex_ray.errors import DamagedFileError, one_line

JOURNAL = "journal.jsonl"
"""File in a sweep's output."""

Event = Mapping[str, Any]
"""`event` names the kind, `at` says when it happened, in seconds since 1970; the rest is as JSON has it."""


class Journal:
    """The file; one process writes it, one thread at a time.

    Attributes:
        events: that it held when it was opened.

    Raises:
        DamagedFileError: where a line was changed. A torn last one is none: nothing acted on it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        data = file.read_bytes() if file.exists() else b""
        self.events, self._whole = _parse(data, file)

    def append(self, event: Event) -> Event:
        """Put an event on disk; returns it as it would be read again."""
        text = json.dumps({**event, "at": time.time()}, default=str)
        line = f"{zlib.crc32(text.encode()):08x} {text}\n".encode()
        with open(self._file, "ab") as stream:
            stream.truncate(self._whole)  # what a kill, or a full disk, left of a line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self._whole += len(line)
        written: Event = json.loads(text)
        return written


def _parse(data: bytes, file: Path) -> tuple[list[Event], int]:
    """The events, and the number of bytes that hold them."""
    events: list[Event] = []
    whole = 0
    for line in data.splitlines(keepends=True):
        checksum, _, text = line.partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(text.rstrip(b"\n")):
                raise ValueError("its checksum is another one")
            if not line.endswith(b"\n"):
                raise ValueError("it has no end")
            events.append(json.loads(text))
        except ValueError as error:
            if whole + len(line) == len(data) and not line.endswith(b"\n"):
                break
            raise DamagedFileError(
                f"{file} is damaged: line {len(events) + 1}: {one_line(error)}; move it away, and --resume reads "
                "the sweep's trials from where they were recorded"
            ) from None
        whole += len(line)
    return events, whole
