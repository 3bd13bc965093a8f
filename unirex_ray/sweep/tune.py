"""The driver as Ray Tune's searcher, scheduler and callback."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher as TuneSearcher
from ray.tune.trainable.function_trainable import wrap_function

from unirex_ray.data.schema import Corpus
from unirex_ray.distributed.cluster import (
    PATIENCE_SECONDS,
    Placement,
    Resources,
    cluster_answers,
    free_places_of_the_dead,
    place_waited_for,
    selector_of,
)
from unirex_ray.distributed.job import MESSAGE, TrainFunction, TrialJob, reason_of
from unirex_ray.distributed.train_runtime import GroupPlan, close_group, run_on_workers
from unirex_ray.distributed.tune_runtime import run_in_actor
from unirex_ray.errors import StoppedError
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.ends import Stop, cluster_watched, signals_noted
from unirex_ray.sweep.schedule import Signal

_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
"""Turn off Tune's own output, files and signal handlers: the sweep has its own."""

# Tune hands AWS keys to its trials, which need none, by a way that writes them into Ray's logs.
_propagated: set[str] = getattr(class_cache, "ENV_VARS_TO_PROPAGATE", set())
class_cache.ENV_VARS_TO_PROPAGATE = {name for name in _propagated if not name.startswith("AWS_")}

_FREE_SECONDS = 5.0

_MANY = str(10**6)
"""Pending trials that Tune allows: how many there are is the driver's to decide, as nodes come and go."""


def fit(
    driver: Driver,
    corpus: Corpus,
    train_function: TrainFunction,
    placement: Placement,
    *,
    name: str,
    scratch: str,
    max_failures: int,
    stop: Stop,
    on_loss: Callable[[StoppedError], None],
) -> None:
    """Run the driver's trials on the connected cluster until it has no more.

    Args:
        train_function: trains one trial; must be importable by the workers.
        name: of Tune's experiment.
        scratch: folder for Ray's own files, which are of no use afterwards.
        max_failures: restarts of a trial whose process was lost.
        stop: ends it before it is done.
        on_loss: called in another thread before this process ends with its cluster.

    Raises:
        StoppedError: for a signal, and what `stop` says.
    """
    # From here on: Tune asks the cluster long before its first round, and would wait a minute for one that is gone.
    with cluster_watched(cluster_answers, stop, on_loss):
        shared, selector = [ray.put(corpus)], selector_of(placement)
        if placement.worker is None:
            trainable = tune.with_parameters(run_in_actor, corpus=shared, train_function=train_function)
        else:
            plan = GroupPlan(
                corpus=shared,
                train_function=train_function,
                worker=dict(placement.worker),
                selector=selector,
                storage=scratch,
                max_failures=max_failures,
            )
            trainable = _closing(tune.with_parameters(run_on_workers, plan=plan))
        os.environ.update(_SETTINGS, TUNE_MAX_PENDING_TRIALS_PG=_MANY)
        tuner = tune.Tuner(
            tune.with_resources(trainable, place_on(selector, placement.trial)),
            tune_config=tune.TuneConfig(
                search_alg=TuneSearcherAdapter(driver, stop),
                scheduler=TuneSchedulerAdapter(driver, stop),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["job"].trial_id,
                # A trial that was stopped and goes on is another one to Tune.
                trial_dirname_creator=lambda trial: f"{trial.config['job'].trial_id}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=scratch,
                callbacks=[TuneCallbackAdapter(driver, stop, placement)],
                failure_config=tune.FailureConfig(max_failures=max_failures),
                verbose=0,
            ),
        )
        # Tune prints the traceback of a snapshot that a full disk does not take, and that nobody reads.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        with signals_noted(stop):
            tuner.fit()


def place_on(selector: Mapping[str, str], resources: Resources) -> tune.PlacementGroupFactory:
    """A place on a node with these labels."""
    labels = {"bundle_label_selector": [dict(selector)]} if selector else {}
    return tune.PlacementGroupFactory([dict(resources)], **labels)


