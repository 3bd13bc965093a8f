"""jobs/sweep.py with the fake train function, in another process: `fake_sweep.py SPACE [--resume] OPTIONS`."""

import sys

from helpers.fake_trainer import train_fake

from unirex_ray.cli.calls import resume_command
from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error
from unirex_ray.report.table import console
from unirex_ray.sweep.finish import print_outcome
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.space import load_space


def main() -> None:
    parser = job_parser("fake_sweep.py", "")
    parser.add_argument("--space")
    parser.add_argument("--resume", action="store_true")
    options, tree = parse_job(parser, sys.argv[1:])
    space = load_space(options.space)
    config = build_config(space.presets, tree)
    go_on = resume_command(sys.argv)
    outcome = run_sweep(config, space, resume=options.resume, train_function=train_fake, go_on=go_on)
    print_outcome(outcome, console())


if __name__ == "__main__":
    exit_on_user_error(main)
