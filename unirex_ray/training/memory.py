"""Keeping the C allocator from handing large blocks back to the kernel after every step."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@lru_cache(maxsize=1)
def disable_malloc_trim() -> None:
    """Let glibc reuse freed blocks instead of unmapping them: page faults can cost half of a step on a CPU."""
    if mallopt := _glibc("mallopt"):
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def trim_malloc() -> None:
    """Give the kernel what a finished trial has freed: a process that is reused would grow with every trial."""
    if trim := _glibc("malloc_trim"):
        trim(0)


def _glibc(name: str) -> Any:
    """A function of the C library; None where it is another one (musl, macOS, Windows)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
