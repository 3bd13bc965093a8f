"""The rooms of the package on their floors: imports go down only, and heavy libraries stay where they belong."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "unirex_ray"

FLOORS = (
    ("errors",),
    ("files",),
    ("config",),
    ("data",),
    ("metrics", "models"),
    ("methods",),
    ("training", "tracking"),
    ("analysis", "distributed"),
    ("report",),
    ("sweep",),
    ("inference", "benchmarks"),
    ("study",),
    ("api", "cli"),
)
"""From the bottom up; rooms on one floor do not know each other."""

LIBRARIES = {
    "ray": ("distributed", "sweep.tune"),
    "mlflow": ("tracking", "inference.registered", "inference.served"),
    "optuna": ("sweep.searcher", "sweep.study"),
    "captum": ("models.attribution",),
}
"""Which modules may import a library; modules are prefixes."""

CORE = ("errors", "config", "files", "data", "metrics", "models", "methods", "training")
"""Runs anywhere, a machine with torch and transformers alone included."""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    return module.partition(".")[0]


def floor(module: str) -> int:
    (found,) = [number for number, rooms in enumerate(FLOORS) if room(module) in rooms]
    return found


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(f"{prefix}.")


@cache
def imports(path: Path) -> list[tuple[str, ...]]:
    """Absolute names that a file imports, wherever in it; `from a import b` gives both a.b and a."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.name,)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                yield (f"{node.module}.{alias.name}", node.module)


def own_imports(module: str) -> set[str]:
    """Modules of the package that a module imports; not the package itself, which has the version."""
    found = set()
    for names in imports(MODULES[module]):
        inner = [name.removeprefix("unirex_ray.") for name in names if name.startswith("unirex_ray.")]
        known = [name for name in inner if name in MODULES]
        found |= set(known[:1])
    return found


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES if module} == {name for rooms in FLOORS for name in rooms}


def test_nothing_stands_loose_but_the_ground_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "errors", "files"}


@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_imports_go_down_only(module):
    for imported in own_imports(module):
        assert room(imported) == room(module) or floor(imported) < floor(module), f"{module} imports {imported}"


def test_modules_do_not_import_each_other_in_a_circle():
    list(TopologicalSorter({module: own_imports(module) - {module} for module in MODULES}).static_order())


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_where_they_belong(library):
    for module, path in MODULES.items():
        if any(within(name, library) for names in imports(path) for name in names):
            allowed = any(within(module, prefix) for prefix in LIBRARIES[library])
            assert allowed, f"{module} imports {library}; only {', '.join(LIBRARIES[library])} may"


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in CORE])
def test_the_core_needs_neither_ray_nor_mlflow_nor_optuna(module):
    found = {name.split(".")[0] for names in imports(MODULES[module]) for name in names}
    assert not found & {"ray", "mlflow", "optuna"}


def test_pure_functions_know_no_model_and_no_tokenizer():
    pure = ("models.top_k", "training.losses", "metrics.faithfulness", "metrics.plausibility", "metrics.task")
    for module in (*pure, "metrics.nrg"):
        found = {name.split(".")[0] for names in imports(MODULES[module]) for name in names}
        assert not found & {"transformers", "tokenizers", "captum"}, module


def test_jobs_are_short_and_leave_the_libraries_to_the_package():
    jobs = sorted((ROOT / "jobs").glob("*.py"))
    assert jobs
    for path in jobs:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path
        found = {names[0].split(".")[0] for names in imports(path)}
        assert not found & {"ray", "mlflow", "optuna", "transformers"}, path


def test_a_comparison_waits_for_no_library_of_models():
    heavy = {"torch", "transformers", "captum", "ray", "sklearn", "plotly"}
    imported = "sys, unirex_ray.report.compared_corpora, unirex_ray.cli.next_steps"
    program = f"import {imported}; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_nothing_that_is_read_can_run_code():
    """No pickles but PyTorch's with weights alone, and no YAML but the safe kind."""
    loads = 0
    for path in (*MODULES.values(), *(ROOT / "jobs").glob("*.py")):
        found = {name.split(".")[0] for names in imports(path) for name in names}
        assert not found & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}, path
        for call in (
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            function, options = (
                ast.unparse(call.func),
                {option.arg: ast.unparse(option.value) for option in call.keywords},
            )
            assert function not in ("eval", "exec", "yaml.unsafe_load", "yaml.full_load"), path
            assert options.get("allow_pickle") != "True", path
            if function == "torch.load":
                loads += 1
                assert options.get("weights_only") == "True", path
            if function == "yaml.load":
                assert options["Loader"] == "_Loader", path  # a SafeLoader of ours
    assert loads


def test_the_top_level_is_the_agreed_one() -> None:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    top = {name.partition("/")[0] for name in listed.stdout.splitlines()}
    agreed = {"unirex_ray", "search_spaces", "jobs", "tests", "pyproject.toml", "README.md", "LICENSE"}
    assert {name for name in top if not name.startswith(".")} == agreed
