"""The options of the user study's job."""

from __future__ import annotations

import argparse

from unirex_ray.errors import UserError, did_you_mean
from unirex_ray.study.tasks import TASKS, TaskName

READS: dict[str, tuple[str, ...]] = {
    "make": ("output", "data.", "model.trust_remote_code", "train.gpu", "train.precision", "train.token_budget"),
    "serve": ("output",),
    "analyse": ("output", "tracking.uri"),
}
"""Keys of the configuration that each of its commands reads."""


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Those of one of its commands."""
    if what == "make":
        model = "Of export_best, or a sweep's output (repeatable)."
        parser.add_argument("--model", metavar="FOLDER", action="append", required=True, help=model)
        parser.add_argument("--methods", metavar="A,B", help="Of these alone; default: all that the folders hold.")
        labels = "Labels of the models and of the corpus; default: by name, else by position."
        parser.add_argument("--map", metavar="A=B,...", help=labels)
        parser.add_argument("--split", default="test", choices=["train", "dev", "test"], help="Default: test.")
        parser.add_argument("--instances", type=int, metavar="INT", help="To draw; default: 50, or all if fewer.")
        parser.add_argument("--annotators", type=int, default=5, metavar="INT", help="Default: 5.")
        raters = "Annotators who judge the same items, so that their agreement is known; default: 2."
        parser.add_argument("--raters", type=int, default=2, metavar="INT", help=raters)
        parser.add_argument("--tasks", default=",".join(TASKS), help="forward, rating or both; default: both.")
        parser.add_argument("--seed", type=int, default=0, metavar="INT", help="Of what is drawn; default: 0.")
        simulate = "Train instances that simulated annotators learn from; 0: none; default: 1000."
        parser.add_argument("--simulate", type=int, default=1000, metavar="INT", help=simulate)
    if what == "serve":
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on; default: this machine alone.")
        parser.add_argument("--port", type=int, default=8000, help="Default: 8000.")
    if what == "analyse":
        answers = "Exported answers, in files or folders (repeatable); default: what the server was told."
        parser.add_argument("--answers", metavar="PATH", action="append", default=[], help=answers)
        parser.add_argument("--seed", type=int, default=0, metavar="INT", help="Of the bootstrap; default: 0.")


def tasks_of(text: str) -> tuple[TaskName, ...]:
    """Names of tasks, with commas between them.

    Raises:
        UserError: for an unknown one.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in TASKS:
            raise UserError(f"unknown task {name!r} in --tasks{did_you_mean(name, TASKS)}; choose from forward, rating")
    return tuple(task for task in TASKS if task in names)
