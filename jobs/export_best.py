"""Export the best trial of a sweep: weights, tokenizer, configuration, metrics, model card and provenance."""

from __future__ import annotations

import sys
from pathlib import Path

from unirex_ray.cli.next_steps import after_export, print_next
from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error
from unirex_ray.inference.export import export, select_trial
from unirex_ray.report.table import console
from unirex_ray.tracking.choose import configured_weights, open_sweeps, weights_of


def main() -> None:
    parser = job_parser("export_best.py", f"{__doc__} With --method, the best of that method.")
    parser.add_argument("--sweep-id", action="append", default=[], metavar="ID", help="Only this sweep (repeatable).")
    parser.add_argument("--digest", help="Only sweeps on the data with this digest, or one that starts so.")
    parser.add_argument("--folder", help="Where to write; default: OUTPUT/model.")
    options, tree = parse_job(parser, sys.argv[1:])
    config = build_config(tree)
    store, sweeps = open_sweeps(config, sweeps=options.sweep_id, digest=options.digest)
    weights = weights_of(sweeps, configured_weights(config, tree))
    selected = select_trial(sweeps, weights, tree.get("method"))
    folder = Path(options.folder or f"{config.output}/model")
    trusts = config.model.trust_remote_code
    exported = export(selected, Path(config.output), folder, tracking_uri=store.uri, trust_remote_code=trusts)
    out = console()
    out.print(f"exported trial {selected.record.spec.trial_id} to {folder}", markup=False, soft_wrap=True)
    print_next(after_export(str(folder), exported), out)


if __name__ == "__main__":
    exit_on_user_error(main)
