"""Hyperparameter search over methods, scored by their populations' CNRG.

Called, this folder is the function of its name in `sweep.start`: `unirex_ray.sweep(...)` means that one, whatever has
been imported before.
"""

import sys
from types import ModuleType
from typing import Any

import unirex_ray.distributed  # noqa: F401  # Before any import of ray: see there.


class _CalledSweep(ModuleType):
    def __call__(self, *settings: Any, **keys: Any) -> Any:
        from unirex_ray.sweep.start import sweep

        return sweep(*settings, **keys)


sys.modules[__name__].__class__ = _CalledSweep
