"""Which code produced a number."""

from __future__ import annotations

import subprocess
from pathlib import Path

import unirex_ray


def code_version() -> str:
    """The package's version; in a checkout also its git commit, with `+dirty` if there are uncommitted changes."""
    version = f"unirex_ray {unirex_ray.__version__}"
    folder = Path(unirex_ray.__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+dirty", "--exclude=*"]
    try:
        tracked = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, timeout=10
        )
        described = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return version
    commit = described.stdout.strip()
    return f"{version} ({commit})" if tracked.returncode == 0 and commit else version
