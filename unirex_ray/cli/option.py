"""How a value of the configuration is written behind its option, and read again."""

from __future__ import annotations

import csv
import json
import re
import shlex
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from unirex_ray.config import config_fields
from unirex_ray.errors import UserError

_NULL = "null"
_DROPPED = "--"
"""argparse takes this value for the end of the options, and gives an empty list for it."""


def read_value(key: str, text: str | list[str]) -> str | list[str] | None:
    """The value that an option's text stands for; `Config` gives the words their types.

    `null` is no value. A list is written as a,b or ["a, b", "c"], and text that would be read as something else in
    quotes, as JSON has them.

    Raises:
        UserError: if a list cannot be taken apart.
    """
    if not isinstance(text, str):
        text = _DROPPED
    if text == _NULL:
        return None
    return _read_list(key, text) if _is_list(key) else _read_text(text)


def option(key: str, value: Any) -> str:
    """The option that gives a key this value, to be pasted into a shell."""
    if isinstance(value, list | tuple):
        words = [str(word) for word in value]
        plain = words not in ([_NULL], [_DROPPED]) and all(re.fullmatch(r"[\w.+-]+", word) for word in words)
        text = ",".join(words) if plain else _json(words)
    elif value is None:
        text = _NULL
    else:
        text = str(value)
        if text in (_NULL, _DROPPED) or text.startswith('"') or not text.isprintable():
            text = _json(text)
    return f"--{key}={shlex.quote(text)}"


def type_in_words(key: str) -> str:
    """What a key's option takes, e.g. `int`, `{gpu,cpu}`, or `str,...` for a list."""
    return _in_words(config_fields()[key].annotation)


def _read_text(text: str) -> str:
    try:
        quoted = json.loads(text) if text.startswith('"') else None
    except ValueError:
        return text
    return quoted if isinstance(quoted, str) else text


def _read_list(key: str, text: str) -> list[str]:
    try:
        # Numbers stay as they are written: a label may be 007.
        words = json.loads(text, parse_int=str, parse_float=str) if text.startswith("[") else None
    except ValueError:
        words = None
    if isinstance(words, list):
        return [word if isinstance(word, str) else json.dumps(word) for word in words]
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return [word.strip() for row in csv.reader([bare], skipinitialspace=True) for word in row]
    except csv.Error as error:
        raise UserError(f'{key} = {text!r} is no list ({error}); write it as a,b or ["a","b"]') from None


def _json(value: str | list[str]) -> str:
    """As JSON, with escapes where a character cannot be seen."""
    return json.dumps(value, ensure_ascii=not "".join(value).isprintable())


def _is_list(key: str) -> bool:
    return get_origin(_plain(config_fields()[key].annotation)) is tuple


def _plain(kind: Any) -> Any:
    """A type without `None` and without what validates it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _plain(inner[0])
    if NoneType in inner:
        return _plain(next(each for each in inner if each is not NoneType))
    return kind


def _in_words(kind: Any) -> str:
    plain = _plain(kind)
    inner = get_args(plain)
    if get_origin(plain) is Literal:
        return f"{{{','.join(inner)}}}"
    if get_origin(plain) is tuple:
        return f"{_in_words(inner[0])},..."
    if isinstance(plain, UnionType):
        return " or ".join(map(_in_words, inner))
    name: str = plain.__name__
    return name
