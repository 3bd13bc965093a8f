"""What a sweep leaves, to be held against what an undisturbed one leaves."""

import json
import re
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from functools import cached_property
from pathlib import Path

TRIALS = 12


class Remains:
    """What a sweep left in its home, and in a database of MLflow."""

    def __init__(self, home: Path, database: Path) -> None:
        self._home, self._out, self._database = home, home / "out", database
        self.summary = json.loads((self._out / "sweep.json").read_text())
        self.leaderboard = (self._out / "leaderboard.csv").read_bytes()
        best = self._out / "best_config.yaml"
        text = best.read_text().replace(str(home), "HOME") if best.exists() else ""
        self.best_config = re.sub("  uri: .*", "  uri: SERVER", text)
        self.lines = (self._out / "journal.jsonl").read_bytes().count(b"\n")

    @property
    def _sweep_id(self) -> str:
        return str(self.summary["sweep_id"])

    @cached_property
    def files(self) -> set[str]:
        """That lie in the folders of trials."""
        found = (str(file.relative_to(self._out)) for file in self._out.glob("trials/*/*"))
        return {name.replace(self._sweep_id, "SWEEP") for name in found}

    def _query(self, text: str, *values: str) -> list[tuple]:
        with closing(sqlite3.connect(self._database, timeout=30)) as database:
            return database.execute(text, values).fetchall()

    @cached_property
    def runs(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Status and tags of every run of the sweep."""
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        of_sweep = "select run_uuid from tags where key = 'sweep_id' and value = ?"
        for run, key, value in self._query(
            f"select run_uuid, key, value from tags where run_uuid in ({of_sweep})", self._sweep_id
        ):
            tags[run][key] = value
        statuses = dict(
            self._query(f"select run_uuid, status from runs where run_uuid in ({of_sweep})", self._sweep_id)
        )
        return {run: (statuses[run], its_tags) for run, its_tags in tags.items()}

    def metrics(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Values of dev and test metrics by trial and key."""
        found: dict[str, dict[str, tuple[float, ...]]] = {}
        for run, (_, tags) in self.runs.items():
            if "trial_id" in tags:
                rows = self._query("select key, value from metrics where run_uuid = ? order by timestamp", run)
                values: dict[str, tuple[float, ...]] = {}
                for key, value in rows:
                    # What tied epochs would have given is not measured where another trial trained the stage.
                    if key.startswith(("dev/", "test/")) and not (
                        key.startswith("dev/tied_") and key.endswith("_range")
                    ):
                        values[key] = (*values.get(key, ()), value)
                found[tags["trial_id"].replace(self._sweep_id, "SWEEP")] = values
        return found

    def artifacts(self) -> dict[str, set[str]]:
        """Names of the files in MLflow by trial; those of the sweep's own run under an empty name."""
        found = {}
        for run, (_, tags) in self.runs.items():
            files = self._database.parent.glob(f"mlartifacts/*/{run}/artifacts/*")
            found[tags.get("trial_id", "").replace(self._sweep_id, "SWEEP")] = {file.name for file in files}
        return found

    def epochs_twice(self) -> list[str]:
        """Metrics of epochs that are there more than once."""
        runs = ", ".join(f"'{run}'" for run in self.runs)
        text = f"select key, step from metrics where run_uuid in ({runs}) and key like 'epoch/%'"
        rows = self._query(f"{text} group by run_uuid, key, step having count(*) > 1")
        return [f"{key} of epoch {step}" for key, step in rows]

    def faults(self, reference: "Remains") -> list[str]:
        """What is not as it is behind an undisturbed sweep."""
        found = []

        def expect(holds: bool, fault: str) -> None:
            if not holds:
                found.append(fault)

        statuses = Counter(self.summary.get("trials", {}).values())
        expect(self.summary["status"] == "completed", f"sweep.json: {self.summary['status']}")
        expect(statuses == {"completed": TRIALS}, f"trials: {dict(statuses)}")
        expect(self.leaderboard == reference.leaderboard, "another leaderboard")
        expect(self.best_config == reference.best_config, "another best configuration")
        expect(self.files == reference.files, f"files: {sorted(self.files ^ reference.files)[:4]}")
        parents = [run for run, (_, tags) in self.runs.items() if "mlflow.parentRunId" not in tags]
        children = Counter(tags.get("trial_id") for run, (_, tags) in self.runs.items() if run not in parents)
        expect(len(parents) == 1, f"{len(parents)} runs of the sweep")
        expect(sorted(children.values()) == [1] * TRIALS, f"runs of trials: {sorted(children.values())}")
        under = {tags.get("mlflow.parentRunId") for run, (_, tags) in self.runs.items() if run not in parents}
        expect(under == {*parents}, "runs of trials under another run")
        runs = Counter(status for status, _ in self.runs.values())
        expect(runs == {"FINISHED": TRIALS + 1}, f"runs: {dict(runs)}")
        for trial, metrics in reference.metrics().items():
            own = self.metrics().get(trial, {})
            differ = [key for key, values in metrics.items() if own.get(key) != values]
            expect(not differ, f"{trial} in MLflow: {', '.join(f'{k} {own.get(k)}' for k in differ[:3])}")
        ours, wanted = self.artifacts(), reference.artifacts()
        differ = [f"{trial}: {sorted(names ^ ours.get(trial, set()))}" for trial, names in wanted.items()]
        expect(ours == wanted, f"files in MLflow: {[text for text in differ if not text.endswith('[]')][:2]}")
        expect(not self.epochs_twice(), f"twice: {self.epochs_twice()[:3]}")
        return found
