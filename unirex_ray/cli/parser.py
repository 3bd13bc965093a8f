"""The command line of every job: one option per key of the configuration that the job reads, and the job's own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from unirex_ray.cli.calls import program
from unirex_ray.cli.option import read_value, type_in_words
from unirex_ray.config import (
    REMOTE_CODE,
    Tree,
    build_config,
    check_remote_code,
    check_values,
    config_fields,
    config_keys,
    flatten,
    merge,
    present_key,
    unflatten,
)
from unirex_ray.errors import UserError, did_you_mean
from unirex_ray.files import load_yaml
from unirex_ray.sweep.shipped import SpaceFile, glance

ChooseSpace = Callable[[argparse.Namespace, Tree], Path]
"""From a job's own options and the given tree to the file of the space whose presets lie below the tree."""

_HELP = ("-h", "--help")
_COMMON = (
    *("method", "output", "data.name", "data.source", "data.limit", "train.epochs", "train.batch_size"),
    *("train.learning_rate", "train.gpu", "sweep.methods", "sweep.configurations", "sweep.seeds", "tracking.uri"),
)
"""Keys whose options `--help` lists first, with the job's own."""


class Parser(argparse.ArgumentParser):
    """Refuses with a `UserError`: argparse itself prints its usage as well."""

    keys: Collection[str] = ()
    """Of the configuration, that the job reads."""
    defaults: Mapping[str, str] = {}
    """In words, where a job has its own."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            first = unknown.split()[0]
            key = first.split("=")[0].lstrip("-")
            known = [option.lstrip("-") for action in self._actions for option in action.option_strings]
            if not first.startswith("-") and "=" in first and key in known:
                message = f"{first!r} has no dashes: write --{first}"
            elif not first.startswith("-"):
                message = f"{first!r} belongs to no option; options begin with --, and --help lists them"
            elif key in config_keys():
                message = f"{self.prog} does not read --{key}; leave it out (--help lists what it reads)"
            else:
                message = f"unknown option --{key}{did_you_mean(key, known)}; --help lists every key"
        raise UserError(message)


def job_parser(
    job: str,
    description: str,
    *,
    reads: Iterable[str] = ("",),
    leaves: Iterable[str] = (),
    defaults: Mapping[str, str] | None = None,
) -> Parser:
    """A parser to which a job adds options of its own before `parse_job`.

    Args:
        job: its file's name.
        reads: beginnings of the keys that the job reads; by default all.
        leaves: beginnings of those among them that it does not read.
        defaults: what `--help` says of keys whose default is the job's own.
    """
    parser = Parser(prog=program(job), description=description, allow_abbrev=False)
    parser.keys = [key for key in config_keys() if key.startswith(tuple(reads)) and not key.startswith(tuple(leaves))]
    parser.defaults = defaults or {}
    parser.add_argument("--config", metavar="YAML", help="Configuration file; dotted options override it.")
    return parser


def recorded_sweeps_parser(
    job: str, description: str, *, reads: Iterable[str] = (), defaults: Mapping[str, str] | None = None
) -> Parser:
    """A parser of a job that reads recorded sweeps, with options that choose among them (see `choice_of_sweeps`).

    Args:
        reads: beginnings of the keys that the job reads beside those that find the sweeps.
        defaults: see `job_parser`.
    """
    parser = job_parser(
        job,
        description,
        reads=("data.name", "output", "tracking.uri", "sweep.nrg_weights", *reads),
        defaults={"sweep.nrg_weights": "as the sweeps did", **(defaults or {})},
    )
    again: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument("--also", metavar="OUTPUT", **again, help="Another sweep's runs as well (repeatable).")
    parser.add_argument("--sweep-id", dest="sweeps", metavar="ID", **again, help="Only this sweep (repeatable).")
    parser.add_argument("--digest", help="Only sweeps on the data with this digest, or one that starts so.")
    parser.add_argument("--protocol", help="Only sweeps of the protocol with this hash, or one that starts so.")
    parser.add_argument("--unfinished", action="store_true", help="Also sweeps that lack trials, as far as they are.")
    return parser


def choice_of_sweeps(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `open_sweeps`."""
    return {name: getattr(options, name) for name in ("also", "sweeps", "digest", "protocol", "unfinished")}


