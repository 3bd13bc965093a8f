"""Where sweeps are disturbed: what they read, their processes, and what they leave.

A sweep is the real command with real training, on an encoder and a corpus that are tiny.
"""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO

import yaml
from helpers.tiny import save_encoder, tiny_corpus

CHECKOUT = Path(__file__).resolve().parents[2]
TRIALS = 12
RUN_SECONDS, _ENDED_SECONDS = 300, 90
_CLOCK = '''"""Every Python process of a sweep sees the clock jump once a file says by how much."""
import os, time
_real, _file, _known = time.time, os.environ["CHAOS_CLOCK"], [0.0, 0.0]
def _jumped():
    now = time.monotonic()
    if not _known[1] and now - _known[0] > 0.2:
        _known[0] = now
        try:
            with open(_file) as file:
                _known[1] = float(file.read())
        except (OSError, ValueError):
            pass
    return _real() + _known[1]
time.time = _jumped
'''


def processes(session: int) -> dict[int, str]:
    """Command line by number of every process of a session that is alive: a driver leads one, and Ray stays in it."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                words = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(stat.parent.name)] = words.decode(errors="replace").strip()
    return found


def kill(numbers: list[int] | dict[int, str], with_signal: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to processes, some of which may have ended."""
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, with_signal)


def _heed_signals() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would whatever it starts."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Place:
    """A folder for sweeps, with what all of them read; `root` holds no sweep yet.

    Args:
        ray: for Ray's own files; short, as the paths of its sockets have room for little more.
    """

    def __init__(self, root: Path, ray: Path) -> None:
        self.root, self.ray = root, ray
        save_encoder(root / "encoder", "bert")
        (root / "clock").mkdir()
        (root / "logs").mkdir()
        (root / "clock" / "sitecustomize.py").write_text(_CLOCK)
        self._write_corpus(root / "corpus")
        spaces = {"grid": {"choice": [2e-3, 3e-3, 6e-3]}, "random": {"log_uniform": [1.5e-3, 6e-3]}}
        for searcher, domain in spaces.items():
            (root / f"{searcher}.yaml").write_text(yaml.safe_dump({"parameters": {"train.learning_rate": domain}}))
        self._references: dict[str, Remains] = {}
        self._runs: list[Run] = []

    def _write_corpus(self, folder: Path) -> None:
        """In ERASER's format, with gold rationales."""
        folder.mkdir()
        documents = []
        for split, table in tiny_corpus((40, 40, 40), gold=1).splits.items():
            lines = []
            for instance in table:
                (text,) = instance.inputs[0].segments
                # Few different words, so that a dozen steps on few texts teach something.
                text = re.sub(r"\d+", lambda digits: str(int(digits[0]) % 2), text)
                documents.append({"docid": instance.id, "document": text})
                words = [n for n, word in enumerate(text.split()) if not word.startswith("w")]
                spans = [[{"docid": instance.id, "start_token": n, "end_token": n + 1}] for n in words]
                label = ("NEG", "POS")[instance.label]
                lines.append({"annotation_id": instance.id, "classification": label, "query": None, "evidences": spans})
            name = {"dev": "val"}.get(split, split)
            (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        (folder / "docs.jsonl").write_text("".join(f"{json.dumps(document)}\n" for document in documents))

    def command(self, home: Path, searcher: str, uri: str | None) -> list[str]:
        """Sweeps into `home`; the same command begins and goes on."""
        options = [
            f"--space={self.root / searcher}.yaml",
            "--data.name=eraser",
            f"--data.source={self.root / 'corpus'}",
            "--data.labels=NEG,POS",
            f"--data.cache={home / 'cache'}",
            f"--model.encoder={self.root / 'encoder'}",
            "--train.epochs=4",
            "--train.batch_size=4",
            "--train.checkpoint_steps=2",
            "--train.precision=fp32",
            "--sweep.methods=aa-ig,l2e",
            f"--sweep.searcher={searcher}",
            "--sweep.configurations=3",
            "--sweep.seeds=0,1",
            "--sweep.max_failures=1",
            "--sweep.concurrency=2",
            f"--output={home / 'out'}",
            *([f"--tracking.uri={uri}"] if uri else []),
        ]
        return [sys.executable, str(CHECKOUT / "jobs" / "sweep.py"), *options, "--resume"]

    def environment(self, home: Path, *, clock: bool = False) -> dict[str, str]:
        """For every process of a sweep."""
        left_out = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        path = os.pathsep.join([*([str(self.root / "clock")] if clock else []), str(CHECKOUT)])
        own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(self.ray), "COLUMNS": "200"}
        return {**kept, **own, "CHAOS_CLOCK": str(home / "clock.txt")}

    def reference(self, searcher: str) -> "Remains":
        """What an undisturbed sweep leaves."""
        if searcher not in self._references:
            home = self.root / f"undisturbed-{searcher}"
            home.mkdir()
            run = self.start(self.command(home, searcher, None), self.environment(home), home.name)
            code = run.wait()
            assert code == 0, run.errors()
            self._references[searcher] = Remains(home, home / "out" / "mlflow.db")
            assert self._references[searcher].best_config, "no configuration is selected, which would test less"
        return self._references[searcher]

    def start(self, command: list[str], environment: dict[str, str], name: str) -> "Run":
        """Start a command, whose processes are accounted for (see `staying`)."""
        run = Run(command, environment, self.root / "logs" / name)
        self._runs.append(run)
        return run

    def staying(self, *, wait: bool = False) -> list[str]:
        """Processes of commands that ended more than a minute and a half ago; they are killed.

        Args:
            wait: for those of commands that ended just now as well.
        """
        found: list[str] = []
        while ended := [run for run in self._runs if run.poll() is not None]:
            for run in ended:
                left, seconds = processes(run.session), time.monotonic() - run.ended
                if left and seconds < _ENDED_SECONDS:
                    continue
                self._runs.remove(run)
                if left:
                    kill(left)
                    found.append(
                        f"{len(left)} processes {seconds:.0f} s behind {run.saw()}: {sorted(left.values())[:3]}"
                    )
            if not wait:
                break
            time.sleep(1)
        return found

    def close(self) -> None:
        """Kill what still runs."""
        for run in self._runs:
            kill(processes(run.session))


