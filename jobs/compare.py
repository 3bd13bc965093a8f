"""Compare methods on one corpus by global NRG, from the runs that sweeps recorded."""

import sys

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
    parser.add_argument("--published", action="store_true", help="Show the paper's results on this corpus as well.")
    options, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.analysis.compare import compare, with_certainty, write_back
    from unirex_ray.analysis.gold_efficiency import gold_efficiency
    from unirex_ray.analysis.paper import compare_with_paper, require_published
    from unirex_ray.analysis.transfer import transfer_rows
    from unirex_ray.cli.next_steps import after_compare, print_next
    from unirex_ray.report.files import comparison_tables, write_comparison
    from unirex_ray.report.table import console
    from unirex_ray.tracking.choose import configured_weights, open_sweeps, weights_of

    config = build_config(tree)
    paper = require_published(config.data.name) if options.published else None
    store, sweeps = open_sweeps(config, **choice_of_sweeps(options))
    weights = weights_of(sweeps, configured_weights(config, tree))
    comparison = with_certainty(compare(config.data.name, sweeps, weights), store.artifact, weights)
    against_paper = compare_with_paper(comparison.raw, paper, weights, left_out=comparison.unranked) if paper else None
    efficiency = gold_efficiency(comparison.variants, weights)
    transfer = transfer_rows(comparison, store.evaluations(comparison.experiment))

    tables = comparison_tables(comparison, against_paper, efficiency, transfer)
    written = write_comparison(comparison, config.output, tables, efficiency)
    write_back(store.log_scores, comparison)

    out = console()
    for name, table in tables.items():
        if name not in ("configurations", "pairs") or getattr(options, name):
            table.print(out)
    out.print(f"Sweeps: {', '.join(comparison.sweeps)}; data digest {comparison.digest}.", markup=False)
    out.print(f"Wrote {', '.join(written)} to {config.output}, and NRG to the runs at {store.uri}.", markup=False)
    print_next(after_compare(config, store.uri, comparison, options.sweeps, options.also), out)


if __name__ == "__main__":
    exit_on_user_error(main)
