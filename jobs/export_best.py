"""Export the best trial of a sweep: weights, tokenizer, configuration, metrics, model card and provenance."""

from __future__ import annotations

import sys
from pathlib import Path

from unirex_ray.cli.parser import choice_of_sweeps, parse_job, recorded_sweeps_parser
from unirex_ray.config import build_config
from unirex_ray.errors import exit_on_user_error


def main() -> None:
    parser = recorded_sweeps_parser(
        "export_best",
        __doc__ or "",
        reads=("method", "model.trust_remote_code"),
        defaults={"method": "the best of all"},
    )
    parser.add_argument(
        "--even-if-not-better", action="store_true", help="Also a model that is not better than the majority class."
    )
    parser.add_argument("--folder", help="Where to write; default: OUTPUT/model.")
    parser.add_argument("--register", metavar="NAME", help="Also a version of this model in MLflow's registry.")
    options, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.cli.next_steps import after_export, after_register, print_next
    from unirex_ray.inference.export import export, output_of, select_trial
    from unirex_ray.inference.registered import check_registered, register
    from unirex_ray.models.card import read_saved
    from unirex_ray.report.table import console
    from unirex_ray.tracking.choose import configured_weights, open_sweeps, weights_of

    config = build_config(tree)
    if options.register is not None:
        check_registered(options.register, config)
    store, sweeps = open_sweeps(config, **choice_of_sweeps(options))
    weights = weights_of(sweeps, configured_weights(config, tree))
    selected = select_trial(sweeps, weights, tree.get("method"), even_if_not_better=options.even_if_not_better)
    folder = Path(options.folder or f"{config.output}/model")
    trusts = config.model.trust_remote_code
    output, uri = output_of(selected, [config.output, *options.also]), store.uri_of(selected.sweep)
    exported = export(selected, output, folder, tracking_uri=uri, trust_remote_code=trusts)
    here = exported.changed({"output": str(output)})
    out = console()
    out.print(f"exported trial {selected.record.spec.trial_id} to {folder}", markup=False, soft_wrap=True)
    if "method" not in tree:
        out.print("selected on dev; how it does on test, compare says; --method=... exports another method's best")
    served = []
    if options.register is not None:
        version = register(selected, folder, name=options.register, corpus=config.data.name, uri=uri)
        out.print(f"registered as version {version} of {options.register} at {uri}", markup=False, soft_wrap=True)
        served = after_register(options.register, version, uri)
    print_next(after_export(str(folder), here, read_saved(folder).card) + served, out)


if __name__ == "__main__":
    exit_on_user_error(main)
