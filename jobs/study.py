"""The paper's user study: make forms, serve them, analyse the answers.

make: draws instances, and writes a form per annotator with the rationales of models. serve: the forms from a small web
server of your own. analyse: the paper's Tables 3 and 5 from the answers, with intervals and agreement.
"""

from __future__ import annotations

import sys

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.cli.study import READS, add_options
from unirex_ray.errors import exit_on_user_error


def main() -> None:
    what = next((argument for argument in sys.argv[1:] if argument in READS), "make")
    parser = job_parser(
        "study", __doc__ or "", reads=READS[what], leaves=("data.train_limit",), defaults={"output": "study"}
    )
    parser.add_argument("what", choices=READS, help="What to do.")
    add_options(parser, what)
    options, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.cli.next_steps import print_next
    from unirex_ray.cli.study_commands import analyse, make, serve
    from unirex_ray.report.table import console

    out = console()
    print_next({"make": make, "serve": serve, "analyse": analyse}[what](options, tree, out), out)


if __name__ == "__main__":
    exit_on_user_error(main)
