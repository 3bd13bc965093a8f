"""The `unirex` command: every job by its name."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from unirex_ray import __version__
from unirex_ray.cli.calls import UNIREX, argv_of
from unirex_ray.errors import UserError, did_you_mean, exit_on_user_error

JOBS = {
    "Search and compare": {
        "sweep": "search each method's settings, and select the best by CNRG",
        "compare": "compare methods by NRG, from what sweeps recorded",
        "parameters": "what the searched settings did to the scores",
        "ui": "look at an output's runs in MLflow",
        "sync": "bring MLflow up to date with an output",
    },
    "Use a model": {
        "export_best": "write the best model as a folder",
        "explain": "predict a text and show the rationale",
        "evaluate": "score trained models on any corpus",
        "study": "ask people what they make of rationales: forms, answers, tables",
    },
    "By hand": {
        "prepare_data": "read, check and tokenise a corpus, and show what it holds",
        "train": "train and evaluate one configuration",
        "benchmark": "measure speed",
    },
}


def main() -> None:
    """Run the job that the first word names."""
    exit_on_user_error(_run)


def _run() -> None:
    jobs = {job.replace("_", "-"): job for section in JOBS.values() for job in section}
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name == "--version":
        print(f"unirex_ray {__version__}")
        return
    job = jobs.get(name.replace("_", "-"))
    if job is None:
        raise UserError(f"unknown command {name!r}{did_you_mean(name, jobs)}; choose from {', '.join(jobs)}")
    sys.argv = argv_of(job, arguments)
    load_job(job).main()


def usage() -> str:
    """What `unirex --help` prints; at most 80 columns."""
    sections = "\n\n".join(
        f"{title}:\n" + "\n".join(f"  {job.replace('_', '-'):<13} {what}" for job, what in jobs.items())
        for title, jobs in JOBS.items()
    )
    return (
        f"usage: {UNIREX} COMMAND [options]\n\n"
        "Train, search and compare rationale extractors for text classifiers.\n\n"
        f"{sections}\n\n"
        f"`{UNIREX} COMMAND --help` lists what a command reads. To begin: {UNIREX} sweep"
    )


def load_job(job: str) -> ModuleType:
    """A job, from within the installed package, or from beside it in a copy of the repository."""
    package = Path(__file__).parents[1]
    packaged = package / "jobs"
    folder = packaged if packaged.is_dir() else package.parent / "jobs"
    spec = spec_from_file_location(f"unirex_job_{job}", folder / f"{job}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
