"""The command line of every job: one option per key of the configuration tree, and the job's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic_settings import BaseSettings, CliSettingsSource, SettingsError

from unirex_ray.config import (
    REMOTE_CODE,
    Config,
    Tree,
    check_remote_code,
    config_keys,
    flatten,
    load_yaml,
    merge,
    present_key,
    unflatten,
)
from unirex_ray.errors import UserError, did_you_mean


class Parser(argparse.ArgumentParser):
    """Refuses with a `UserError`: argparse itself prints its usage as well."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            key = unknown.split()[0].split("=")[0].lstrip("-")
            message = f"unknown option --{key}{did_you_mean(key, config_keys())}; --help lists every key"
        raise UserError(message)


class _Settings(Config, BaseSettings):  # type: ignore[misc]
    """`Config` as pydantic-settings wants it, for its command line alone."""


def job_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser to which a job adds options of its own before `parse_job`."""
    parser = Parser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("--config", metavar="YAML", help="Configuration file; dotted options override it.")
    return parser


def parse_job(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, Tree]:
    """Parse a job's command line.

    Returns:
        The job's own options, and the configuration tree given by `--config` and dotted options (not validated yet,
        so that a job can put presets below it).

    Raises:
        UserError: for what cannot be parsed, and for a file that allows remote code.
    """
    argv = [_present_option(argument) for argument in _explicit(argv)]
    source: CliSettingsSource[Any] = CliSettingsSource(
        _Settings,
        root_parser=parser,
        cli_parse_args=argv,
        cli_prog_name=parser.prog,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_parse_none_str="null",
        add_argument_method=_add_unless_taken,
    )
    options = parser.parse_args(argv)
    file_tree = load_yaml(options.config) if options.config else {}
    try:
        given = source()
        check_remote_code(options.config, file_tree, given)
        if "method" in given:
            # A resolved configuration names the methods of its sweep; who asks for one method means that one.
            file_tree = unflatten({key: value for key, value in flatten(file_tree) if key != "sweep.methods"})
        return options, merge(file_tree, given)
    except SettingsError as error:
        raise UserError(f"{error} ({error.__cause__})") from None


def add_remote_code(parser: argparse.ArgumentParser) -> None:
    """The option `--model.trust_remote_code` for a job without a configuration tree."""
    parser.add_argument(
        f"--{REMOTE_CODE}",
        dest="trust_remote_code",
        nargs="?",
        choices=["true", "false"],
        const="true",
        default="false",
        help="Run Python code that ships with the model's encoder.",
    )


def _explicit(argv: Sequence[str]) -> list[str]:
    """Arguments with the value of a bare `--model.trust_remote_code`."""
    following = [*argv[1:], "--"]
    return [
        f"{argument}=true" if argument == f"--{REMOTE_CODE}" and after.startswith("--") else argument
        for argument, after in zip(argv, following, strict=False)
    ]


def _present_option(argument: str) -> str:
    """An option with the name that its key has now."""
    option, equals, value = argument.partition("=")
    return f"--{present_key(option[2:])}{equals}{value}" if option.startswith("--") else argument


def _add_unless_taken(container: argparse._ActionsContainer, *names: str, **options: Any) -> Any:
    """A job's own option stands before a section's, such as `--model`, which nobody gives as a whole."""
    return None if set(names) & container._option_string_actions.keys() else container.add_argument(*names, **options)
