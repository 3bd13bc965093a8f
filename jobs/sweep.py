"""Search every method's configurations, record each trial in MLflow, and select the best by CNRG."""

from __future__ import annotations

import sys
from pathlib import Path

from unirex_ray.cli.next_steps import after_sweep, print_next
from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config, check_remote_code, flatten
from unirex_ray.errors import exit_on_user_error
from unirex_ray.report.table import console
from unirex_ray.sweep.finish import print_outcome
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.space import load_space

QUICK = Path(__file__).resolve().parent.parent / "search_spaces" / "quick.yaml"


def main() -> None:
    """Parse, build, call."""
    parser = job_parser("sweep.py", __doc__ or "")
    parser.add_argument(
        "--space", metavar="YAML", default=str(QUICK), help="What to search, and presets; default: quick.yaml."
    )
    parser.add_argument(
        "--resume", action="store_true", help="Continue the sweep in --output; start it if there is none."
    )
    options, tree = parse_job(parser, sys.argv[1:])
    space = load_space(options.space)
    check_remote_code(options.space, space.presets, tree)
    config = build_config(space.presets, tree)
    fixed = {key for key, _ in flatten(tree)}
    outcome = run_sweep(config, space, fixed=fixed, resume=options.resume)
    out = console()
    print_outcome(outcome, out)
    print_next(after_sweep(outcome, config), out)
    if outcome.best is None:
        raise SystemExit("no configuration completed: see the reasons above")


if __name__ == "__main__":
    exit_on_user_error(main)
