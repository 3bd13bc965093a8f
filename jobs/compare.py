"""Compare methods by global NRG, from the runs that sweeps recorded; --data.name=sst,movies: over several corpora."""

import sys
from pathlib import Path

from unirex_ray.cli.parser import add_choice_of_sweeps, choice_of_sweeps, job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error


def main() -> None:
    """Parse, read the runs, compare, print and write."""
    parser = job_parser(
        "compare.py",
        __doc__ or "",
        reads=("data.name", "output", "tracking.uri", "sweep.nrg_weights"),
        defaults={"sweep.nrg_weights": "as the sweeps did"},
    )
    add_choice_of_sweeps(parser)
    parser.add_argument("--configurations", action="store_true", help="Every configuration's raw metrics as well.")
    parser.add_argument("--pairs", action="store_true", help="How often each method is ahead of each other one.")
    parser.add_argument("--table", choices=["main", "1", "2", "4"], help="One of the paper's tables alone.")
    parser.add_argument("--published", action="store_true", help="Show the paper's results on this corpus as well.")
    options, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.cli.next_steps import after_compare, print_next
    from unirex_ray.data.load import check_name
    from unirex_ray.report.compared import compare_corpus, compare_several, corpus_page, record
    from unirex_ray.report.files import write_results
    from unirex_ray.report.table import console

    config, out = build_config(tree), console()
    configs = {name: config.changed({"data.name": name}) for name in config.data.name.split(",")}
    for name in configs:
        check_name(name)
    choice, published = choice_of_sweeps(options), options.published
    corpora = {name: compare_corpus(of, tree, choice, published=published) for name, of in configs.items()}
    for name, compared in corpora.items():
        folder = Path(config.output) / (name if len(corpora) > 1 else "")
        page = corpus_page(compared)
        written = write_results(folder, "comparison", compared.tables, compared.figures, page)
        record(compared, page)
        for table in compared.to_print(**{key: getattr(options, key) for key in ("configurations", "pairs", "table")}):
            table.print(out)
        comparison, uri = compared.comparison, compared.store.uri
        out.print(f"Sweeps: {', '.join(comparison.sweeps)}; data digest {comparison.digest}.", markup=False)
        out.print(f"Wrote {', '.join(written)} to {folder}, and NRG and the report to the runs at {uri}.", markup=False)
    if len(corpora) > 1:
        several = compare_several(corpora, published=published)
        for table in several.tables.values():
            table.print(out)
        written = write_results(config.output, "corpora", several.tables, several.figures, several.page)
        out.print(f"Wrote {', '.join(written)} to {config.output}.", markup=False)
    print_next([step for name in corpora for step in after_compare(configs[name], corpora[name], options)], out)


if __name__ == "__main__":
    exit_on_user_error(main)
