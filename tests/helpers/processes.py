"""Processes of this machine, and ports that none of them has."""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path


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
