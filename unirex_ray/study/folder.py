"""A study's folder: the key, and what annotators get in each of the ways in which they may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from unirex_ray.config import Config, Tree, build_config
from unirex_ray.data.load import load_corpus
from unirex_ray.errors import UserError
from unirex_ray.files import new_folder
from unirex_ray.study.argilla import argilla_files
from unirex_ray.study.form import form_page
from unirex_ray.study.label_studio import label_studio_files
from unirex_ray.study.make import Request, make_study
from unirex_ray.study.manifest import Study, write_study
from unirex_ray.study.sheet import sheet_of
from unirex_ray.study.sheets import csv_files
from unirex_ray.study.simulated import Simulated, simulate, write_simulated

FORMS, REPORTS = "forms", "report"
STUDY = "study"
"""Folder of a study, unless another one is named."""


@dataclass(frozen=True, kw_only=True)
class MadeFolder:
    """A study on disk.

    Attributes:
        simulated: what simulated annotators make of it; None where there are none.
        about_simulated: why there are none, in words; empty where there are, or none were asked for.
    """

    folder: Path
    study: Study
    config: Config
    simulated: Simulated | None
    about_simulated: str = ""


def make_folder(request: Request, tree: Tree, *, tell: Callable[[str], None] = print) -> MadeFolder:
    """Draw a study, simulate its annotators, and write all of it.

    Args:
        tree: as the user gave it; the output is `STUDY` where it names none.
        tell: is given a line for each step.

    Raises:
        UserError: as `make_study` and `write_folder`; before models are read, where the folder is in use.
    """
    config = build_config({"output": STUDY}, tree)
    folder = Path(config.output).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{str(folder)!r} is not empty; choose another --output")
    corpus = load_corpus(config.data)
    why = "choices differ from text to text" if corpus.multi_choice else ""
    if not corpus.has_gold("train"):
        why = "the train split has no gold rationales"
    asked = request.train_instances > 0
    made = make_study(replace(request, train_instances=0) if why else request, corpus, config, tell=tell)
    simulated = None
    if made.train.instances:
        tell(f"{len(made.study.sheets)} simulated annotators learn from {len(made.train.instances)} train instances")
        simulated = simulate(made.study, made.train)
    write_folder(folder, made.study, simulated)
    return MadeFolder(
        folder=folder,
        study=made.study,
        config=config,
        simulated=simulated,
        about_simulated=f"No simulated annotators: {why}." if asked and why else "",
    )


def write_folder(folder: Path, study: Study, simulated: Simulated | None) -> None:
    """Write a new study as a whole.

    Args:
        folder: absolute.

    Raises:
        UserError: if it holds something, or cannot be written.
    """
    with new_folder(folder, "output") as partial:
        for name, text in files_of(study).items():
            file = partial / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        if simulated is not None:
            write_simulated(partial, study, simulated)
        write_study(partial, study)


def files_of(study: Study) -> Mapping[str, str]:
    """All that annotators get, by path."""
    forms = {f"{FORMS}/{annotator}.html": form_page(sheet_of(study, annotator)) for annotator in study.sheets}
    return {**forms, **label_studio_files(study), **argilla_files(study), **csv_files(study)}
