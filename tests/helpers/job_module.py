"""A job's script as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType

JOBS = Path(__file__).parents[2] / "jobs"


def job_module(name: str) -> ModuleType:
    """Import a job; its `main` reads `sys.argv`."""
    spec = importlib.util.spec_from_file_location(f"job_{name}", JOBS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
