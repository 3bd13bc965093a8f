"""Search every method's configurations, record each trial in MLflow, and select the best by CNRG."""

from __future__ import annotations

import sys

from unirex_ray.cli.calls import resume_command
from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.errors import exit_on_user_error
from unirex_ray.sweep.shipped import shipped_spaces, space_file


def main() -> None:
    """Parse, build, call."""
    parser = job_parser("sweep", __doc__ or "", leaves=["train.seed"], defaults={"method": "sweep.methods"})
    listed = f"{', '.join(shipped_spaces())}, or a YAML file; default: quick, for reviews only."
    parser.add_argument("--space", metavar="NAME", help=f"What to search, with presets: {listed}")
    parser.add_argument(
        "--resume", action="store_true", help="Continue or enlarge the sweep in --output; start it if there is none."
    )
    parser.add_argument(
        "--warm-start", metavar="OUTPUT", help="A finished sweep of the same protocol, for the searchers to learn from."
    )
    parser.add_argument(
        "--other-code",
        action="store_true",
        help="Have --resume continue a sweep that other code began.",
    )
    options, tree = parse_job(parser, sys.argv[1:], lambda own, tree: space_file(own.space, tree))

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.cli.next_steps import after_sweep, print_next
    from unirex_ray.report.table import console
    from unirex_ray.sweep.finish import print_outcome
    from unirex_ray.sweep.start import start_sweep

    own = {name: getattr(options, name) for name in ("resume", "warm_start", "other_code")}
    outcome, config = start_sweep(options.space, tree, go_on=resume_command(sys.argv), **own)
    out = console()
    print_outcome(outcome, out)
    print_next(after_sweep(outcome, config), out)
    if outcome.shortfall:
        print(f"NOT ALL COMPLETED: {outcome.shortfall}", file=sys.stderr)
    if outcome.not_delivered:
        print(f"NOT IN MLFLOW: the last {outcome.not_delivered} events; see the first command above", file=sys.stderr)
    if outcome.shortfall or outcome.not_delivered:
        raise SystemExit(3)


if __name__ == "__main__":
    exit_on_user_error(main)
