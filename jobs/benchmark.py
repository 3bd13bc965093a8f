"""Measure the engine: step and evaluation as multiples of plain fine-tuning and prediction.

python jobs/benchmark.py engine --json
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import torch
from rich.console import Console
from rich.table import Table

from unirex_ray.benchmark import WORKLOADS, measure_engine
from unirex_ray.config import build_config, job_parser, parse_job
from unirex_ray.errors import UserError, exit_on_user_error


def main() -> None:
    parser = job_parser("benchmark.py", __doc__)
    parser.add_argument("what", choices=["engine"], help="What to measure.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    parser.add_argument("--runs", type=int, default=7, help="Interleaved runs; medians are shown (at least 5).")
    options, tree = parse_job(parser, sys.argv[1:])
    config = build_config(tree)
    if options.runs < 5:
        raise UserError(f"--runs must be at least 5, but got {options.runs}")
    torch.set_num_threads(config.train.threads or os.cpu_count() or 1)
    results = {name: measure_engine(config, load, runs=options.runs) for name, load in WORKLOADS.items()}
    if options.json:
        shown = {name: asdict(result) for name, result in results.items()}
        print(json.dumps({"method": config.method, "threads": torch.get_num_threads(), **shown}, indent=2))
        return
    table = Table(title=f"{config.method}, {config.model.encoder}, {torch.get_num_threads()} threads", box=None)
    for column in ("lengths", "step", "evaluation", "logits differ", "loss differs", "gradient differs (relative)"):
        table.add_column(column, justify="right")
    for name, result in results.items():
        differences = (result.logits_difference, result.loss_difference, result.gradient_difference)
        table.add_row(name, f"{result.step:.2f}x", f"{result.evaluation:.2f}x", *(f"{d:.1e}" for d in differences))
    Console().print(table, "step: of plain fine-tuning; evaluation: of plain prediction; lower is better")


if __name__ == "__main__":
    exit_on_user_error(main)
