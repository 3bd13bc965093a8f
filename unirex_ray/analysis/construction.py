"""Metrics that a method's construction decides, whatever its rationales are worth: nobody is best or worst by these."""

from __future__ import annotations

from unirex_ray.methods import known_method
from unirex_ray.metrics.table import AUPRC, COMPREHENSIVENESS, SUFFICIENCY, TOKEN_F1, Metric


def predicts_from_rationale(method: str) -> bool:
    """Whether it is a select-predict pipeline: Suff is 0, and Comp compares with an empty input."""
    known = known_method(method)
    return known is not None and known.stages[-1].design.predicts_from == "rationale"


def by_construction(method: str) -> frozenset[Metric]:
    """Comp and Suff of select-predict pipelines; AUPRC and TF1 of rationales that are the gold one or its inverse."""
    known = known_method(method)
    scores = known.stages[-1].design.extractor if known else None
    faithfulness = (COMPREHENSIVENESS, SUFFICIENCY) if predicts_from_rationale(method) else ()
    plausibility = (AUPRC, TOKEN_F1) if scores in ("gold", "inv") else ()
    return frozenset((*faithfulness, *plausibility))