def parse_job(
    parser: Parser, argv: Sequence[str], choose_space: ChooseSpace | None = None
) -> tuple[argparse.Namespace, Tree]:
    """Parse a job's command line; `--help` prints the defaults that the rest of it leads to.

    Args:
        choose_space: for a job that has one.

    Returns:
        The job's own options, and the configuration tree given by `--config` and dotted options, of the keys that the
        job reads (as a whole not validated yet, so that a job can put presets below it).

    Raises:
        UserError: for unknown options, for values that are wrong by themselves, and for keys that the job does not
            read; in a file these are left out.
    """
    options = {key: _add_option(parser, key) for key in parser.keys}
    argv = [_present_option(argument) for argument in _explicit(argv)]
    helps = any(argument in _HELP for argument in argv)
    if helps:
        parser.usage = _short_usage(parser)
        for action in parser._actions:
            action.required = False
    chosen = parser.parse_args([argument for argument in argv if argument not in _HELP])
    given = {key: read_value(key, text) for key, text in vars(chosen).items() if key in options}
    own = argparse.Namespace(**{name: value for name, value in vars(chosen).items() if name not in options})
    file_tree = _read_file(own.config, parser.keys, given) if own.config else {}
    tree = merge(file_tree, unflatten(given))
    if helps:
        space = None
        try:
            space = glance(choose_space(own, tree)) if choose_space else None
        except UserError as error:
            parser.epilog = f"As it stands, this command is refused: {error}".replace("%", "%%")
        _tell_defaults(parser, options, own, file_tree, space)
        parser.print_help()
        raise SystemExit(0)
    check_values(tree)
    if sys.stderr.isatty():
        print("loading libraries ...", file=sys.stderr)  # what a job prints itself comes seconds later
    return own, tree


def _read_file(path: str, read: Collection[str], given: Collection[str]) -> Tree:
    """A configuration file's keys without those that the job does not read: a resolved one has all."""
    unread = {*config_keys()} - {*read}
    if "method" in given:
        # It names the methods of its sweep as well; who asks for one method means that one.
        unread.add("sweep.methods")
    file_tree = merge(load_yaml(path))
    check_remote_code(path, file_tree, unflatten(dict.fromkeys(given, True)))
    return unflatten({key: value for key, value in flatten(file_tree) if key not in unread})


def _short_usage(parser: Parser) -> str:
    """What cannot be left out; argparse itself lists every option, which takes half a page."""
    required = [action for action in parser._actions if action.required]
    words = [" ".join([*action.option_strings[:1], str(action.metavar or action.dest)]) for action in required]
    return " ".join([parser.prog.replace("%", "%%"), *words, "[options]"])


def _add_option(parser: Parser, key: str) -> argparse.Action:
    title = "options" if key in _COMMON else f"further {key.partition('.')[0]} options"
    group = next((group for group in parser._action_groups if group.title == title), None)
    return (group or parser.add_argument_group(title)).add_argument(
        f"--{key}", metavar=type_in_words(key), default=argparse.SUPPRESS, help=config_fields()[key].description
    )


def _tell_defaults(
    parser: Parser,
    options: Mapping[str, argparse.Action],
    own: argparse.Namespace,
    file_tree: Tree,
    space: SpaceFile | None,
) -> None:
    """Say in each option's help which value it has where it is not given, and which file that comes from."""
    presets = space.presets if space else {}
    values = build_config(presets, file_tree).flat()
    told = {key: _in_words(value) for key, value in values.items() if value is not None} | dict(parser.defaults)
    if space:
        told |= {key: f"{_in_words(values[key])}, from {space.name}" for key in _keys(presets)}
        told |= dict.fromkeys(space.searched, f"searched, as {space.name} says")
    if own.config:
        told |= {key: f"{_in_words(values[key])}, from {Path(own.config).name}" for key in _keys(file_tree)}
    for key, action in options.items():
        default = f" (default: {told[key]})" if key in told else ""
        action.help = f"{action.help}{default}".replace("%", "%%")


def _keys(tree: Tree) -> list[str]:
    return [key for key, _ in flatten(merge(tree))]


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


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
    name, equals, value = argument.partition("=")
    return f"--{present_key(name[2:])}{equals}{value}" if name.startswith("--") else argument
