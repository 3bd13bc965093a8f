"""Bring MLflow up to date with a sweep's output: after it was away, or with a database that was lost."""

from __future__ import annotations

import sys

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error


def main() -> None:
    """Parse, build, call."""
    where = {"tracking.uri": "where the sweep was recorded"}
    parser = job_parser("sync", __doc__ or "", reads=("output", "tracking.uri"), defaults=where)
    _, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.cli.next_steps import after_sync, print_next
    from unirex_ray.report.table import console
    from unirex_ray.sweep.recording import sync

    out = console()
    synced = sync(build_config(tree), lambda text: out.print(text, markup=False, soft_wrap=True))
    out.print(synced.told(), markup=False, soft_wrap=True)
    print_next(after_sync(synced), out)


if __name__ == "__main__":
    exit_on_user_error(main)