class Run:
    """A command in a session of its own.

    Attributes:
        began, ended: when, in seconds; 0 before its end was seen.
        session: its number, which all its processes share.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.began, self.ended, self._log = time.monotonic(), 0.0, log
        with open(f"{log}.out", "w") as out, open(f"{log}.err", "w") as errors:
            self._process = subprocess.Popen(
                command,
                env=environment,
                start_new_session=True,
                stdout=out,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                preexec_fn=_heed_signals,
            )
        self.session = self._process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        code = self._process.poll()
        if code is not None and not self.ended:
            self.ended = time.monotonic()
        return code

    def wait(self, seconds: float = RUN_SECONDS) -> int | None:
        """Its exit code; None where it takes longer."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.poll()

    def printed(self) -> str:
        """On stdout, by now."""
        return Path(f"{self._log}.out").read_text(errors="replace")

    def errors(self) -> str:
        """On stderr, by now."""
        return Path(f"{self._log}.err").read_text(errors="replace")

    def saw(self) -> str:
        """The last two lines that its user sees: of stderr, else of stdout."""
        text = re.sub("go on with: python .*", "go on with: python ...", self.errors().strip() or self.printed())
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-2:])


class Server:
    """`mlflow server` on an SQLite file, reachable from this machine alone."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder.mkdir()
        self.uri, self.database = f"http://127.0.0.1:{port}", folder / "mlflow.db"
        # Its eight processes for jobs that nobody submits would take the time of the sweeps.
        self._environment = {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._log = folder / "server"
        self._command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
        self._command += [
            f"--backend-store-uri=sqlite:///{self.database}",
            f"--artifacts-destination={folder / 'mlartifacts'}",
        ]
        self._run: Run | None = None

    def start(self) -> None:
        """Wait until it answers."""
        if self._run is not None and self._run.poll() is None:
            return
        self._run, deadline = Run(self._command, self._environment, self._log), time.monotonic() + 120
        while time.monotonic() < deadline and self._run.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.2)
        raise RuntimeError(f"no MLflow server: {self._run.errors()[-500:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        if self._run is not None:
            kill(processes(self._run.session), number)

    def stop(self) -> None:
        """Kill it."""
        self.signal(signal.SIGKILL)
        if self._run is not None:
            self._run.wait(10)


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


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a file system of its own at a folder, where this process may; says whether it could."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    mounted = shutil.which("mount") is not None and not subprocess.run(command, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether `small_disk` can."""
    with small_disk(folder / "disk", 1) as mounted:
        return mounted


def fill(folder: Path) -> Path:
    """Take all the room of the file system mounted at a folder; returns the file that has it."""
    assert folder.is_mount(), folder
    ballast = folder / "ballast"

    def write(size: int, stream: IO[bytes]) -> None:
        with suppress(OSError):
            while stream.write(b"0" * size):
                pass

    with open(ballast, "wb", buffering=0) as stream:
        for size in (1 << 20, 4096, 1):
            write(size, stream)
    return ballast
