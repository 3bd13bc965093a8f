"""How a job is called: as `unirex JOB` where the package is installed, or by its file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

UNIREX = "unirex"


def command(job: str) -> str:
    """What a user types to run a job, in the way in which this process was called."""
    return f"{UNIREX} {_name(job)}" if _by_name(sys.argv) else f"python jobs/{job}.py"


def program(job: str) -> str:
    """What a job's messages call it."""
    return f"{UNIREX} {_name(job)}" if _by_name(sys.argv) else f"{job}.py"


def argv_of(job: str, arguments: Sequence[str]) -> list[str]:
    """The `sys.argv` of a job that was called by its name."""
    return [f"{UNIREX} {_name(job)}", *arguments]


def resume_command(argv: Sequence[str]) -> str:
    """The command that was given, with `--resume`; whether other code goes on is asked anew each time."""
    called = argv[0].split() if _by_name(argv) else ["python", argv[0]]
    own = [word for word in argv[1:] if word not in ("--resume", "--other-code")]
    return shlex.join([*called, *own, "--resume"])


def _by_name(argv: Sequence[str]) -> bool:
    return argv[0].startswith(f"{UNIREX} ")


def _name(job: str) -> str:
    return job.replace("_", "-")
