"""Measure speed; --method=all: of every method.

engine: a step and an evaluation as multiples of plain fine-tuning and prediction. trial: where a trial's seconds go.
extraction: the time column of the paper's Table 4, which compare then shows. search: what a sweep's schedule and
searcher cost. data: what preparing a corpus of e-SNLI's size costs.
certainty: how often intervals hold the truth, in simulated experiments.
"""

from __future__ import annotations

import json
import sys

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.errors import UserError, exit_on_user_error

_OF_THE_ENGINE = ("seed", "gpu", "threads", "precision", "token_budget", "activation_checkpointing")
_READS = {
    "engine": ("method", "model.", "loss.", *(f"train.{key}" for key in _OF_THE_ENGINE)),
    "trial": ("method", "model.", "loss.", "data.", "train."),
    "extraction": ("model.", "data.", "output", "train.batch_size", *(f"train.{key}" for key in _OF_THE_ENGINE)),
    "data": ("model.", "data.max_length"),
    "search": (),
    "certainty": (),
}


def main() -> None:
    what = next((argument for argument in sys.argv[1:] if argument in _READS), "engine")
    parser = job_parser("benchmark", __doc__ or "", reads=_READS[what])
    parser.add_argument("what", choices=_READS, help="What to measure.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    parser.add_argument("--runs", type=int, default=7, help="engine, extraction: interleaved runs, at least 5.")
    lengths = "engine: texts as long as this corpus'; default: each."
    parser.add_argument("--lengths", choices=["sst", "movies"], help=lengths)
    parser.add_argument("--instances", type=int, default=549_309, help="data: train instances; default: as e-SNLI.")
    options, tree = parse_job(parser, sys.argv[1:])
    if options.runs < 5 or options.instances < 3:
        raise UserError(f"--runs must be at least 5, --instances 3, but are {options.runs} and {options.instances}")

    # Only now, as they take seconds: --help and refusals answer at once.
    import torch

    from unirex_ray.api.train import cpus_here
    from unirex_ray.benchmarks.table import configs_by_method, measure
    from unirex_ray.report.table import console

    configs = configs_by_method(tree)
    config = next(iter(configs.values()))
    torch.set_num_threads(config.train.threads or cpus_here())
    measured = measure(what, configs, lengths=options.lengths, runs=options.runs, instances=options.instances)
    if not options.json:
        return measured.print(console())
    about = {"encoder": config.model.encoder, "threads": torch.get_num_threads(), "precision": config.train.precision}
    print(json.dumps({**(about if _READS[what] else {}), "results": measured.records}, indent=2))


if __name__ == "__main__":
    exit_on_user_error(main)
