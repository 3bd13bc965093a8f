"""Stages that several trials of a sweep have in common: one of them trains, the others wait for it and take it over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from unirex_ray.files import try_lock
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.runtime import Runtime

_POLL_SECONDS = 0.5


@contextmanager
def stage_lock(runtime: Runtime, folder: str, identity: str) -> Iterator[CheckpointStore]:
    """Hold a stage of this identity alone; every worker of a trial enters and leaves together.

    Args:
        folder: shared by all trials, on a file system that all of them see.

    Returns:
        Where the stage's weights lie, or are to be put. A process that dies lets the next one in.
    """
    place = Path(folder) / identity
    lock: IO[str] | None = None
    while True:
        if runtime.rank == 0:
            lock = try_lock(place / ".lock")
        # All workers ask again together, so that none of them waits for the others in vain.
        held = torch.tensor([float(lock is not None)], device=runtime.device)
        runtime.all_reduce(held)
        if held.item() > 0:
            break
        time.sleep(_POLL_SECONDS)
    try:
        yield CheckpointStore(place)
    finally:
        if lock is not None:
            lock.close()
