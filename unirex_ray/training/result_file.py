"""What `result.json` of a completed trial is: a JSON object with a checksum of itself; no tensors here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

RESULT = "result.json"


def seal(content: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """The file, with checksums of the files that lie beside it, by name."""
    sealed = {**content, "files": {name: digest_of(data) for name, data in files.items()}}
    return json.dumps({**sealed, "digest": _digest_of_content(sealed)}).encode()


def unseal(data: bytes) -> dict[str, Any]:
    """What `seal` was given, and `files`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: where the file is torn, or was changed; versions until 0.1.0
            left no checksum.
    """
    content: dict[str, Any] = json.loads(data)
    if content.pop("digest", None) not in (None, _digest_of_content(content)):
        raise ValueError("its checksum is another one")
    for key in ("identity", "card", "metrics", "epoch", "perturbation"):
        content[key]
    return content


def digest_of(data: bytes) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()


def _digest_of_content(content: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(content, sort_keys=True).encode())
