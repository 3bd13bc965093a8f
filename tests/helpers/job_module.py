"""A job's script as a module."""

from pathlib import Path
from types import ModuleType

from unirex_ray.cli.unirex import load_job

JOBS = Path(__file__).parents[2] / "jobs"


def job_module(name: str) -> ModuleType:
    """Import a job; its `main` reads `sys.argv`."""
    return load_job(name)
