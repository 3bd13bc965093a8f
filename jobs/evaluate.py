"""Evaluate trained models on any corpus, of their own task or another one, and record it in MLflow."""

from __future__ import annotations

import sys
from pathlib import Path

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error
from unirex_ray.files import writable_folder


def main() -> None:
    train = ("train.gpu", "train.precision", "train.threads", "train.token_budget")
    reads = ("method", "output", "data.", "tracking.uri", "model.trust_remote_code", *train)
    defaults = {"output": "where the models lie", "method": "all in the folder", "train.precision": "each model's"}
    parser = job_parser("evaluate", __doc__, reads=reads, leaves=["data.gold"], defaults=defaults)
    what = "Folder of export_best, or a sweep's output: the selected configurations."
    parser.add_argument("--model", dest="folder", required=True, help=what)
    parser.add_argument("--split", default="test", choices=["train", "dev", "test"], help="Default: test.")
    labels = "Labels of the model and of the corpus; default: by name, else by position."
    parser.add_argument("--map", metavar="A=B,...", help=labels)
    options, tree = parse_job(parser, sys.argv[1:])
    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.analysis.transfer import evaluation_rows
    from unirex_ray.cli.next_steps import after_evaluate, print_next
    from unirex_ray.data.load import load_corpus
    from unirex_ray.inference.evaluate import evaluate, record, trial_is_recorded, write_evaluations
    from unirex_ray.inference.find import find_models, of_method
    from unirex_ray.inference.labels import parse_mapping
    from unirex_ray.report.table import console
    from unirex_ray.report.transfer import transfer_table
    from unirex_ray.tracking.choose import store_of
    from unirex_ray.tracking.mlflow_store import MlflowStore
    from unirex_ray.tracking.records import Evaluation

    trusts = build_config(tree).model.trust_remote_code
    folder = find_models(Path(options.folder).expanduser(), trust_remote_code=trusts)
    models = of_method(folder.models, tree.get("method"))
    config = build_config({"output": str(folder.output)}, tree)
    output, corpus = writable_folder(config.output), load_corpus(config.data)
    evaluations = evaluate(models, corpus, config, split=options.split, label_map=parse_mapping(options.map))
    store, out, done = MlflowStore(store_of(config)), console(), list[Evaluation]()
    for evaluated in evaluations:
        record(store, evaluated, config, options.folder)
        for note in () if done else evaluated.notes:
            out.print(note, markup=False, soft_wrap=True)
        done.append(evaluated.evaluation)
        out.print(f"{len(done)} of {len(models)}: {done[-1].method}, seed {done[-1].seed}", markup=False)
    transfer_table(evaluation_rows(done)).print(out)
    file = write_evaluations(output, done, config, options.folder)
    out.print(f"written to {file}, and to runs at {store.uri}", markup=False, soft_wrap=True)
    print_next(after_evaluate(done[0], config, store.uri, with_sweep=trial_is_recorded(store, done[0])), out)


if __name__ == "__main__":
    exit_on_user_error(main)
