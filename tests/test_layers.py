"""DESIGN's layers: imports go downward only, and heavy libraries stay where they belong."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "unirex_ray"

# The longest prefix decides.
LAYERS = {
    "": 0,  # the package itself: its version
    "errors": 0,
    "config": 0,
    "highlight": 1,
    "progress": 0,
    "metrics.table": 0,
    "data": 1,
    "rationale": 1,
    "models": 2,
    "losses": 3,
    "metrics": 3,
    "nrg": 3,
    "methods": 4,
    "training": 4,
    "benchmark": 4,
    "benchmark_data": 4,
    "tracking": 5,
    "selection": 5,
    "sweep.space": 5,
    "sweep.searcher": 5,
    "sweep.schedule": 5,
    "distributed": 6,
    "sweep": 7,
    "compare": 7,
    "export": 7,
    "trained_models": 7,
    "zero_shot": 7,
    "efficiency": 7,
    "transfer": 7,
    "report": 7,
}

# Who may import what, beside the layers: prefixes of modules.
RESTRICTED = {
    "ray": ("distributed", "sweep.driver", "sweep.run"),
    "mlflow": ("tracking.mlflow_store",),
    "optuna": ("sweep.searcher",),
    "captum": ("models.attribution",),
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def within(module: str, prefix: str) -> bool:
    return prefix == "" or module == prefix or module.startswith(f"{prefix}.")


def layer(module: str) -> int:
    prefixes = [prefix for prefix in LAYERS if (module == "" if prefix == "" else within(module, prefix))]
    assert prefixes, f"{module} has no layer: add it to LAYERS"
    return LAYERS[max(prefixes, key=len)]


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
    """Modules of the package that a module imports."""
    found = set()
    for names in imports(MODULES[module]):
        for name in names:
            if name == "unirex_ray" or name.startswith("unirex_ray."):
                inner = name.removeprefix("unirex_ray").removeprefix(".")
                if inner in MODULES:
                    found.add(inner)
                    break
    return found


@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_imports_go_downward_only(module):
    for imported in own_imports(module):
        assert layer(imported) <= layer(module), f"{module} (layer {layer(module)}) imports {imported}"


def test_modules_do_not_import_each_other_in_a_circle():
    list(TopologicalSorter({module: own_imports(module) - {module} for module in MODULES}).static_order())


@pytest.mark.parametrize("library", RESTRICTED)
def test_libraries_stay_where_they_belong(library):
    for module, path in MODULES.items():
        if any(within(name, library) for names in imports(path) for name in names):
            allowed = any(within(module, prefix) for prefix in RESTRICTED[library])
            assert allowed, f"{module} imports {library}; only {', '.join(RESTRICTED[library])} may"


@pytest.mark.parametrize("module", [module for module in MODULES if layer(module) <= 4])
def test_the_core_needs_neither_ray_nor_mlflow_nor_optuna(module):
    found = {name.split(".")[0] for names in imports(MODULES[module]) for name in names}
    assert not found & {"ray", "mlflow", "optuna"}


def test_pure_functions_know_no_model_and_no_tokenizer():
    for module in ("rationale", "losses", "metrics.faithfulness", "metrics.plausibility", "metrics.task", "nrg"):
        found = {name.split(".")[0] for names in imports(MODULES[module]) for name in names}
        assert not found & {"transformers", "tokenizers", "captum"}, module


def test_jobs_are_short_and_leave_the_libraries_to_the_package():
    jobs = sorted((ROOT / "jobs").glob("*.py"))
    assert jobs
    for path in jobs:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path
        found = {names[0].split(".")[0] for names in imports(path)}
        assert not found & {"ray", "mlflow", "optuna", "transformers"}, path
