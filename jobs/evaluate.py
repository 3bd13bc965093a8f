"""Evaluate trained models on any corpus, of their own task or another one, and record it in MLflow."""

from __future__ import annotations

import sys

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.errors import exit_on_user_error


def main() -> None:
    train = ("train.gpu", "train.precision", "train.threads", "train.token_budget")
    reads = ("method", "output", "data.", "tracking.uri", "model.trust_remote_code", *train)
    defaults = {"output": "where the models lie", "method": "all in the folder", "train.precision": "each model's"}
    parser = job_parser("evaluate", __doc__, reads=reads, leaves=["data.gold", "data.train_limit"], defaults=defaults)
    what = "Folder of export_best, or a sweep's output: the selected configurations."
    parser.add_argument("--model", dest="folder", required=True, help=what)
    parser.add_argument("--split", default="test", choices=["train", "dev", "test"], help="Default: test.")
    labels = "Labels of the model and of the corpus; default: by name, else by position."
    parser.add_argument("--map", metavar="A=B,...", help=labels)
    options, tree = parse_job(parser, sys.argv[1:])
    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.analysis.transfer import evaluation_rows
    from unirex_ray.cli.next_steps import after_evaluate, print_next
    from unirex_ray.inference.evaluate import evaluate_folder, trial_is_recorded
    from unirex_ray.inference.labels import parse_mapping
    from unirex_ray.report.table import console
    from unirex_ray.report.transfer import transfer_table

    out, label_map = console(), parse_mapping(options.map)
    done = evaluate_folder(
        options.folder,
        tree,
        split=options.split,
        label_map=label_map,
        tell=lambda text: out.print(text, markup=False, soft_wrap=True),
    )
    transfer_table(evaluation_rows(done.evaluations)).print(out)
    out.print(f"written to {done.file}, and to runs at {done.store.uri}", markup=False, soft_wrap=True)
    first, store = done.evaluations[0], done.store
    print_next(after_evaluate(first, done.config, store.uri, with_sweep=trial_is_recorded(store, first)), out)


if __name__ == "__main__":
    exit_on_user_error(main)
