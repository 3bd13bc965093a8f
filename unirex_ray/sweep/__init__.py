"""Hyperparameter search over methods, scored by their populations' CNRG."""

import unirex_ray.distributed  # noqa: F401  # Before any import of ray: see there.
