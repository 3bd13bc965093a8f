"""Distributions as an installer leaves them: modules, and metadata with entry points."""

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest


def install(site: Path, project: str, modules: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a distribution into a folder of its own on the search path.

    Args:
        project: its `pyproject.toml`.
        modules: Python source by file.
    """
    settings = tomllib.loads(project)["project"]
    name, version = settings["name"], settings["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = settings.get("entry-points", {})
    lines = [
        line for group, named in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in named.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in modules))
    for file, source in modules.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(source)
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        monkeypatch.setitem(sys.modules, module, ModuleType(module))  # so that what it imports goes with the test
        del sys.modules[module]
    monkeypatch.syspath_prepend(site)
