"""Look at an output's runs in MLflow, wherever the output lies."""

from __future__ import annotations

from unirex_ray.cli.calls import program
from unirex_ray.cli.parser import Parser
from unirex_ray.errors import UserError, exit_on_user_error


def main() -> None:
    """Parse, open the store, hand over to MLflow."""
    parser = Parser(prog=program("ui"), description=__doc__, allow_abbrev=False)
    parser.add_argument("output", nargs="?", default="output", help="Folder of a sweep or evaluation; default: output.")
    parser.add_argument("--port", type=int, default=5000, help="On this machine, for nobody else; default: 5000.")
    options = parser.parse_args()
    if not 0 < options.port < 65536:
        raise UserError(f"--port must be from 1 to 65535, but got {options.port}")

    # Only now, as they take seconds: --help and refusals answer at once.
    from unirex_ray.report.table import console
    from unirex_ray.tracking.choose import uri_of_output
    from unirex_ray.tracking.mlflow_ui import address, pages, serve

    out = console()
    uri = uri_of_output(options.output, "output")
    if uri.startswith("http"):
        out.print(f"recorded at an MLflow server: open {uri}", markup=False, soft_wrap=True)
        return
    at = address(options.port)
    for name, page in pages(uri).items():
        out.print(f"{name}: {at}{page}", markup=False, soft_wrap=True)
    out.print("MLflow starts, which takes some seconds; Ctrl-C ends it", markup=False, soft_wrap=True)
    serve(uri, options.port)


if __name__ == "__main__":
    exit_on_user_error(main)
