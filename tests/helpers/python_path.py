"""Where other processes find these helpers."""

import os
from pathlib import Path

TESTS = Path(__file__).parents[1]


def with_helpers() -> str:
    """This process' PYTHONPATH, with the folder of the tests before it."""
    return os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
