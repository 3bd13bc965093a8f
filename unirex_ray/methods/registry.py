"""The paper's rows, by name."""

from __future__ import annotations

import difflib

from unirex_ray.errors import UserError
from unirex_ray.methods.recipe import Criterion, ExtractorKind, Method, Stage


def _joint(name: str, label: str, extractor: ExtractorKind, *criteria: Criterion) -> Method:
    return Method(name=name, label=label, extractor=extractor, stages=(Stage(criteria=criteria),))


METHODS = {
    method.name: method
    for method in (
        _joint("aa-ig", "AA (IG)", "aa-ig", "task"),
        _joint("unirex-aa-f", "UNIREX (AA-F)", "aa-ig", "task", "comp", "suff"),
        _joint("unirex-dlm-p", "UNIREX (DLM-P)", "dlm", "task", "plaus"),
        _joint("unirex-dlm-fp", "UNIREX (DLM-FP)", "dlm", "task", "comp", "suff", "plaus"),
        _joint("unirex-slm-p", "UNIREX (SLM-P)", "slm", "task", "plaus"),
        _joint("unirex-slm-fp", "UNIREX (SLM-FP)", "slm", "task", "comp", "suff", "plaus"),
    )
}


def get_method(name: str) -> Method:
    """Look a method up.

    Raises:
        UserError: for an unknown name, listing the known ones.
    """
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UserError(f"unknown method {name!r}{hint}; choose one of {', '.join(METHODS)}")
    return METHODS[name]
