"""What a sweep's weights need on disk, and which of them go while it runs."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from pathlib import Path

from unirex_ray.analysis.selection import Configuration, selectable
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.methods import get_method
from unirex_ray.models.encoder import Encoder
from unirex_ray.models.rationale_model import EncoderFactory
from unirex_ray.sweep.plan import SweepPlan, encoder_configs
from unirex_ray.sweep.schedule import Schedule
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.size import TrialSize, encoder_sketch, trial_size
from unirex_ray.training.state import drop_weights

_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class DiskPlan:
    """How much the weights of a sweep's trials take.

    Attributes:
        concurrency: trials at once.
        running: bytes of a trial while it trains, of the largest.
        least: bytes, where each method keeps the weights of one configuration.
        most: bytes, where nothing can be deleted before the end.
    """

    concurrency: int
    running: int
    least: int
    most: int

    def __str__(self) -> str:
        at_once = "1 trial" if self.concurrency == 1 else f"each of {self.concurrency} trials"
        total = " to ".join(dict.fromkeys([_gb(self.least), _gb(self.most)]))
        return f"{total} of weights, {_gb(self.running)} of them for {at_once} at once"


def disk_plan(plan: SweepPlan, corpus: Corpus, concurrency: int) -> DiskPlan:
    """What the trials of a plan need."""
    heads = [value for p in plan.space.parameters if p.key == "model.head" for value in p.values]
    sizes: dict[str, list[TrialSize]] = {method: [] for method in plan.budgets}
    for config in encoder_configs(plan):
        sketch = encoder_sketch(config.model)
        for method, head in product(sizes, heads or [config.model.head]):
            largest = config.changed({"method": method, "model.head": head})
            sizes[method].append(trial_size(largest, corpus, _copies(sketch)))
    running = max(size.running for of_method in sizes.values() for size in of_method)
    ended = {method: max(size.ended for size in of_method) for method, of_method in sizes.items()}
    seeds = len(plan.config.sweep.seeds)
    most = concurrency * running + seeds * sum(plan.budgets[method] * size for method, size in ended.items())
    sweep = plan.config.sweep
    if sweep.keep_weights == "all" and not sweep.rungs and sweep.patience is None:
        return DiskPlan(concurrency=concurrency, running=running, least=most, most=most)
    # Methods without a stage of their own may all have the same weights, which lie there once.
    shared = [size for method, size in ended.items() if all(stage.shared for stage in get_method(method).stages)]
    least = concurrency * running + seeds * (sum(ended.values()) - sum(shared) + max(shared, default=0))
    return DiskPlan(concurrency=concurrency, running=running, least=least, most=most)


def _copies(encoder: Encoder) -> EncoderFactory:
    return lambda _: deepcopy(encoder)


def check_disk(needed: DiskPlan, place: str, own: Iterable[str]) -> str:
    """What to tell of it.

    Args:
        place: where they will lie; how much is free behind a URI is not known.
        own: folders of the sweep there, which hold a part of it already.

    Raises:
        UserError: where not even the least fits.
    """
    if "://" in place:
        return f"storage: {needed}; at {place}"
    free = shutil.disk_usage(place).free
    if free < needed.least:  # only then, as many files take long to count
        files = [file.stat() for folder in own for file in Path(folder).rglob("*") if file.is_file()]
        free += sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values())
    told = f"disk: {needed}; {_gb(free)} free"
    if free < needed.least:
        raise UserError(
            f"{told} in {place!r}, which is too little; make room, choose another --output, or lower "
            "sweep.concurrency or model.layers"
        )
    if free < needed.most:
        told += ": IT MAY BECOME FULL, which ends the sweep until there is room; --sweep.concurrency saves most"
    return told


class SelectableWeights:
    """Deletes the weights that no NRG weighting can select any more, while the sweep runs.

    Args:
        folder: of a trial, by its identifier.
    """

    def __init__(self, schedule: Schedule, folder: Callable[[str], str]) -> None:
        self._schedule, self._folder = schedule, folder
        self._fronts: dict[str, list[Configuration]] = {}

    def trial_ended(self, spec: TrialSpec) -> None:
        """To be called when a trial is on record as ended."""
        mine = self._schedule.configuration(spec)
        if any(record.status == "failed" for record in mine.records):
            self._drop(mine)  # it will never be complete
        front = self._fronts.get(mine.method)
        others = self._schedule.configurations(mine.method) if front is None else front
        tried = {configuration.index: configuration for configuration in [*others, mine] if configuration.complete}
        front = selectable(tried[index] for index in sorted(tried))
        self._fronts[mine.method] = front
        for index in {*tried} - {configuration.index for configuration in front}:
            self._drop(tried[index])

    def _drop(self, configuration: Configuration) -> None:
        for record in configuration.records:
            if record.status in ("completed", "failed"):
                _drop(self._folder(record.spec.trial_id), keep_best=False)


def drop_unselected_weights(
    configs: Iterable[Configuration], folder: Callable[[str], str], *, keep_all: bool = False
) -> None:
    """Delete the last checkpoints of all trials, and the best weights that no NRG weighting can select.

    Args:
        folder: of a trial, by its identifier.
        keep_all: whether best weights stay anyhow.
    """
    by_method = defaultdict(list)
    for configuration in sorted(configs, key=attrgetter("index")):
        by_method[configuration.method].append(configuration)
    for of_method in by_method.values():
        kept = {configuration.index for configuration in (of_method if keep_all else selectable(of_method))}
        for configuration in of_method:
            for record in configuration.records:
                _drop(folder(record.spec.trial_id), keep_best=configuration.index in kept)


def _drop(trial: str, *, keep_best: bool) -> None:
    with suppress(OSError):  # they take room, and no more
        drop_weights(CheckpointStore(trial), keep_best=keep_best)


def _gb(size: int) -> str:
    return f"{size / _GB:.1f} GB" if size >= _GB / 10 else f"{size / 1e6:.0f} MB"
