"""How a sweep is recorded: in its journal at once, in MLflow as soon as that answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unirex_ray.config import Config, to_yaml
from unirex_ray.errors import StoppedError, StoreAwayError, UserError
from unirex_ray.sweep.driver import ARTIFACTS, settings_read
from unirex_ray.sweep.folder import SweepFolder
from unirex_ray.tracking.delivery import Delivery
from unirex_ray.tracking.journal import JOURNAL, Journal
from unirex_ray.tracking.journaled_sweep import JournaledSweep, SweepBegun, beginning_of
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialSpec, TrialStatus
from unirex_ray.tracking.store import (
    RunStore,
    SweepStatus,
    database_file,
    own_database,
    recorded_uri,
    resolve_tracking_uri,
)


def open_journal(output: Path, sweep_id: str | None) -> Journal:
    """The journal of a sweep's output.

    Args:
        sweep_id: of the sweep that the output holds; None where it holds none.

    Raises:
        UserError: for a damaged journal, and one of another sweep.
    """
    journal = Journal(output / JOURNAL)
    begun = beginning_of(journal.events)
    if begun is not None and begun.sweep_id != sweep_id:
        raise UserError(
            f"{str(output / JOURNAL)!r} is the journal of another sweep, {begun.sweep_id}: choose another --output, "
            "or move it away"
        )
    return journal


class Recording:
    """A sweep's journal and its delivery, which ends with the block.

    Args:
        output: of the sweep.
        begun: what it is opened with.
        open_store: connects to the run store.
        say: tells the user that it is away, or is back.

    Attributes:
        sweep: what is to be recorded goes there.
        not_delivered: events that the store has not taken, when the block has ended.
        page: where a browser finds the trials, behind the address of a server; empty where that is not known.
    """

    def __init__(
        self,
        output: Path,
        journal: Journal,
        begun: SweepBegun,
        open_store: Callable[[], RunStore],
        say: Callable[[str], None],
    ) -> None:
        self._say, self._is_new = say, not journal.events
        if journal.events:
            begun = replace(begun, at=journal.events[0]["at"])
        self._delivery = Delivery(output, journal.events, lambda: begun.open_in(open_store()), say)
        self.sweep = JournaledSweep(journal, begun, output, self._delivery.put)
        self.not_delivered = 0

    def begin(self) -> None:
        """Open the sweep; one that is continued may find the store away.

        Raises:
            UserError: where the store is unusable; where it is away and the sweep is new.
        """
        try:
            self._delivery.connect()
        except StoreAwayError as error:
            if self._is_new:
                raise
            self._say(f"{error}; the sweep goes on, and its runs follow")
        self.sweep.begin()

    def connect(self) -> None:
        """Open the sweep in the store.

        Raises:
            UserError: where that is unusable, or away.
        """
        self._delivery.connect()

    def __enter__(self) -> Self:
        self._delivery.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close(in_haste=kind is not None)
        except StoppedError:  # whoever does not want to wait for MLflow has a sweep nevertheless
            self.close(in_haste=True)

    def close(self, *, in_haste: bool) -> None:
        """Wait for the store, for a while, and end the delivery."""
        self.not_delivered = self._delivery.close(in_haste=in_haste)

    @property
    def page(self) -> str:
        """See the class."""
        return self._delivery.page

    @property
    def problem(self) -> str:
        """Why the store did not take an event at the last try."""
        return self._delivery.problem


def take_over(
    folder: SweepFolder, begun: SweepBegun, store: RunStore, resolve: Callable[[TrialSpec], Config]
) -> Journal:
    """Write the journal of a sweep that has none, from what a store and its folder have of it.

    Args:
        resolve: a trial's whole configuration.
    """
    output = folder.path
    partial = output / f"{JOURNAL}.partial"
    partial.unlink(missing_ok=True)
    sweep = JournaledSweep(Journal(partial), begun, output, pass_on=lambda event: None)
    sweep.begin()
    for record in begun.open_in(store).trials(history=True):
        trial_id = sweep.open_trial(record.spec, params=settings_read(resolve(record.spec)), tags=record.tags)
        for epoch, metrics in record.history.items():
            sweep.log_epoch(trial_id, epoch, metrics)
        if record.status != "running":
            sweep.log_text(trial_id, "config.yaml", to_yaml(resolve(record.spec)))
            results = [Path(folder.results(trial_id)) / name for name in ARTIFACTS]
            for file in filter(Path.exists, results):
                sweep.log_file(trial_id, file)
            # Scores of comparisons depend on other runs.
            sweep.finish_trial(trial_id, record.status, metrics=replace(record.metrics, nrg={}), reason=record.reason)
    partial.replace(output / JOURNAL)
    return Journal(output / JOURNAL)


@dataclass(frozen=True, kw_only=True)
class Synced:
    """A sweep of which MLflow knows everything.

    Attributes:
        config: with the sweep's corpus, and `tracking.uri` where it is not the output's own database.
        statuses: how many trials ended in which way; those that a killed driver left are `running`.
    """

    sweep_id: str
    uri: str
    config: Config
    statuses: Mapping[TrialStatus, int]
    status: SweepStatus

    def told(self) -> str:
        """In a line."""
        of = ", ".join(f"{count} {status}" for status, count in self.statuses.items())
        told = f"{self.uri} has sweep {self.sweep_id} ({self.status}): {of or 'no trials'}"
        return told if self.status == "completed" else f"{told}; the command that began it goes on with --resume"


def sync(config: Config, say: Callable[[str], None], open_store: Callable[[str], RunStore] = MlflowStore) -> Synced:
    """Bring MLflow up to date with the sweep in `output`, also where nothing of it is left there.

    Args:
        config: `tracking.uri` is by default where the sweep was recorded.

    Raises:
        UserError: where there is no sweep, or it is running; where MLflow does not answer.
    """
    if not Path(config.output).is_dir():
        raise UserError(f"no folder {config.output!r}; --output names the output of a sweep")
    with closing(SweepFolder(config.output)) as folder:
        stored = folder.find(resume=True)
        if stored is None:
            raise UserError(f"{config.output!r} holds no sweep; --output names the output of a sweep")
        uri = config.tracking.uri or _recorded_at(stored, folder.path) or resolve_tracking_uri(config)
        journal = open_journal(folder.path, stored["sweep_id"])
        begun = beginning_of(journal.events)
        if begun is None:
            raise UserError(
                f"{config.output!r} holds no {JOURNAL}: what its sweep did stands nowhere but in its MLflow database"
            )
        recording = Recording(folder.path, journal, begun, lambda: open_store(uri), say)
        recording.connect()
        with recording:
            if recording.sweep.status == "running":
                recording.sweep.fail("its driver was killed")
        if recording.not_delivered:
            raise UserError(f"MLflow at {uri} still lacks {recording.not_delivered} events: {recording.problem}")
        own = uri == own_database(config)
        return Synced(
            sweep_id=begun.sweep_id,
            uri=uri,
            config=config.changed({"data.name": begun.experiment, "tracking.uri": None if own else uri}),
            statuses=Counter(record.status for record in recording.sweep.trials()),
            status=recording.sweep.status,
        )


def _recorded_at(stored: Mapping[str, Any], output: Path) -> str | None:
    """Where a sweep was recorded last: on a server, or in a database that is still there."""
    uri = stored.get("tracking_uri")
    return uri if uri and database_file(uri) is None else recorded_uri(uri, output)
