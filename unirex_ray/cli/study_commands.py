"""What the user study's job does, once its options are read."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from unirex_ray.cli.calls import command
from unirex_ray.cli.option import option
from unirex_ray.cli.study import tasks_of
from unirex_ray.config import Tree, build_config
from unirex_ray.errors import UserError
from unirex_ray.inference.labels import parse_mapping
from unirex_ray.report.files import REPORT
from unirex_ray.study.analysis import analyse as analyse_answers
from unirex_ray.study.answer_store import ANSWERS
from unirex_ray.study.describe import conditions_table, simulated_in_words
from unirex_ray.study.folder import FORMS, REPORTS, STUDY, make_folder
from unirex_ray.study.in_words import findings
from unirex_ray.study.make import Request
from unirex_ray.study.manifest import read_study
from unirex_ray.study.read_files import read_answers
from unirex_ray.study.record import record, store_uri
from unirex_ray.study.report import problem_lines, study_page, write_report
from unirex_ray.study.server import serve as serve_study
from unirex_ray.study.simulated import SIMULATED, read_simulated
from unirex_ray.study.tables import study_tables
from unirex_ray.tracking.mlflow_store import MlflowStore


def make(options: argparse.Namespace, tree: Tree, out: Console) -> list[str]:
    """Make a study; returns the next commands."""
    if options.simulate < 0:
        raise UserError(f"--simulate must be at least 0, but got {options.simulate}")
    request = Request(
        folders=tuple(options.model),
        methods=tuple(options.methods.split(",")) if options.methods else (),
        split=options.split,
        instances=options.instances,
        annotators=options.annotators,
        raters=options.raters,
        tasks=tasks_of(options.tasks),
        seed=options.seed,
        label_map=parse_mapping(options.map),
        train_instances=options.simulate,
    )
    made = make_folder(request, tree, tell=lambda line: out.print(line, markup=False, soft_wrap=True))
    conditions_table(made.study).print(out)
    about = simulated_in_words(made.simulated) if made.simulated else made.about_simulated
    if about:
        out.print(about, markup=False, soft_wrap=True)
    forms = made.folder / FORMS
    out.print(f"written to {made.folder}; a form for each annotator lies in {forms}", markup=False, soft_wrap=True)
    analysed = f"{command('study')} analyse {option('output', made.config.output)}"
    dry_run = shlex.quote(f"{made.config.output}/{Path(SIMULATED).stem}")
    return [
        f"{command('study')} serve {option('output', made.config.output)}",
        f"{analysed} --answers=...",
        *([f"{analysed} --answers={dry_run}"] if made.simulated else []),
    ]


def serve(options: argparse.Namespace, tree: Tree, out: Console) -> list[str]:
    """Serve a study until Ctrl-C, which ends this by an exception."""
    output = build_config({"output": STUDY}, tree).output
    serve_study(
        output,
        host=options.host,
        port=options.port,
        tell=lambda line: out.print(line, markup=False, soft_wrap=True),
        next_command=f"{command('study')} analyse {option('output', output)}",
    )
    return []


def analyse(options: argparse.Namespace, tree: Tree, out: Console) -> list[str]:
    """Analyse the answers to a study, print and write what they say, and record it."""
    config = build_config({"output": STUDY}, tree)
    study, folder = read_study(config.output), Path(config.output).expanduser().absolute()
    answers = read_answers(_paths(options.answers, folder), study)
    analysis = analyse_answers(study, answers, seed=options.seed)
    students = read_simulated(folder, study)
    tables = study_tables(study, answers, analysis, simulated=students[1] if students else None)
    page = study_page(study, answers, analysis, tables)
    # A dry run leaves what people said as it is.
    report = folder / (f"{REPORTS}-simulated" if analysis.simulated else REPORTS)
    write_report(report, tables, page)
    store = MlflowStore(store_uri(study, config))
    record(store, study, answers, analysis, tables, page)
    for name, table in tables.items():
        if name != "pairs":  # the sentences say what is in it of the best; it is the report's longest
            table.print(out)
    lines = [*problem_lines(answers), *findings(study, analysis)]
    for line in [*lines, f"written to {report / REPORT}, and to a run at {store.uri}"]:
        out.print(line, markup=False, soft_wrap=True)
    return []


def _paths(given: Sequence[str], folder: Path) -> list[Path]:
    """Where answers are looked for.

    Raises:
        UserError: if none are given, and the server has none.
    """
    if given:
        return [Path(path).expanduser() for path in given]
    if not (folder / ANSWERS).exists():
        raise UserError(
            f"no answers: {str(folder)!r} has none of a server; give files that annotators exported by --answers"
        )
    return [folder / ANSWERS]
