"""How a test keeps its first parameters in the fast subset."""

from collections.abc import Iterable

import pytest


def slow(*values: object) -> list:
    """Parameters for the full run alone; a tuple holds one for each name that is parametrized."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow) for value in values
    ]


def slow_but(fast: Iterable[object], values: Iterable[object]) -> list:
    """`values`, those not in `fast` for the full run alone."""
    fast = list(fast)
    return [value if value in fast else slow(value)[0] for value in values]
