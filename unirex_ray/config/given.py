"""The configuration tree as a function of the package takes it: a mapping or a file, and keywords above it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirex_ray.config import Tree, check_remote_code, merge
from unirex_ray.files import load_yaml

Settings = Mapping[str, Any] | str | Path | None
"""Nested, or with dotted keys; or a YAML file of these."""


def given_tree(settings: Settings, keys: Mapping[str, Any]) -> Tree:
    """One tree, not validated yet.

    Args:
        keys: as `settings`; they win, key by key.

    Raises:
        UserError: for a file that cannot be read, or allows an encoder's own code where `keys` do not.
    """
    if settings is None or isinstance(settings, Mapping):
        return merge(settings or {}, keys)
    file = load_yaml(settings)
    check_remote_code(settings, file, merge(keys))
    return merge(file, keys)
