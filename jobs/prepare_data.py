"""Read, check and tokenise a corpus before anything trains on it, and show what it holds."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import build_config
from unirex_ray.errors import UserError, exit_on_user_error
from unirex_ray.files import writable_folder


def main() -> None:
    reads = ("data.", "model.encoder", "model.revision", "model.trust_remote_code", "output")
    parser = job_parser("prepare_data", __doc__, reads=reads, leaves=("data.gold", "data.train_limit"))
    parser.add_argument("--json", action="store_true", help="Print the counts as JSON, and no instances.")
    parser.add_argument("--show", type=int, default=3, help="Instances to print with their rationales; default: 3.")
    options, tree = parse_job(parser, sys.argv[1:])

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.cli.next_steps import after_prepare, print_next
    from unirex_ray.data.load import load_corpus
    from unirex_ray.data.statistics import corpus_statistics
    from unirex_ray.models.encoder import load_encoder
    from unirex_ray.report.corpus import corpus_page, first_instances, print_corpus
    from unirex_ray.report.html import rationale_text
    from unirex_ray.report.table import console
    from unirex_ray.training.prepare import prepared_corpus

    if options.show < 0:
        raise UserError(f"--show must be at least 0, but got {options.show}")
    config = build_config(tree)
    output = writable_folder(config.output)
    load_encoder(config.model, weights=False)  # a wrong name is to be known before a large corpus is read
    started = time.perf_counter()
    corpus = load_corpus(config.data)
    encoded = prepared_corpus(config, corpus)
    found = corpus_statistics(corpus, encoded)
    seconds = time.perf_counter() - started
    file = output / f"data-{corpus.name}.html"
    file.write_text(corpus_page(corpus, encoded), encoding="utf-8")
    if options.json:
        print(json.dumps({**asdict(found), "seconds": seconds, "page": str(file)}, indent=2))
        return
    out = console()
    print_corpus(found, out)
    for shown in first_instances(corpus, encoded, options.show):
        out.print(rationale_text(shown, plain=not out.is_terminal), soft_wrap=True)
    out.print(f"prepared in {seconds:.1f} s; instances to look at: {file}", markup=False, soft_wrap=True)
    print_next(after_prepare(corpus, tree), out)


if __name__ == "__main__":
    exit_on_user_error(main)
