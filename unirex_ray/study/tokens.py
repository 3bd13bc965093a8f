"""`tokens.json`: the secret part of each annotator's link; no part of the manifest, which others may see."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path

from unirex_ray.errors import DamagedFileError, UserError

TOKENS = "tokens.json"

_BYTES = 16


def tokens_of(folder: Path, annotators: Iterable[str]) -> dict[str, str]:
    """A token for each annotator: made at the first call, for the owner's eyes alone, and kept.

    Raises:
        UserError: if the file cannot be written, or is not what was made.
    """
    file = folder / TOKENS
    try:
        if not file.exists():
            _write(file, {annotator: secrets.token_urlsafe(_BYTES) for annotator in annotators})
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(map(_is_token, found.values())) or {*found} != {*annotators}:
            raise ValueError("it does not hold a token for each annotator")
        if len({*found.values()}) < len(found):
            raise ValueError("two annotators have the same token")
    except OSError as error:
        raise UserError(f"cannot keep the links' tokens in {str(file)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"{str(file)!r} is damaged ({error}); put a backup in its place, or delete it: all links are new then"
        ) from None
    return found


def _is_token(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w-]{16,64}", value, re.ASCII) is not None


def _write(file: Path, tokens: dict[str, str]) -> None:
    descriptor, partial = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)  # mode 0600
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(tokens, indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, file)
