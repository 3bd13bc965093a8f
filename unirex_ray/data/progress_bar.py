"""Progress of long work on data: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 15.0

_T = TypeVar("_T")


def progress_bar(items: Iterable[_T], what: str, total: int | None = None, *, size: int = 1) -> Iterator[_T]:
    """Pass `items` on, and show on stderr how far they are; work of a moment shows nothing.

    Args:
        what: e.g. "reading esnli, train".
        total: of instances, where it is known.
        size: instances in each item.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit=" instances", delay=_QUIET_SECONDS, leave=False) as bar:
            for item in items:
                yield item
                bar.update(size)
        return
    last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if number % 64 == 0 and time.monotonic() - last > _LINE_SECONDS:
            last = time.monotonic()
            done = number * size if total is None else min(total, number * size)
            print(f"{what}: {done:,}{'' if total is None else f' of {total:,}'} instances", file=sys.stderr, flush=True)


def terminal_bar(items: Sequence[_T], what: str, *, unit: str) -> Iterator[_T]:
    """Pass `items` on, with a bar on a terminal; elsewhere, as in the workers of a sweep, in silence."""
    silent = not sys.stderr.isatty()
    yield from tqdm(items, desc=what, unit=f" {unit}", delay=_QUIET_SECONDS, leave=False, disable=silent)
