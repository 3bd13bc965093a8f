"""Stages that several trials of a sweep have in common: one of them trains, the others wait and adopt its weights."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

import torch

from unirex_ray.config import Config, config_hash
from unirex_ray.files import try_lock
from unirex_ray.methods import Stage, get_method
from unirex_ray.training.checkpoint import CheckpointStore, below
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.stage import StageTrainer

_POLL_SECONDS = 0.5


def train_or_adopt(trainer: StageTrainer) -> None:
    """Train a stage, or adopt the weights of the trial of this sweep that trained the same one.

    Raises:
        TrainingError: see `StageTrainer.train`.
    """
    folder, setup, state = trainer.runtime.shared, trainer.setup, trainer.state
    if folder is None or trainer.stage is not shared_stage(setup.config):
        trainer.train()
        return
    started = time.perf_counter()
    identity, files = stage_identity(setup.config, trainer.stage, setup.encoded.digest), trainer.files
    with stage_lock(trainer.runtime, folder, identity) as store:
        state.wait_s += time.perf_counter() - started
        shared = files.take_shared(store)
        if shared is None:
            trainer.train()
            files.share(store, trainer.model, state)
        else:
            trainer.adopt(*shared)
            files.keep_shared(state)


def shared_stage(config: Config) -> Stage | None:
    """The stage that a trial trains for others of its sweep as well, or takes over from one of them."""
    first, *later = get_method(config.method).stages
    # Rungs compare trials epoch by epoch, so that each has to train a stage that they judge.
    judged_by_rungs = not later and config.sweep.rungs
    return first if first.shared and not judged_by_rungs else None


def stage_identity(config: Config, stage: Stage, digest: str = "") -> str:
    """16 hex digits, the same for stages that learn the same from the same data.

    Args:
        digest: of the encoded corpus; left out where there is only one.
    """
    design = {key: value for key, value in asdict(stage.design).items() if stage.uses_scores or key != "extractor"}
    text = json.dumps([config_hash(config, stage.learns_from), stage.criteria, design, digest], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def stage_lock(runtime: Runtime, folder: str, identity: str) -> Iterator[CheckpointStore]:
    """Hold a stage of this identity alone; every worker of a trial enters and leaves together.

    Args:
        folder: shared by all trials, on storage that all of them see. Where that has no locks, as with object stores,
            two trials may train the same stage at the same time, which costs time and no number.

    Returns:
        Where the stage's weights lie, or are to be put. A process that dies lets the next one in.
    """
    place = below(folder, identity)
    if "://" in place:
        yield CheckpointStore(place)
        return
    lock: IO[str] | None = None
    while True:
        if runtime.rank == 0:
            lock = try_lock(Path(place) / ".lock")
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
