"""Predict a text with an exported model and show the rationale, in the terminal or as an HTML page."""

from __future__ import annotations

from pathlib import Path

import unirex_ray
from unirex_ray.cli.calls import program
from unirex_ray.cli.given_text import check_choices, given_text
from unirex_ray.cli.parser import Parser, add_remote_code
from unirex_ray.errors import UserError, exit_on_user_error


def main() -> None:
    parser = Parser(prog=program("explain"), description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, metavar="FOLDER", help="What the job `export_best` wrote.")
    parser.add_argument("--text", help="The text to predict.")
    parser.add_argument("--second", help="The second text of a pair, for a model that was trained on pairs.")
    parser.add_argument(
        "--choice",
        action="append",
        metavar="TEXT",
        help="A text to choose from, once for each, in the order of the labels; for pairs, each goes behind --text.",
    )
    parser.add_argument("--top-k-percent", type=int, default=20, help="Size of the rationale; default: 20.")
    parser.add_argument("--html", metavar="FILE", help="Write a page instead of printing.")
    add_remote_code(parser)
    options = parser.parse_args()
    if not 1 <= options.top_k_percent <= 100:
        raise UserError(f"--top-k-percent must be from 1 to 100, but got {options.top_k_percent}")
    text = given_text(options.text, options.second, options.choice)
    model = unirex_ray.load_model(options.model, trust_remote_code=options.trust_remote_code == "true")
    check_choices(options.choice, model)
    explanation = model.explain([text], top_k_percent=options.top_k_percent)[0]
    shown = explanation.highlighted()

    # Only now, as they take a while: --help and refusals answer at once.
    from unirex_ray.report.html import rationale_page, rationale_text
    from unirex_ray.report.table import console

    out = console()
    if options.html:
        page = rationale_page([shown], title=f"Rationale by {options.model}")
        try:
            Path(options.html).write_text(page, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write --html {options.html!r}: {error.strerror}") from None
        out.print(f"written to {options.html}", markup=False, soft_wrap=True)
        return
    out.print(rationale_text(shown, plain=not out.is_terminal), soft_wrap=True, end="")
    out.print(explanation.told(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    exit_on_user_error(main)
