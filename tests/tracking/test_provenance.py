import shutil
from pathlib import Path

import pytest

import unirex_ray
from unirex_ray.tracking.provenance import core_version

PACKAGE = Path(unirex_ray.__file__).parent


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("metrics/nrg.py", True),
        ("data/corpora/sst.py", True),
        ("methods/new.py", True),
        ("models/README.md", False),
        ("report/table.py", False),
        ("sweep/driver.py", False),
    ],
)
def test_the_version_of_the_code_follows_from_what_numbers_depend_on(tmp_path: Path, file: str, counts: bool) -> None:
    package = tmp_path / "unirex_ray"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert core_version(package) == core_version()
    with (package / file).open("a") as stream:
        stream.write("\n")
    assert (core_version(package) != core_version()) is counts


def test_a_moved_file_is_another_version(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "models").mkdir(parents=True)
        (tmp_path / name / "models" / f"{name}.py").write_text("")
    assert core_version(tmp_path / "a") != core_version(tmp_path / "b")
