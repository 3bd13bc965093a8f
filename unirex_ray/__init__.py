"""unirex_ray: distributed training, search and comparison of language-model rationale extractors (UNIREX).

What stands in `__all__` is imported when it is first asked for, so that importing the package takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unirex_ray.api.compare import compare
    from unirex_ray.api.evaluate import evaluate
    from unirex_ray.api.train import train
    from unirex_ray.errors import UserError
    from unirex_ray.inference.explanation import Explanation, Explanations
    from unirex_ray.inference.model import LoadedModel, load_model
    from unirex_ray.sweep.start import sweep
    from unirex_ray.training.learner import TrainingError

__version__ = "0.1.0"

__all__ = [
    "Explanation",
    "Explanations",
    "LoadedModel",
    "TrainingError",
    "UserError",
    "compare",
    "evaluate",
    "load_model",
    "sweep",
    "train",
]

_HOMES = {
    "Explanation": "inference.explanation",
    "Explanations": "inference.explanation",
    "LoadedModel": "inference.model",
    "TrainingError": "training.learner",
    "UserError": "errors",
    "compare": "api.compare",
    "evaluate": "api.evaluate",
    "load_model": "inference.model",
    "train": "api.train",
}


def __getattr__(name: str) -> Any:
    if name == "sweep":  # the folder of that name, which can be called
        return import_module(f"{__name__}.sweep")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
