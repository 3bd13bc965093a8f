"""A run store without a database, for tests of whatever records or reads runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import Evaluation, StudyRecord, TrialRecord, TrialSpec, TrialStatus
from unirex_ray.tracking.store import (
    DATA_DIGEST,
    PROTOCOL,
    PROTOCOL_LINE,
    REASON,
    SEEDS,
    SELECTED,
    STATUS,
    SWEEP_ID,
    TRIAL_ID,
    SweepRecord,
    sort_key,
    sweep_settings,
    verdict_tags,
)

Backend = dict[str, dict[str, Any]]


class MemorySweep:
    """An `OpenSweep` of a `MemoryStore`."""

    page = ""

    def __init__(self, runs: Backend, run_id: str, sweep_id: str) -> None:
        self.runs = runs
        self.run_id = run_id
        self.sweep_id = sweep_id

    def as_of(self, at: float) -> None:
        pass

    def open_trial(self, spec: TrialSpec, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        run_id = self._run_of(spec.trial_id)
        names = ("params", "tags", "metrics", "history", "stages", "artifacts")
        run = self.runs.setdefault(run_id, {"parent": self.run_id, **{name: {} for name in names}})
        run["spec"] = spec
        run["params"] = {**params, **run["params"]}
        run["tags"] |= {**tags, SWEEP_ID: self.sweep_id, TRIAL_ID: spec.trial_id, STATUS: "running"}
        run["tags"].pop(REASON, None)
        return run_id

    def log_selection(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        for trial_id, of_trial in scores.items():
            self.runs[self._run_of(trial_id)]["metrics"] |= {f"{SELECTED}/{key}": s for key, s in of_trial.items()}

    def log_epoch(
        self,
        trial_id: str,
        epoch: int,
        metrics: TrialMetrics,
        *,
        stage: str = "",
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        run = self.runs[self._run_of(trial_id)]
        run["tags"] |= tags
        (run["stages"].setdefault(stage, {}) if stage else run["history"]).setdefault(epoch, metrics)

    def finish_trial(
        self, trial_id: str, status: TrialStatus, *, metrics: TrialMetrics, reason: str | None = None
    ) -> None:
        run = self.runs[self._run_of(trial_id)]
        run["metrics"] |= metrics.flat()
        run["tags"] |= {**verdict_tags(metrics), STATUS: status, **({REASON: reason} if reason else {})}

    def log_text(self, trial_id: str | None, path: str, text: str) -> None:
        self.runs[self._run_of(trial_id)]["artifacts"][path] = text

    def log_file(self, trial_id: str | None, file: Path) -> None:
        self.runs[self._run_of(trial_id)]["artifacts"][file.name] = file.read_bytes()

    def trials(self, *, history: bool = False) -> list[TrialRecord]:
        return trial_records(self.runs, self.run_id, history=history)

    def has_trials(self, count: int) -> bool:
        return len(self.trials()) >= count

    def finish(self) -> None:
        self.runs[self.run_id]["tags"] |= {STATUS: "completed"}

    def fail(self, reason: str) -> None:
        self.runs[self.run_id]["tags"] |= {STATUS: "failed", REASON: reason}

    def _run_of(self, trial_id: str | None) -> str:
        return self.run_id if trial_id is None else f"{self.run_id}/{trial_id}"


class MemoryStore:
    """Stores that share a backend see the same runs, as processes share a server."""

    def __init__(self, backend: Backend | None = None) -> None:
        self.runs: Backend = {} if backend is None else backend

    def open_sweep(
        self,
        *,
        experiment: str,
        sweep_id: str,
        seeds: Sequence[int],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        at: float | None = None,
    ) -> MemorySweep:
        run_id = f"{experiment}/{sweep_id}"
        run = self.runs.setdefault(run_id, {"experiment": experiment, "params": {}, "tags": {}, "metrics": {}})
        run["params"] = {**params, **run["params"]}
        run["tags"] |= {**tags, SWEEP_ID: sweep_id, SEEDS: json.dumps(list(seeds)), STATUS: "running"}
        run.setdefault("artifacts", {})
        for child in self.runs.values():
            if child.get("parent") == run_id:
                child["tags"] |= {key: tags[key] for key in (PROTOCOL, PROTOCOL_LINE) if key in tags}
        return MemorySweep(self.runs, run_id, sweep_id)

    def sweeps(self, experiment: str) -> list[SweepRecord]:
        return [
            SweepRecord(
                sweep_id=run["tags"][SWEEP_ID],
                status=run["tags"][STATUS],
                seeds=tuple(json.loads(run["tags"][SEEDS])),
                trials=tuple(trial_records(self.runs, run_id)),
                run_id=run_id,
                tags=dict(run["tags"]),
                settings=sweep_settings(run["params"], run["tags"]),
            )
            for run_id, run in self.runs.items()
            if run.get("experiment") == experiment
        ]

    def log_evaluation(
        self, evaluation: Evaluation, *, params: Mapping[str, Any], tags: Mapping[str, str], files: Mapping[str, bytes]
    ) -> str:
        place = f"{evaluation.corpus} {evaluation.digest} {evaluation.split} {sorted(evaluation.settings.items())}"
        name = f"{evaluation.trial_id} on {place}"
        self.runs.pop(name, None)
        self.runs[name] = {
            "evaluation": evaluation,
            "params": dict(params),
            "tags": dict(tags),
            "artifacts": dict(files),
        }
        return name

    def log_study(
        self, study: StudyRecord, *, params: Mapping[str, Any], tags: Mapping[str, str], files: Mapping[str, bytes]
    ) -> str:
        name = f"study {study.corpus} {study.study} {study.answers}"
        self.runs[name] = {"params": dict(params), "tags": dict(tags), "artifacts": dict(files)}
        self.runs[name]["metrics"] = dict(study.metrics)
        for model in study.models:
            for run in self.runs.values():
                is_trial = "spec" in run and run["spec"].trial_id == model.trial_id
                if is_trial and run["tags"].get(DATA_DIGEST) == model.trained_digest:
                    run["metrics"] |= model.metrics
        return name

    def artifact(self, run_id: str, name: str) -> bytes | None:
        found: bytes | None = self.runs[run_id]["artifacts"].get(name)
        return found

    def evaluations(self, trained_on: str) -> list[Evaluation]:
        evaluations = [run["evaluation"] for run in self.runs.values() if "evaluation" in run]
        return [evaluation for evaluation in evaluations if evaluation.trained_on == trained_on]

    def describe(self, run_id: str, text: str) -> None:
        self.runs[run_id]["description"] = text

    def log_files(self, run_id: str, files: Mapping[str, bytes], folder: str | None = None) -> None:
        prefix = f"{folder}/" if folder else ""
        self.runs[run_id]["artifacts"] |= {prefix + name: data for name, data in files.items()}

    def log_scores(self, run_id: str, scores: Mapping[str, float]) -> None:
        self.runs[run_id]["metrics"] |= TrialMetrics(nrg=scores).flat()


def trial_records(runs: Backend, sweep_run: str, *, history: bool = False) -> list[TrialRecord]:
    """The trials of a sweep's run, as a store returns them."""

    def build(run_id: str, run: dict[str, Any]) -> TrialRecord:
        status = run["tags"][STATUS]
        return TrialRecord(
            spec=run["spec"],
            status=status,
            metrics=TrialMetrics.from_flat(run["metrics"] if status == "completed" else {}),
            history=dict(run["history"]) if history else {},
            reason=run["tags"].get(REASON),
            run_id=run_id,
            tags=dict(run["tags"]),
        )

    children = [build(run_id, run) for run_id, run in runs.items() if run.get("parent") == sweep_run]
    return sorted(children, key=sort_key)
