"""Processes of this machine, and ports that none of them has."""

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

RUN_SECONDS = 300


def free_ports(count: int) -> list[int]:
    """Ports that differ, as all are held until the last is found."""
    held = [socket.socket() for _ in range(count)]
    for bound in held:
        bound.bind(("127.0.0.1", 0))
    ports = [bound.getsockname()[1] for bound in held]
    for bound in held:
        bound.close()
    return ports


def family(ancestor: int) -> set[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    members, pending = set(), [ancestor]
    while pending:
        members.add(process := pending.pop())
        pending += children.get(process, [])
    return members


def end(started: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its group, its descendants, and what is left of its group."""
    for process in family(started.pid) if started.poll() is None else ():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


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
