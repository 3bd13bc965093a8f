"""What a comparison reads of sweeps, in one file: settings, metrics and results by instance; no text, no weights.

It is a ZIP of `archive.json` and `results/TRIAL.parquet` (see `metrics.instance_file`), for people to keep and publish.
Of places it names none but an encoder's folder, and instances go by the identifiers that their corpus gives them.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unirex_ray.errors import UserError, first_line
from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import Evaluation, TrialRecord, TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST, GIT_VERSION, NRG_WEIGHTS, PLANNED, SweepRecord

_VERSION = 1
_CONTENTS = "archive.json"
_TAGS = (DATA_DIGEST, GIT_VERSION, NRG_WEIGHTS, PLANNED)
"""What comparisons read; others may tell of machines and people."""
_PLACES = ("output", "data.source", "data.cache", "sweep.storage", "tracking.", "train.resources")
"""Beginnings of settings that say where files lie, or name machines."""
_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
)
"""What reading a damaged ZIP, or one of something else, raises."""
_MOMENT = (1980, 1, 1, 0, 0, 0)
"""Of every member, so that the same content is the same file."""


def to_archive(
    sweeps: Mapping[str, Sequence[SweepRecord]], evaluations: Sequence[Evaluation], results: Mapping[str, bytes]
) -> bytes:
    """The content of an archive.

    Args:
        sweeps: by corpus.
        results: the file of a trial's results by instance, by the trial's identifier.
    """
    contents = {
        "version": _VERSION,
        "sweeps": {corpus: [_sweep_tree(sweep) for sweep in of_corpus] for corpus, of_corpus in sweeps.items()},
        "evaluations": [{**asdict(one), "metrics": one.metrics.flat()} for one in evaluations],
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        members = {f"results/{trial_id}.parquet": data for trial_id, data in results.items()}
        for name, data in {_CONTENTS: json.dumps(contents, sort_keys=True).encode(), **members}.items():
            file.writestr(zipfile.ZipInfo(name, _MOMENT), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


class ArchiveStore:
    """Sweeps and evaluations of an archive, read as from a run store; nothing is written to it.

    Raises:
        UserError: if the file is missing, damaged or no archive.
    """

    def __init__(self, file: str | Path) -> None:
        self.uri = str(file)
        try:
            with zipfile.ZipFile(file) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            contents = json.loads(members[_CONTENTS])
            if contents["version"] != _VERSION:
                raise UserError(
                    f"archive {self.uri!r} is of version {contents['version']}, but this program reads {_VERSION}; "
                    "install the version of unirex_ray that wrote it"
                )
            self._sweeps = {
                corpus: [_sweep_record(tree) for tree in of_corpus] for corpus, of_corpus in contents["sweeps"].items()
            }
            self._evaluations = [
                Evaluation(**{**tree, "metrics": TrialMetrics.from_flat(tree["metrics"])})
                for tree in contents["evaluations"]
            ]
        except FileNotFoundError:
            raise UserError(f"archive {self.uri!r} does not exist; compare --write-archive writes one") from None
        except _DAMAGE as error:
            raise UserError(f"{self.uri!r} is no archive of sweeps, or damaged: {first_line(error)}") from None
        self._results = {name.removeprefix("results/").removesuffix(".parquet"): d for name, d in members.items()}

    @property
    def corpora(self) -> tuple[str, ...]:
        """Those that it has sweeps on."""
        return tuple(self._sweeps)

    def sweeps(self, experiment: str) -> list[SweepRecord]:
        """See `RunStore`."""
        return list(self._sweeps.get(experiment, ()))

    def evaluations(self, trained_on: str) -> list[Evaluation]:
        """See `RunStore`."""
        return [evaluation for evaluation in self._evaluations if evaluation.trained_on == trained_on]

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """See `RunStore`: a run's results by instance, where they were kept, and nothing else."""
        return self._results.get(run_id) if name == INSTANCES else None


def _sweep_tree(sweep: SweepRecord) -> dict[str, Any]:
    trials = [
        {
            # A reason is an error's text, and may hold anything.
            **asdict(replace(trial, metrics=TrialMetrics(), history={}, reason=None, run_id=trial.spec.trial_id)),
            "metrics": replace(trial.metrics, nrg={}).flat(),
            "tags": _kept(trial.tags),
        }
        for trial in sweep.trials
    ]
    settings = without_places(sweep.settings)
    about = asdict(replace(sweep, trials=(), run_id=sweep.sweep_id))
    return {**about, "trials": trials, "tags": _kept(sweep.tags), "settings": settings}


def without_places(settings: Mapping[str, str]) -> dict[str, str]:
    """A sweep's settings without those that say where files lie, or name machines."""
    return {key: value for key, value in settings.items() if not key.startswith(_PLACES)}


def _kept(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: tags[key] for key in _TAGS if key in tags}


def _sweep_record(tree: Mapping[str, Any]) -> SweepRecord:
    trials = tuple(_trial_record(trial) for trial in tree["trials"])
    return SweepRecord(**{**tree, "seeds": tuple(tree["seeds"]), "trials": trials})


def _trial_record(tree: Mapping[str, Any]) -> TrialRecord:
    spec, metrics = TrialSpec(**tree["spec"]), TrialMetrics.from_flat(tree["metrics"])
    return TrialRecord(**{**tree, "spec": spec, "metrics": metrics})
