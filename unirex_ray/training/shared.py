"""Stages that several trials of a sweep have in common: one of them trains, the others wait for it and take it over."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.runtime import Runtime

_POLL_SECONDS = 0.5


@contextmanager
def claimed_stage(runtime: Runtime, folder: str, identity: str) -> Iterator[CheckpointStore]:
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
            lock = _locked(place)
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


def _locked(place: Path) -> IO[str] | None:
    place.mkdir(parents=True, exist_ok=True)
    lock = (place / ".lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError:
        pass  # A file system without locks: two trials may train the same stage, to the same weights.
    return lock