def _closing(trial_function: Any) -> type:
    """A trial function's actor that closes its worker group when Tune has no more trials for it."""
    actor: Any = wrap_function(trial_function)

    class ClosingActor(actor):  # type: ignore[misc]
        def cleanup(self) -> None:
            super().cleanup()
            close_group()

    return ClosingActor


class _Unsaved:
    """Tune pickles its parts for a restore that is never used: a sweep is resumed from its run store."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TuneSearcherAdapter(_Unsaved, TuneSearcher):  # type: ignore[misc]
    """The driver as Tune's searcher."""

    def __init__(self, driver: Driver, stop: Stop) -> None:
        super().__init__()
        self._driver, self._stop = driver, stop
        self._ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune asks for a trial."""
        job: TrialJob | Signal = Signal.WAIT
        with self._stop.instead_of_disk_errors():
            job = self._driver.suggest()
        if job is Signal.WAIT:
            return None
        if isinstance(job, Signal):
            return str(TuneSearcher.FINISHED)
        self._ids[trial_id] = job.trial_id
        return {"job": job}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune is done with a trial; of one in error, `TuneCallbackAdapter` knows the reason."""
        if not error:
            with self._stop.instead_of_disk_errors():
                self._driver.on_exit(self._ids[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `_Unsaved`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `_Unsaved`."""


class TuneSchedulerAdapter(_Unsaved, FIFOScheduler):  # type: ignore[misc]
    """The driver as Tune's scheduler."""

    def __init__(self, driver: Driver, stop: Stop) -> None:
        super().__init__()
        self._driver, self._stop = driver, stop

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Tune received a report; the one that Tune adds itself when a trial returns has no message."""
        message, continues = result.get(MESSAGE), True
        if message is not None:
            with self._stop.instead_of_disk_errors():
                continues = self._driver.on_message(trial.config["job"].trial_id, message)
        return str(FIFOScheduler.CONTINUE if continues else FIFOScheduler.STOP)


class TuneCallbackAdapter(_Unsaved, TrialProgressCallback):  # type: ignore[misc]
    """The driver as Tune's callback, which checks `stop` in each round; replaces the one that prints."""

    def __init__(self, driver: Driver, stop: Stop, placement: Placement) -> None:
        super().__init__()
        self._driver, self._stop, self._placement = driver, stop, placement
        self._pending_since: dict[str, float] = {}
        self._frees_at = 0.0

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Stop where that is asked for, and say once of a trial that waits for a place for a minute what it waits for.

        Where trials have worker groups, the places of those that were lost are given back now and then.
        """
        self._stop.look_at_the_clock()
        self._stop.check()
        if self._placement.worker is not None and time.monotonic() >= self._frees_at:
            self._frees_at = time.monotonic() + _FREE_SECONDS
            free_places_of_the_dead()
        now, pending = time.monotonic(), {t.trial_id: t for t in trials if t.status == Trial.PENDING}
        since = self._pending_since
        self._pending_since = {name: since.get(name, now) for name in pending}
        for name, trial in pending.items():
            if now - self._pending_since[name] >= PATIENCE_SECONDS:
                self._pending_since[name] = math.inf
                place = "a node beside the head" if self._placement.spare_head else "a node"
                reason = place_waited_for(place, trial.placement_group_factory.required_resources)
                self._driver.on_wait(trial.config["job"].trial_id, reason)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Nothing to print."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Drop the message, which the driver has read, so that Tune keeps no copy."""
        result.pop(MESSAGE, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process was lost more often than allowed."""
        trial_id = trial.config["job"].trial_id
        error = trial.get_error()
        with self._stop.instead_of_disk_errors():
            self._driver.on_process_lost(trial_id, reason_of(error) if error else "its process was lost")
            self._driver.on_exit(trial_id)
