"""What is done to a sweep that runs: one function a kind, which returns what it did, in words."""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from helpers.chaos_place import CHECKOUT, Place, fill
from helpers.mlflow_server import Server
from helpers.processes import Run, kill, processes

from unirex_ray.files import is_locked_elsewhere
from unirex_ray.tracking.store import LOCK


@dataclass
class Disturbed:
    """A sweep that is being disturbed.

    Attributes:
        home: folder of its own: `out` is the output.
        mend: what has to be done before the next run.
        damaged: files of completed trials, as they are since; nothing may take them for whole.
        expected: what the user of this run may see with exit code 2.
        needs_sync: whether MLflow is to be brought up to date at the end.
    """

    place: Place
    home: Path
    draw: random.Random
    command: list[str]
    environment: dict[str, str]
    server: Server | None
    runs: list[Run] = field(default_factory=list)
    mend: list[Callable[[], None]] = field(default_factory=list)
    damaged: dict[Path, bytes] = field(default_factory=dict)
    expected: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    needs_sync: bool = False
    jobs: int = 0

    @property
    def out(self) -> Path:
        return self.home / "out"

    @property
    def journal(self) -> Path:
        return self.out / "journal.jsonl"

    @property
    def run(self) -> Run:
        """That is going on, or was the last."""
        return self.runs[-1]

    def job(self, name: str, *options: str, command: list[str] | None = None) -> Run:
        """Start a job, beside the sweep or after it."""
        whole = command or [sys.executable, str(CHECKOUT / "jobs" / f"{name}.py"), *options]
        self.jobs += 1
        return self.place.start(whole, self.environment, f"{self.home.name}-{name}-{self.jobs}")

    def stop(self) -> None:
        """Kill the sweep with all its processes, as when a machine loses its power."""
        kill([self.run.session])
        while left := processes(self.run.session):
            kill(left)
            time.sleep(0.02)
        self.run.wait()

    def written(self) -> int:
        """Lines of the journal, by now; -1 before the output is locked."""
        if self.journal.exists():
            return self.journal.read_bytes().count(b"\n")
        return 0 if (self.out / ".sweep.lock").exists() else -1


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind.

    Attributes:
        act: does it, while a run is going on; None where there was nothing to do it to.
        tracking: what the sweep has to be recorded with: a server, or a database of its own.
        slow: whether it costs a minute or more, so that it is left out where time is short.
    """

    act: Callable[[Disturbed], str | None]
    tracking: Literal["any", "server", "own"] = "any"
    needs_disk: bool = False
    needs_clock: bool = False
    slow: bool = False


def _signals(number: signal.Signals, *, group: bool = False) -> Callable[[Disturbed], str]:
    def act(sweep: Disturbed) -> str:
        driver = sweep.run.session
        (os.killpg if group else os.kill)(driver, number)
        return f"{number.name} to the driver{' and its group' if group else ''}"

    return act


def _kills(what: Callable[[str], bool]) -> Callable[[Disturbed], str | None]:
    def act(sweep: Disturbed) -> str | None:
        found = [number for number, command in processes(sweep.run.session).items() if what(command)]
        if not found:
            return None
        chosen = sweep.draw.choice(sorted(found))
        kill([chosen])
        return f"one of {len(found)}"

    return act


def _is_worker(command: str) -> bool:
    return command.startswith("ray::") and not command.startswith(
        ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnv")
    )


def _power(sweep: Disturbed) -> str:
    sweep.stop()
    return "all processes at once"


def _second(sweep: Disturbed) -> str | None:
    # However long this one takes to start: the first one's driver waits, and its trials go on.
    kill([sweep.run.session], signal.SIGSTOP)
    if not is_locked_elsewhere(sweep.out / LOCK):  # not yet, or not any more: it is on its way out
        kill([sweep.run.session], signal.SIGCONT)
        return None
    second = sweep.job("sweep", command=sweep.command)
    code, errors = second.wait(), second.errors()
    kill([sweep.run.session], signal.SIGCONT)
    if sweep.run.poll() is None and (code != 2 or f"pid {sweep.run.session}," not in errors):
        sweep.faults.append(f"a second sweep ended with {code}: {second.saw()}")
    return f"exit code {code}: {errors.strip()[:90]}"


def _clock(sweep: Disturbed) -> str:
    jump = sweep.draw.choice((-3600, 3600))
    (sweep.home / "clock.txt").write_text(str(jump))
    return f"by {jump:+d} s"


def _server(sweep: Disturbed) -> Server:
    """The one that is disturbed; a sweep that has begun nothing yet refuses to begin without it."""
    assert sweep.server is not None
    if sweep.written() < 1:
        sweep.expected += ["is an MLflow server running there?", "MLflow does not take the sweep's run"]
    return sweep.server


def _paused(sweep: Disturbed) -> str:
    server = _server(sweep)
    seconds = sweep.draw.uniform(2, 8)
    server.signal(signal.SIGSTOP)
    time.sleep(seconds)
    server.signal(signal.SIGCONT)
    return f"for {seconds:.1f} s"


def _restarted(sweep: Disturbed) -> str:
    server = _server(sweep)
    seconds = sweep.draw.uniform(0, 3)
    server.stop()
    time.sleep(seconds)
    server.start()
    return f"killed, and there again after {seconds:.1f} s and its start"


def _away(sweep: Disturbed) -> str:
    server = _server(sweep)
    server.stop()
    sweep.mend.append(server.start)
    return "killed, and there again after the end of the run"


def _full(folder: Callable[[Disturbed], Path]) -> Callable[[Disturbed], str]:
    def act(sweep: Disturbed) -> str:
        sweep.expected += ["No space left on device", "database or disk is full", "which is too little"]
        ballast, began = fill(folder(sweep)), time.monotonic()
        while sweep.run.poll() is None and time.monotonic() - began < 60:
            time.sleep(0.1)
        ballast.unlink()
        return f"for {time.monotonic() - began:.1f} s"

    return act


def _spoil(file: Path, sweep: Disturbed) -> str:
    """Truncate, empty or change a file, in place."""
    data, draw = bytearray(file.read_bytes()), sweep.draw
    how = draw.choice(("truncated", "truncated", "flipped", "flipped", "emptied"))
    if how == "flipped" and data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    else:
        del data[draw.randrange(len(data) or 1) if how == "truncated" else 0 :]
    # A hard link's other names are the same file: what a disk does to one it does to all.
    with open(file, "r+b") as stream:
        stream.write(data)
        stream.truncate(len(data))
    return how


def _damages(pattern: str, *, of_completed: bool = False) -> Callable[[Disturbed], str | None]:
    """Kill everything, and damage one file of the output."""

    def candidates(sweep: Disturbed) -> list[Path]:
        found = sorted(sweep.home.glob(pattern))
        return [file for file in found if not of_completed or (file.parent / "result.json").exists()]

    def act(sweep: Disturbed) -> str | None:
        deadline = time.monotonic() + 10
        while not candidates(sweep) and sweep.run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        if not candidates(sweep):
            return None
        sweep.stop()
        found = candidates(sweep)
        if not found:
            return "killed, and nothing to damage any more"
        file = sweep.draw.choice(found)
        how = _spoil(file, sweep)
        if of_completed:
            sweep.damaged[file] = file.read_bytes()
        return f"killed, {file.name} {how}"

    return act


def _torn(sweep: Disturbed) -> str | None:
    if sweep.written() < 1:
        return None
    sweep.stop()
    data = sweep.journal.read_bytes()
    last = data.rstrip(b"\n").rpartition(b"\n")[2]
    if sweep.draw.random() < 0.5:
        part = last[: sweep.draw.randrange(1, len(last))]
        with sweep.journal.open("ab") as journal:
            journal.write(part)
        return "killed, half a line more"
    os.truncate(sweep.journal, len(data) - sweep.draw.randrange(1, len(last)))
    return "killed, the last line cut"


def _changed_journal(sweep: Disturbed) -> str | None:
    if sweep.written() < 1:
        return None
    sweep.stop()
    data = bytearray(sweep.journal.read_bytes())
    last = data.rstrip(b"\n").rfind(b"\n")
    data[sweep.draw.randrange(max(1, last))] ^= 1 << sweep.draw.randrange(8)
    sweep.journal.write_bytes(data)
    refused = sweep.job("sweep", command=sweep.command)
    code = refused.wait()
    if code != 2 or "is damaged: line" not in refused.errors():
        sweep.faults.append(f"a changed journal: {code}: {refused.saw()}")
    sweep.journal.rename(sweep.home / "journal.damaged")
    return f"killed, a bit flipped, exit code {code}; moved away"


def _database_gone(sweep: Disturbed) -> str:
    sweep.stop()
    for file in sweep.out.glob("mlflow.db*"):
        file.unlink()
    with_files = sweep.draw.random() < 0.5
    if with_files:
        shutil.rmtree(sweep.out / "mlartifacts", ignore_errors=True)
    return f"killed, mlflow.db{' and mlartifacts' if with_files else ''} deleted"


def _database_damaged(sweep: Disturbed) -> str | None:
    database = sweep.out / "mlflow.db"
    if not database.exists():
        return None
    sweep.stop()
    for file in sweep.out.glob("mlflow.db-*"):
        file.unlink()
    how = sweep.draw.choice(("truncated", "overwritten"))
    if how == "truncated":
        os.truncate(database, database.stat().st_size // 2)
    else:
        with database.open("r+b") as stream:
            stream.write(b"not a database" * 10)
    again = sweep.job("sweep", command=sweep.command)
    code = again.wait()
    if code not in (0, 2, 3) or "Traceback" in again.errors() + again.printed():
        sweep.faults.append(f"a damaged database: {code}: {again.saw()}")
    database.unlink()
    sweep.needs_sync = True
    return f"killed, {how}, exit code {code}: {again.saw()[:100]}; deleted"


def _cache_damaged(sweep: Disturbed) -> str:
    sweep.stop()
    file = sweep.draw.choice(sorted(file for file in (sweep.home / "cache").rglob("*") if file.is_file()))
    return f"killed, {file.suffix or file.name} {_spoil(file, sweep)}"


def _cache_full(sweep: Disturbed) -> str:
    sweep.stop()
    for file in (sweep.home / "cache").iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    ballast = fill(sweep.home)
    refused = sweep.job("sweep", command=sweep.command)
    code, errors = refused.wait(), refused.errors()
    if code not in (1, 2) or "Traceback" in errors:
        sweep.faults.append(f"a full disk at cache: {code}: {refused.saw()}")
    ballast.unlink()
    return f"killed, cache deleted, disk full: exit code {code}: {errors.strip()[:90]}"


KINDS: dict[str, Kind] = {
    "driver killed": Kind(act=_signals(signal.SIGKILL)),
    "worker killed": Kind(act=_kills(_is_worker)),
    "raylet killed": Kind(act=_kills(lambda command: "/raylet/raylet " in command)),
    "GCS killed": Kind(act=_kills(lambda command: "/gcs_server " in command)),
    "everything killed": Kind(act=_power),
    "SIGTERM": Kind(act=_signals(signal.SIGTERM)),
    "SIGINT": Kind(act=_signals(signal.SIGINT)),
    "Ctrl-C": Kind(act=_signals(signal.SIGINT, group=True)),
    "SIGHUP": Kind(act=_signals(signal.SIGHUP)),
    "a second sweep": Kind(act=_second),
    "clock jump": Kind(act=_clock, needs_clock=True),
    "server paused": Kind(act=_paused, tracking="server"),
    "server restarted": Kind(act=_restarted, tracking="server"),
    "server away": Kind(act=_away, tracking="server", slow=True),
    "disk full: output": Kind(act=_full(lambda sweep: sweep.home), needs_disk=True),
    "disk full: temporary": Kind(act=_full(lambda sweep: sweep.place.ray), needs_disk=True),
    "disk full: cache": Kind(act=_cache_full, needs_disk=True),
    "last.pt damaged": Kind(act=_damages("out/trials/*/last.pt")),
    "best-*.pt damaged": Kind(act=_damages("out/trials/*/best-*.pt")),
    "shared stage damaged": Kind(act=_damages("out/stages/*/best.pt")),
    "best.pt damaged": Kind(act=_damages("out/trials/*/best.pt", of_completed=True)),
    "result.json damaged": Kind(act=_damages("out/trials/*/result.json", of_completed=True)),
    "config.yaml damaged": Kind(act=_damages("out/trials/*/config.yaml", of_completed=True)),
    "cache damaged": Kind(act=_cache_damaged),
    "journal torn": Kind(act=_torn),
    "journal changed": Kind(act=_changed_journal),
    "mlflow.db deleted": Kind(act=_database_gone, tracking="own"),
    "mlflow.db damaged": Kind(act=_database_damaged, tracking="own", slow=True),
}
