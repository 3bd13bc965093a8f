"""Which search space a sweep takes: one that ships with the package, by name, or a file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from unirex_ray.config import Config, Tree, present_key
from unirex_ray.errors import UserError, did_you_mean
from unirex_ray.files import load_yaml

DEMO = "quick"


@dataclass(frozen=True, kw_only=True)
class SpaceFile:
    """What a space's file says of the configuration, unchecked.

    Attributes:
        presets: values below those that are given.
        searched: keys that have no value of their own.
    """

    name: str
    presets: Tree
    searched: Collection[str]


def shipped_spaces() -> dict[str, Path]:
    """Files of the shipped spaces by name: within the installed package, or next to it in a copy of the repository."""
    package = Path(__file__).parents[1]
    packaged, in_repository = package / "search_spaces", package.parent / "search_spaces"
    folder = packaged if packaged.is_dir() else in_repository
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def space_file(space: str | None, tree: Tree) -> Path:
    """The file of the space that a sweep takes.

    Args:
        space: as given, a shipped space's name or a file; None for the demo's, if it is the demo's corpus.
        tree: the configuration as given, whose corpus counts.

    Raises:
        UserError: if it is neither name nor file; if none is given for a corpus of the user's own.
    """
    shipped = shipped_spaces()
    listed = f"{', '.join(shipped)}, or a YAML file of your own"
    if space is None:
        _check_demo_corpus(tree, listed)
        space = DEMO
    file = shipped.get(space) or Path(space).expanduser()
    if not file.is_file():
        raise UserError(
            f"--space {space!r} is no file and no space{did_you_mean(space, shipped)}; choose from {listed}"
        )
    return file


def glance(file: Path) -> SpaceFile:
    """Read a space for `--help`, which shows it; `sweep.space` checks it for a sweep."""
    read = load_yaml(file)
    presets, searched = (
        section if isinstance(section := read.get(key), dict) else {} for key in ("config", "parameters")
    )
    return SpaceFile(name=file.name, presets=presets, searched=tuple(map(present_key, searched)))


def _check_demo_corpus(tree: Tree, listed: str) -> None:
    demo, data = Config().data.name, tree.get("data")
    name = data.get("name", demo) if isinstance(data, dict) else demo
    if name == demo or not isinstance(name, str):  # what is no name is refused with the other values
        return
    from unirex_ray.data.load import check_name  # takes seconds, which --help need not wait for

    check_name(name)
    raise UserError(f"data.name={name} needs a search space: give --space paper, or another of {listed}")
