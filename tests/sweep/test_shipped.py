import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from unirex_ray.config import Tree, config_keys
from unirex_ray.errors import UserError
from unirex_ray.sweep.shipped import glance, shipped_spaces, space_file

ROOT = Path(__file__).parents[2]
SST: Tree = {"data": {"name": "sst"}}


def test_every_file_of_the_folder_is_a_space_by_name() -> None:
    assert shipped_spaces() == {file.stem: file for file in (ROOT / "search_spaces").glob("*.yaml")}
    assert {"quick", "paper", "all-methods", "transfer", "gold-efficiency"} <= shipped_spaces().keys()


def test_every_folder_of_the_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "unirex_ray").rglob("*.py")}
    assert {*listed} == {".".join(folder.parts) for folder in folders} | {"unirex_ray.jobs", "unirex_ray.search_spaces"}


def test_the_demo_is_the_default_of_its_own_corpus_only() -> None:
    for tree in ({}, {"data": {"limit": 20}}, {"data": {"name": "reviews"}}, {"data": {"name": None}}, {"data": 3}):
        assert space_file(None, tree) == ROOT / "search_spaces" / "quick.yaml"
    with pytest.raises(UserError) as refused:
        space_file(None, SST)
    line = str(refused.value)
    assert line.startswith("data.name=sst needs a search space: give --space paper")
    assert all(name in line for name in shipped_spaces())
    assert "YAML file" in line
    assert "\n" not in line
    assert space_file("quick", SST).stem == "quick"  # who asks for it gets it
    with pytest.raises(UserError, match=r"unknown data\.name = 'revews' \(did you mean 'reviews'\?\)"):
        space_file(None, {"data": {"name": "revews"}})


def test_a_space_is_given_by_name_or_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("config: {train: {epochs: 4}}")
    (tmp_path / "paper").mkdir()
    (tmp_path / "papers").mkdir()
    assert space_file("paper", SST) == ROOT / "search_spaces" / "paper.yaml"
    for mine in ("mine.yaml", "~/mine.yaml", str(tmp_path / "mine.yaml")):
        assert space_file(mine, SST).samefile(tmp_path / "mine.yaml")
    for unknown in ("papr", "paper.yml", "papers"):
        with pytest.raises(
            UserError, match=r"is no file and no space \(did you mean 'paper'\?\); choose from ablation-"
        ):
            space_file(unknown, {})


def test_a_glance_shows_what_a_space_says_of_the_configuration(tmp_path: Path) -> None:
    quick = glance(shipped_spaces()["quick"])
    assert (quick.name, quick.presets["train"]["epochs"]) == ("quick.yaml", 1)
    assert "train.learning_rate" in quick.searched
    assert set(quick.searched) <= set(config_keys())
    (tmp_path / "former.yaml").write_text("parameters: {train.stream: {choice: [true]}}")
    assert glance(tmp_path / "former.yaml").searched == ("train.activation_checkpointing",)
    (tmp_path / "odd.yaml").write_text("config: 3\nparameters: [a]")
    assert (glance(tmp_path / "odd.yaml").presets, glance(tmp_path / "odd.yaml").searched) == ({}, ())


@pytest.mark.slow
def test_an_installed_package_has_its_spaces_and_all_its_modules(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source, built = tmp_path / "source", tmp_path / "site-packages"
    for folder in ("unirex_ray", "jobs", "search_spaces"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    build = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "build_py", "--build-lib", str(built)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    for pattern in ("*.py", "*.json", "*.html", "*.js", "py.typed"):
        modules = {file.relative_to(source) for file in (source / "unirex_ray").rglob(pattern)}
        modules |= {Path("unirex_ray") / file.relative_to(source) for file in (source / "jobs").glob(pattern)}
        assert {file.relative_to(built) for file in built.rglob(pattern)} == modules
    code = "from unirex_ray.sweep.shipped import space_file; print(space_file('paper', {}))"
    environment = {**os.environ, "PYTHONPATH": str(built)}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, check=True, capture_output=True, text=True
    )
    assert told.stdout == f"{built}/unirex_ray/search_spaces/paper.yaml\n"
    code = "import sys; from unirex_ray.cli.unirex import main; sys.argv = ['unirex', 'compare', '--help']; main()"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, check=True, capture_output=True, text=True
    )
    assert told.stdout.startswith("usage: unirex compare [options]\n")
