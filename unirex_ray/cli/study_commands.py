"""What the user study's job does, once its options are read."""

from __future__ import annotations

import argparse
import shlex

from rich.console import Console

from unirex_ray.cli.calls import command
from unirex_ray.cli.option import option
from unirex_ray.cli.study import tasks_of
from unirex_ray.config import Tree, build_config
from unirex_ray.study.describe import conditions_table, simulated_in_words
from unirex_ray.study.folder import FORMS, STUDY, make_folder
from unirex_ray.study.make import Request


def make(options: argparse.Namespace, tree: Tree, out: Console) -> list[str]:
    """Make a study; returns the next commands."""
    request = Request(
        folders=tuple(options.model),
        methods=tuple(options.methods.split(",")) if options.methods else (),
        split=options.split,
        instances=options.instances,
        annotators=options.annotators,
        raters=options.raters,
        tasks=tasks_of(options.tasks),
        seed=options.seed,
        train_instances=options.simulate,
    )
    made = make_folder(request, tree, tell=lambda line: out.print(line, markup=False, soft_wrap=True))
    conditions_table(made.study).print(out)
    about = simulated_in_words(made.simulated) if made.simulated else made.about_simulated
    if about:
        out.print(about, markup=False, soft_wrap=True)
    out.print(f"written to {made.folder}", markup=False, soft_wrap=True)
    study = option("output", made.config.output)
    forms = shlex.quote(f"{made.config.output}/{FORMS}")
    return [
        f"{command('study')} serve {study}",
        f"{command('study')} analyse {study} --answers={forms}   # where the exported answers lie",
        *([f"{command('study')} analyse {study} --answers={made.config.output}/simulated"] if made.simulated else []),
    ]
