"""Compare methods on one corpus by global NRG, from the runs that sweeps recorded."""

import sys

from unirex_ray.compare import choose_sweeps, compare, write_back
from unirex_ray.config import build_config, job_parser, parse_job
from unirex_ray.errors import UserError, exit_on_user_error
from unirex_ray.report.files import write_comparison
from unirex_ray.report.tables import console, print_comparison
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.store import resolve_tracking_uri


def main() -> None:
    """Parse, read the runs, compare, print and write."""
    parser = job_parser("compare.py", __doc__ or "")
    parser.add_argument("--sweep-id", action="append", default=[], metavar="ID", help="Only this sweep (repeatable).")
    parser.add_argument("--digest", help="Only sweeps on the data with this digest, or one that starts so.")
    options, tree = parse_job(parser, sys.argv[1:])
    config = build_config(tree)
    uri = resolve_tracking_uri(config)
    store = MlflowStore(uri)
    corpus = config.data.name
    sweeps = choose_sweeps(store.sweeps(corpus), sweeps=options.sweep_id, digest=options.digest)
    if not sweeps:
        raise UserError(
            f"no finished trials on {corpus!r} at {uri}: run python jobs/sweep.py --data.name={corpus} first"
        )
    comparison = compare(corpus, sweeps, config.sweep.nrg_weights)

    write_comparison(comparison, config.output)
    write_back(store, comparison)

    out = console()
    print_comparison(comparison, out)
    out.print(f"Sweeps: {', '.join(comparison.sweeps)}; data digest {comparison.digest}.", markup=False)
    out.print(
        f"Wrote comparison.csv, .md and two charts to {config.output}, and NRG to the runs at {uri}.", markup=False
    )
    out.print(f"Next: python jobs/export_best.py --data.name={corpus} --output={config.output}", markup=False)


if __name__ == "__main__":
    exit_on_user_error(main)
