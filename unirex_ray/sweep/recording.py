"""How a sweep is recorded: in its journal at once, in MLflow as soon as that answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unirex_ray.config import Config
from unirex_ray.errors import StoreAwayError, UserError
from unirex_ray.sweep.folder import SweepFolder
from unirex_ray.tracking.delivery import Delivery
from unirex_ray.tracking.journal import JOURNAL, Journal
from unirex_ray.tracking.journaled_sweep import JournaledSweep, SweepBegun, beginning_of
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialSpec, TrialStatus
from unirex_ray.tracking.store import OpenSweep, RunStore, SweepStatus, own_database, recorded_uri, resolve_tracking_uri

_PATIENCE_SECONDS, _HASTE_SECONDS = 60.0, 2.0
"""For which a store may be away at the end of a sweep, and of one that is stopped: whoever stops it may not wait."""


class Recording:
    """A sweep's journal and its delivery, which ends with the block.

    Args:
        output: of the sweep.
        begun: what it is opened with; None: what its journal says.
        open_store: connects to the run store.
        say: tells the user that it is away, or is back.

    Attributes:
        begun: what the sweep is opened with.
        is_new: whether the journal was empty.
        sweep: what is to be recorded goes there.
        not_delivered: events that the store has not taken, when the block has ended.

    Raises:
        UserError: for a damaged journal, and one that is empty where `begun` is None.
    """

    def __init__(
        self,
        output: Path,
        begun: SweepBegun | None,
        open_store: Callable[[], RunStore],
        say: Callable[[str], None],
    ) -> None:
        journal = Journal(output / JOURNAL)
        begun = begun or beginning_of(journal.events)
        if begun is None:
            raise UserError(
                f"{str(output)!r} holds no {JOURNAL}: what its sweep did stands in no file but its MLflow database"
            )
        self.begun, self._open_store, self._say = begun, open_store, say
        self._delivery = Delivery(output, journal.events, self._open, say)
        self.is_new = not journal.events
        self.sweep = JournaledSweep(journal, begun, output, self._delivery.put)
        self.not_delivered = 0

    def _open(self) -> OpenSweep:
        return self.begun.open_in(self._open_store())

    def begin(self, params: Callable[[TrialSpec], Mapping[str, Any]]) -> None:
        """Open the sweep; one that is continued may find the store away.

        Args:
            params: of the run of a trial that a store has from before sweeps had journals.

        Raises:
            UserError: where the store is unusable; where it is away and the sweep is new.
        """
        try:
            recorded = self._delivery.connect()
        except StoreAwayError as error:
            if self.is_new:
                raise
            self._say(f"{error}; the sweep goes on, and its runs follow")
            recorded = None
        earlier = recorded.trials(history=True) if recorded is not None and self.is_new else []
        self.sweep.begin()
        self.sweep.take_over(earlier, params)

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
        self.close(in_haste=kind is not None)

    def close(self, *, in_haste: bool) -> None:
        """Wait for the store, for a while, and end the delivery."""
        self.not_delivered = self._delivery.close(_HASTE_SECONDS if in_haste else _PATIENCE_SECONDS)


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
        return f"{self.uri} has sweep {self.sweep_id} ({self.status}): {of or 'no trials'}"


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
        known = recorded_uri(stored.get("tracking_uri"), folder.path)
        uri = config.tracking.uri or known or resolve_tracking_uri(config)
        recording = Recording(folder.path, None, lambda: open_store(uri), say)
        recording.connect()
        with recording:
            if recording.sweep.status == "running":
                recording.sweep.fail("its driver was killed")
        if recording.not_delivered:
            raise UserError(f"MLflow at {uri} still lacks {recording.not_delivered} events: try again when it answers")
        own = uri == own_database(config)
        return Synced(
            sweep_id=recording.begun.sweep_id,
            uri=uri,
            config=config.changed({"data.name": recording.begun.experiment, "tracking.uri": None if own else uri}),
            statuses=Counter(record.status for record in recording.sweep.trials()),
            status=recording.sweep.status,
        )
