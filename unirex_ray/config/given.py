"""The configuration tree as a function of the package takes it: a mapping or a file, and keywords above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from unirex_ray.config import Tree, check_remote_code, merge
from unirex_ray.errors import UserError
from unirex_ray.files import load_yaml

Settings = Mapping[str, Any] | str | Path | None
"""Nested, or with dotted keys; or a YAML file of these."""


def given_tree(settings: Settings, keys: Mapping[str, Any]) -> Tree:
    """One tree, not validated yet.

    Args:
        settings: may hold paths in place of strings.
        keys: as `settings`; they win, key by key.

    Raises:
        UserError: for settings of another type; for a file that cannot be read, or allows an encoder's own code where
            `keys` do not.
    """
    keys = _without_paths(keys)
    if settings is None or isinstance(settings, Mapping):
        return merge(_without_paths(settings or {}), keys)
    if not isinstance(settings, str | PathLike):
        raise UserError(f"the settings must be a mapping or the path of a YAML file, but are {settings!r:.80}")
    file = load_yaml(settings)
    check_remote_code(settings, file, merge(keys))
    return merge(file, keys)


def given_names(names: str | Path | Sequence[str | Path]) -> list[str]:
    """Names or paths as strings; a single one is a list of one."""
    return [fspath(name) for name in ([names] if isinstance(names, str | PathLike) else names)]


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(inner) for inner in value]
    return fspath(value) if isinstance(value, PathLike) else value
