"""Train and evaluate one configuration."""

from __future__ import annotations

import json
import os
import sys

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error
from unirex_ray.files import writable_folder


def main() -> None:
    reads = ("method", "output", "data.", "model.", "loss.", "train.", "sweep.max_failures")
    parser = job_parser("train", __doc__, reads=reads)
    _, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.data.load import load_corpus
    from unirex_ray.data.schema import SPLITS
    from unirex_ray.distributed.train import train_anywhere
    from unirex_ray.methods import get_method
    from unirex_ray.metrics.table import METRICS
    from unirex_ray.report.html import rationale_page
    from unirex_ray.report.table import console
    from unirex_ray.training.learner import TrainingError
    from unirex_ray.training.prepare import choose_precision, prepare

    config, choice = choose_precision(build_config(tree))
    if config.train.threads is None:
        threads = max(1, (os.cpu_count() or 1) // config.train.workers)
        config = config.changed({"train.threads": threads})
    get_method(config.method)  # a wrong name is to be known before a large corpus is read
    output = writable_folder(config.output)
    corpus = load_corpus(config.data)
    out = console()
    for note in (*choice, *prepare(config, corpus)):
        out.print(note, markup=False, soft_wrap=True)
    try:
        result = train_anywhere(config, corpus)
    except TrainingError as error:
        raise SystemExit(f"training failed: {error}") from None
    metrics = dict(sorted(result.metrics.flat().items()))
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    page = rationale_page(result.highlights, title=f"{config.method} on {config.data.name}, seed {config.train.seed}")
    (output / "rationales.html").write_text(page, encoding="utf-8")
    for split in SPLITS[1:]:
        values = [(metric, metrics[metric.on(split)]) for metric in METRICS if metric.on(split) in metrics]
        out.print(f"{split}: " + "  ".join(f"{m.label} {value:z.{m.decimals}f}" for m, value in values), soft_wrap=True)
    out.print(f"best epoch {result.epoch}; perturbed inputs of the losses: {result.perturbation}", markup=False)
    written = "config.yaml, metrics.json, instances.parquet, rationales.html"
    out.print(f"written to {output}: {written}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    exit_on_user_error(main)
