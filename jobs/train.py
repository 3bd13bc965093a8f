"""Train and evaluate one configuration."""

from __future__ import annotations

import sys
from pathlib import Path

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error


def main() -> None:
    reads = ("method", "output", "data.", "model.", "loss.", "train.", "sweep.max_failures")
    parser = job_parser("train", __doc__, reads=reads)
    _, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.api.train import WRITTEN, train_in_output
    from unirex_ray.data.schema import SPLITS
    from unirex_ray.metrics.table import METRICS
    from unirex_ray.report.table import console
    from unirex_ray.training.learner import TrainingError

    config, out = build_config(tree), console()
    try:
        result = train_in_output(config, lambda note: out.print(note, markup=False, soft_wrap=True))
    except TrainingError as error:
        raise SystemExit(f"training failed: {error}") from None
    metrics = result.metrics.flat()
    for split in SPLITS[1:]:
        values = [(metric, metrics[metric.on(split)]) for metric in METRICS if metric.on(split) in metrics]
        out.print(f"{split}: " + "  ".join(f"{m.label} {value:z.{m.decimals}f}" for m, value in values), soft_wrap=True)
    out.print(f"best epoch {result.epoch}; perturbed inputs of the losses: {result.perturbation}", markup=False)
    out.print(f"written to {Path(config.output).absolute()}: {WRITTEN}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    exit_on_user_error(main)
