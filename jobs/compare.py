"""Compare methods by global NRG, from the runs that sweeps recorded; --data.name=sst,movies: over several corpora."""

import sys
from pathlib import Path

from unirex_ray.cli.parser import choice_of_sweeps, parse_job, recorded_sweeps_parser
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error


def main() -> None:
    """Parse, read the runs, compare, print and write."""
    parser = recorded_sweeps_parser("compare", __doc__ or "")
    parser.add_argument("--configurations", action="store_true", help="Every configuration's raw metrics as well.")
    parser.add_argument("--pairs", action="store_true", help="How often each method is ahead of each other one.")
    parser.add_argument("--table", choices=["main", "1", "2", "4"], help="One of the paper's tables alone.")
    parser.add_argument("--published", action="store_true", help="Show the paper's results on this corpus as well.")
    options, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.cli.next_steps import after_compare, print_next
    from unirex_ray.report.compared import compare_corpus, compare_several, configs_of, corpus_page, record
    from unirex_ray.report.files import write_results
    from unirex_ray.report.table import console

    config, out, choice = build_config(tree), console(), choice_of_sweeps(options)
    configs = configs_of(config, choice)
    corpora = {name: compare_corpus(of, tree, choice, published=options.published) for name, of in configs.items()}
    asked = {key: getattr(options, key) for key in ("configurations", "pairs", "table")}
    shown = {name: compared.to_print(**asked) for name, compared in corpora.items()}
    for name, compared in corpora.items():
        for table in shown[name]:
            table.print(out)
        folder, page = Path(config.output) / (name if len(corpora) > 1 else ""), corpus_page(compared)
        written = write_results(folder, "comparison", compared.tables, compared.figures, page)
        comparison = compared.comparison
        out.print(f"Sweeps: {', '.join(comparison.sweeps)}; data digest {comparison.digest}.", markup=False)
        out.print(f"Wrote {', '.join(written)} to {folder}; {record(compared, page)}.", markup=False)
    if len(corpora) > 1:
        several = compare_several(corpora, published=options.published)
        for table in several.tables.values():
            table.print(out)
        written = write_results(config.output, "corpora", several.tables, several.figures, several.page)
        out.print(f"Wrote {', '.join(written)} to {config.output}.", markup=False)
    print_next([step for name in corpora for step in after_compare(configs[name], corpora[name], options)], out)


if __name__ == "__main__":
    exit_on_user_error(main)
