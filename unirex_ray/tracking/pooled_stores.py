"""Several run stores and archives read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unirex_ray.errors import UserError
from unirex_ray.tracking.archive import ArchiveStore, without_places
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import Evaluation
from unirex_ray.tracking.store import SweepRecord


class PooledStores:
    """Reads sweeps and evaluations from several stores; scores are written where the run was read.

    Args:
        archives: that are read as well; what lies in both is read from its runs.
    """

    def __init__(self, uris: Sequence[str], archives: Sequence[ArchiveStore] = ()) -> None:
        stores = [MlflowStore(uri) for uri in dict.fromkeys(uris)]
        self._stores: list[MlflowStore | ArchiveStore] = [*stores, *archives]
        self._by_run: dict[str, MlflowStore | ArchiveStore] = {}

    @property
    def uri(self) -> str:
        """For people."""
        return ", ".join(store.uri for store in self._stores)

    def uri_of(self, sweep: SweepRecord) -> str:
        """Of the store that a sweep was read from."""
        return self._by_run[sweep.run_id].uri

    def is_archived(self, sweep: SweepRecord) -> bool:
        """Whether a sweep was read from an archive, so that nothing is written to its runs."""
        return isinstance(self._by_run[sweep.run_id], ArchiveStore)

    def sweeps(self, experiment: str) -> list[SweepRecord]:
        """See `RunStore`; store by store. A sweep that lies in several, as a copy of an output does, comes once.

        Raises:
            UserError: where a sweep was continued in one of them.
        """
        sweeps: dict[str, SweepRecord] = {}
        for store in self._stores:
            for sweep in store.sweeps(experiment):
                first = sweeps.setdefault(sweep.sweep_id, sweep)
                if _content(first) != _content(sweep):
                    raise UserError(
                        f"the sweep {sweep.sweep_id} lies at {self.uri_of(first)} and, with other trials, at "
                        f"{store.uri}: one is a copy that was continued; name only the one that you mean"
                    )
                if first is sweep:
                    runs = (sweep.run_id, *(trial.run_id for trial in sweep.trials if trial.run_id is not None))
                    self._by_run |= dict.fromkeys(runs, store)
        return list(sweeps.values())

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """See `RunStore`."""
        return self._by_run[run_id].artifact(run_id, name)

    def evaluations(self, trained_on: str) -> list[Evaluation]:
        """See `RunStore`; store by store, archives first, as the later of two counts. Equal ones come once."""
        archives_first = sorted(self._stores, key=lambda store: isinstance(store, MlflowStore))
        found: list[Evaluation] = []
        for store in archives_first:
            found += [evaluation for evaluation in store.evaluations(trained_on) if evaluation not in found]
        return found

    def describe(self, run_id: str, text: str) -> None:
        """See `RunStore`; not for archived sweeps."""
        self._writable(run_id).describe(run_id, text)

    def log_files(self, run_id: str, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """See `RunStore`; not for archived sweeps."""
        self._writable(run_id).log_files(run_id, files, folder)

    def log_scores(self, run_id: str, scores: Mapping[str, float]) -> None:
        """See `RunStore`; those of archived trials are left out."""
        if not isinstance(self._by_run[run_id], ArchiveStore):
            self._writable(run_id).log_scores(run_id, scores)

    def _writable(self, run_id: str) -> MlflowStore:
        store = self._by_run[run_id]
        assert not isinstance(store, ArchiveStore), run_id
        return store


def _content(sweep: SweepRecord) -> object:
    return without_places(sweep.settings), [(trial.spec, trial.status) for trial in sweep.trials]
