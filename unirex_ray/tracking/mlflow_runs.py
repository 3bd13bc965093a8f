"""MLflow's runs, as they come: created, continued, written in batches, and searched page by page."""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.entities import PagedList

from unirex_ray.errors import UserError, first_line
from unirex_ray.tracking.mlflow_connect import Experiment
from unirex_ray.tracking.store import DATA_DIGEST, EVALUATION, REASON, STUDY

_PAGE = 1000
_BATCH_METRICS, _BATCH_ENTRIES = 900, 90
_LONGEST_PARAM, _LONGEST_TAG = 6000, 5000


class MlflowRuns:
    """The runs of an MLflow client.

    Args:
        clock: says when what is written happened, in seconds since 1970.
    """

    def __init__(self, client: MlflowClient, clock: Callable[[], float] = time.time) -> None:
        self.client, self._clock = client, clock
        self._files: dict[str, Any] = {}

    def at(self, clock: Callable[[], float]) -> MlflowRuns:
        """The same runs, written by another clock."""
        return MlflowRuns(self.client, clock)

    def end(self, run_id: str, status: str) -> None:
        """Set a run's own status, and when it ended."""
        self.client.set_terminated(run_id, status, end_time=self._now())

    def _now(self) -> int:
        """As MLflow counts, in milliseconds."""
        return round(1000 * self._clock())

    def create(self, experiment: Experiment, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> Run:
        """Create a run that is running, with its tags, params and data set."""
        # Tags are part of the creation, so that a run is found again even if the process dies right here.
        short = {key: value[:_LONGEST_TAG] for key, value in tags.items()}
        run = self.client.create_run(experiment.id, start_time=self._now(), tags=short, run_name=name)
        return self._complete(experiment, run, params, tags)

    def reopen(self, experiment: Experiment, run: Run, params: Mapping[str, Any], tags: Mapping[str, str]) -> Run:
        """Set a run running again; tags are overwritten, and only params that it lacks are added."""
        self.log(run.info.run_id, tags=tags)
        if REASON in run.data.tags:
            self.client.delete_tag(run.info.run_id, REASON)
        if run.info.status != "RUNNING":
            self.client.update_run(run.info.run_id, status="RUNNING")
        return self._complete(experiment, run, params, tags)

    def log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Write to a run in batches that a server accepts; tags are cut to 5000 characters."""
        now = self._now()
        for batch in _batches(
            [Metric(key, value, now, step) for key, value in (metrics or {}).items()], _BATCH_METRICS
        ):
            self.client.log_batch(run_id, metrics=batch)
        for batch in _batches([Param(key, value) for key, value in (params or {}).items()], _BATCH_ENTRIES):
            self.client.log_batch(run_id, params=batch)
        for batch in _batches([RunTag(k, v[:_LONGEST_TAG]) for k, v in (tags or {}).items()], _BATCH_ENTRIES):
            self.client.log_batch(run_id, tags=batch)

    def log_bytes(self, run_id: str, name: str, data: bytes, folder: str | None = None) -> None:
        """Keep a file of this content as an artifact of a run.

        Raises:
            UserError: where the run's artifacts cannot be written, as in an output that has moved.
        """
        with tempfile.TemporaryDirectory() as local:
            file = Path(local) / name
            file.write_bytes(data)
            self.log_file(run_id, file, folder)

    def log_file(self, run_id: str, file: Path, folder: str | None = None) -> None:
        """Keep a file as an artifact of a run.

        Raises:
            UserError: as `log_bytes`.
        """
        with _artifacts(run_id, file.name):
            self._files_of(run_id).log_artifact(str(file), folder)

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """The content of a run's artifact; None where it has none of this name.

        Raises:
            UserError: where the run's artifacts cannot be read.
        """
        with _artifacts(run_id, name), tempfile.TemporaryDirectory() as folder:
            files = self._files_of(run_id)
            if name not in (entry.path for entry in files.list_artifacts()):
                return None
            return Path(files.download_artifacts(name, folder)).read_bytes()

    def _files_of(self, run_id: str) -> Any:
        """What reads and writes a run's artifacts."""
        # MLflow's client remembers them for the process: those of a run's copy in another database would be these.
        if run_id not in self._files:
            if len(self._files) >= _PAGE:
                self._files.clear()
            address = self.client.get_run(run_id).info.artifact_uri
            self._files[run_id] = get_artifact_repository(address, tracking_uri=self.client.tracking_uri)
        return self._files[run_id]

    def search(self, query: str, *, experiments: Sequence[str] | None = None) -> list[Run]:
        """The runs that match a query, oldest first; of all experiments where none are named by id."""
        if experiments is None:
            all_experiments = _pages(lambda token: self.client.search_experiments(max_results=_PAGE, page_token=token))
            experiments = [experiment.experiment_id for experiment in all_experiments]
        return list(self.each(query, experiments))

    def each(self, query: str, experiments: Sequence[str]) -> Iterator[Run]:
        """The runs that match a query, oldest first, a page in memory at a time: each takes some 70 kB."""
        return _pages(
            lambda token: self.client.search_runs(
                list(experiments), query, max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
            )
        )

    def count_is(self, count: int, query: str, *, experiment: str) -> bool:
        """Whether so many runs match a query, without loading them all; at least one."""
        page = self._behind(count - 1, query, experiment)
        return len(page) == 1 and not page.token

    def count_reaches(self, count: int, query: str, *, experiment: str) -> bool:
        """Whether so many runs match a query, or more."""
        return count == 0 or len(self._behind(count - 1, query, experiment)) > 0

    def _behind(self, offset: int, query: str, experiment: str) -> PagedList[Any]:
        """Two runs at most behind the first ones."""
        # A page token is an offset, in a form that MLflow does not promise: whatever else comes back reads as none.
        token = base64.b64encode(json.dumps({"offset": offset}).encode()).decode() if offset else None
        try:
            return self.client.search_runs([experiment], query, max_results=2, page_token=token)
        except MlflowException:
            return PagedList([], None)

    def _complete(self, experiment: Experiment, run: Run, params: Mapping[str, Any], tags: Mapping[str, str]) -> Run:
        """Add what a killed process may have left out. MLflow lets no parameter change."""
        missing = {key: _text(value) for key, value in params.items() if key not in run.data.params}
        self.log(run.info.run_id, params=missing)
        if DATA_DIGEST in tags and not (run.inputs and run.inputs.dataset_inputs):
            corpus = experiment.corpus
            dataset = Dataset(name=corpus, digest=tags[DATA_DIGEST], source_type="unirex_ray", source=corpus)
            context = [
                InputTag("mlflow.data.context", "evaluation" if {EVALUATION, STUDY} & tags.keys() else "training")
            ]
            self.client.log_inputs(run.info.run_id, [DatasetInput(dataset, context)])
        return run


@contextmanager
def _artifacts(run_id: str, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ImportError, MlflowException) as error:
        raise UserError(f"artifact {name} of run {run_id} is out of reach: {first_line(error)}") from None


def _pages(search: Callable[[str | None], PagedList[Any]]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _batches(entries: list[Any], size: int) -> Iterable[list[Any]]:
    return (entries[i : i + size] for i in range(0, len(entries), size))


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_PARAM else text[: _LONGEST_PARAM - 1] + "…"
