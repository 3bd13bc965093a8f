"""Measure the engine: step and evaluation as multiples of plain fine-tuning and prediction; --method=all: of each.

python jobs/benchmark.py engine --json; python jobs/benchmark.py data: what preparing a corpus of e-SNLI's size costs.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import torch

from unirex_ray.benchmarks.data import measure_data
from unirex_ray.benchmarks.engine import WORKLOADS, measure_engine
from unirex_ray.benchmarks.table import engine_table
from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import UserError, exit_on_user_error
from unirex_ray.methods import METHODS
from unirex_ray.report.table import console


def main() -> None:
    trained = ("seed", "gpu", "threads", "precision", "token_budget", "activation_checkpointing")
    reads = ["method", "model.", "loss.", "data.max_length", *(f"train.{key}" for key in trained)]
    parser = job_parser("benchmark.py", __doc__, reads=reads)
    parser.add_argument("what", choices=["engine", "data"], help="What to measure.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    parser.add_argument("--runs", type=int, default=7, help="Interleaved runs; medians are shown (at least 5).")
    parser.add_argument("--lengths", choices=WORKLOADS, help="Texts as long as this corpus'; default: each.")
    parser.add_argument("--instances", type=int, default=549_309, help="For data: train instances; default: as e-SNLI.")
    options, tree = parse_job(parser, sys.argv[1:])
    methods = tuple(METHODS) if tree.get("method") == "all" else (build_config(tree).method,)
    config = build_config(tree, {"method": methods[0]})
    if options.runs < 5 or options.instances < 3:
        raise UserError(f"--runs must be at least 5, --instances 3, but are {options.runs} and {options.instances}")
    if options.what == "data":
        print(json.dumps(asdict(measure_data(config, options.instances)), indent=2))
        return
    torch.set_num_threads(config.train.threads or os.cpu_count() or 1)
    results = [
        (method, name, result)
        for method in methods
        for name, load in WORKLOADS.items()
        if options.lengths in (None, name)
        for result in measure_engine(config.changed({"method": method}), load, runs=options.runs)
    ]
    table = engine_table(results)
    if options.json:
        machine = {"encoder": config.model.encoder, "threads": torch.get_num_threads()}
        print(json.dumps({**machine, "results": table.records}, indent=2))
        return
    table.print(console())


if __name__ == "__main__":
    exit_on_user_error(main)
