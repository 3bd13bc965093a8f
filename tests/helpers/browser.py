"""A browser to visit pages with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def browser_program() -> str:
    """Skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)}")
    return found


@contextmanager
def chromium() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Playwright's browser type, and what its `launch` and `launch_persistent_context` take; skips without either."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = browser_program()
    with api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        yield playwright.chromium, {"executable_path": program, "args": sandbox}
