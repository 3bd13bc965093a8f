"""Compare methods by global NRG, from the runs that sweeps recorded; --data.name=sst,movies: over several corpora."""

import sys
from typing import Any

from unirex_ray.cli.parser import choice_of_sweeps, parse_job, recorded_sweeps_parser
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error


def main() -> None:
    """Parse, read the runs, compare, print and write."""
    parser = recorded_sweeps_parser("compare", __doc__ or "")
    parser.add_argument("--configurations", action="store_true", help="Every configuration's raw metrics as well.")
    parser.add_argument("--pairs", action="store_true", help="How often each method is ahead of each other one.")
    parser.add_argument("--table", choices=["main", "1", "2", "4"], help="One of the paper's tables alone.")
    again: dict[str, Any] = {"action": "append", "default": [], "metavar": "FILE"}
    parser.add_argument("--archive", **again, help="Read the sweeps of this file, not the output's (repeatable).")
    parser.add_argument("--write-archive", metavar="FILE", help="Keep what was compared in one file.")
    parser.add_argument("--published", action="store_true", help="Show the paper's results on this corpus as well.")
    parser.add_argument("--baseline", metavar="METHOD", help="All other methods' differences to this one.")
    options, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.cli.next_steps import after_compare, print_next
    from unirex_ray.report.compared_corpora import compare_all
    from unirex_ray.report.table import console

    config, out = build_config(tree), console()
    choice = {**choice_of_sweeps(options), "archives": options.archive}
    found = compare_all(config, tree, choice, published=options.published, baseline=options.baseline)
    asked = {key: getattr(options, key) for key in ("configurations", "pairs", "table")}
    shown = [table for compared in found.corpora.values() for table in compared.to_print(**asked)]
    for table in (*shown, *(found.several.tables.values() if found.several else ())):
        table.print(out)
    for line in found.write(config.output):
        out.print(line, markup=False)
    if options.write_archive:
        out.print(found.write_archive(options.write_archive), markup=False)
    steps = [after_compare(found.configs[name], compared, options) for name, compared in found.corpora.items()]
    print_next([step for of_corpus in steps for step in of_corpus], out)


if __name__ == "__main__":
    exit_on_user_error(main)
