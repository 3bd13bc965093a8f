"""Which code produced a number."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import unirex_ray

_PACKAGE = Path(unirex_ray.__file__).parent
_DECIDES_NUMBERS = ("data", "methods", "metrics", "models", "training")
"""Folders of the package whose code a trial's numbers can depend on."""


def core_version(package: Path = _PACKAGE) -> str:
    """8 hex digits over the code that a trial's numbers can depend on: changes elsewhere leave them as they are."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in _DECIDES_NUMBERS for file in (package / folder).rglob("*.py")):
        digest.update(f"{file.relative_to(package).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def code_version() -> str:
    """The package's version; in a checkout also its git commit, with `+dirty` if there are uncommitted changes."""
    version = f"unirex_ray {unirex_ray.__version__}"
    command = ["git", "-C", str(_PACKAGE), "describe", "--always", "--abbrev=12", "--dirty=+dirty", "--exclude=*"]
    try:
        tracked = subprocess.run(
            ["git", "-C", str(_PACKAGE), "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, timeout=10
        )
        described = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return version
    commit = described.stdout.strip()
    return f"{version} ({commit})" if tracked.returncode == 0 and commit else version
