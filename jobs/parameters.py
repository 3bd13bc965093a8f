"""What drives CNRG in a sweep: importance of the searched settings, slices, parallel coordinates, Pareto front."""

import sys
from pathlib import Path

from unirex_ray.cli.parser import choice_of_sweeps, parse_job, recorded_sweeps_parser
from unirex_ray.config import build_config
from unirex_ray.errors import UserError, exit_on_user_error


def main() -> None:
    """Parse, read the runs, print, draw and write."""
    parser = recorded_sweeps_parser("parameters", __doc__ or "")
    storage = "Write the studies there as well, for the Optuna dashboard, e.g. sqlite:///study.db."
    parser.add_argument("--storage", metavar="URL", help=storage)
    options, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.analysis.compare import variants_of
    from unirex_ray.cli.next_steps import print_next
    from unirex_ray.report.compared_corpora import keep_in_runs
    from unirex_ray.report.files import REPORT, write_results
    from unirex_ray.report.plots import png
    from unirex_ray.report.table import console, method_label
    from unirex_ray.sweep.study import method_studies, page, pictures, write_storage
    from unirex_ray.sweep.study_report import parameters_table
    from unirex_ray.tracking.choose import configured_weights, open_sweeps, unfinished_in_words, weights_of

    config, out = build_config(tree), console()
    name, folder = config.data.name, Path(config.output) / "parameters"
    store, sweeps = open_sweeps(config, **choice_of_sweeps(options))
    studies = method_studies(variants_of(sweeps), weights_of(sweeps, configured_weights(config, tree)))
    if not studies:
        raise UserError(f"no method on {name!r} has two complete configurations that differ in a searched setting")
    ids = "+".join(sweep.sweep_id for sweep in sweeps)
    names = write_storage(studies, options.storage, ids) if options.storage else []
    lacking = unfinished_in_words(sweeps)
    table = parameters_table(studies, name, lacking)
    figures = {f"{method}-{kind}": png(figure) for method, s in studies.items() for kind, figure in pictures(s).items()}
    title = f"{name}: what the searched settings did{' (UNFINISHED)' if lacking else ''}"
    pages = {REPORT: page(studies, title, method_label)}
    written = write_results(folder, "parameters", {"parameters": table}, figures, pages)
    table.print(out)
    kept = keep_in_runs(store, sweeps, {file: (folder / file).read_bytes() for file in written}, "parameters")
    out.print(f"Wrote to {folder}: {', '.join(written)}; {kept}.", markup=False)
    if options.storage:
        out.print(f"Studies at {options.storage}: {', '.join(names)}.", markup=False)
        print_next([f"optuna-dashboard {options.storage}"], out)


if __name__ == "__main__":
    exit_on_user_error(main)
