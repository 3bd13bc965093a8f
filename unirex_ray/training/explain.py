"""Predictions with their rationales, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.highlight import HighlightedInstance, highlight_row
from unirex_ray.data.instance import Instance
from unirex_ray.data.sample import stratified_sample
from unirex_ray.metrics.instances import AT_EACH_K, COMP, PLAUSIBILITY, PROBABILITY_AT, SUFF, InstanceResults
from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.top_k import entering_percents
from unirex_ray.training.evaluate import SplitResults

HIGHLIGHTS = 40
"""Instances that a page of rationales shows."""
_SHOWN = (*PROBABILITY_AT, *COMP, *SUFF, *PLAUSIBILITY)


def shown_instances(split: EncodedSplit) -> tuple[int, ...]:
    """Which instances of a split are shown: a sample with the labels' shares, the same for every model."""
    return stratified_sample(split.labels.tolist(), HIGHLIGHTS, seed=0)


def highlight_results(
    model: RationaleModel,
    split: EncodedSplit,
    instances: Sequence[Instance],
    labels: Sequence[str],
    results: SplitResults,
    *,
    numbers: Sequence[int] | None = None,
    top_k_percent: int = 20,
    known_label: bool = True,
) -> tuple[HighlightedInstance, ...]:
    """Mark the rationales of instances of a split, of every K and `top_k_percent`.

    Args:
        instances: of the split.
        labels: class names of the corpus by index; for multi-choice the choices are numbered.
        results: of the model on the split, with scores.
        numbers: of the instances; default: all.
        top_k_percent: of no effect on a rationale that has a size of its own (FRESH).
        known_label: whether the instances' labels are the gold ones.
    """
    own = model.design.top_k_percent
    thresholds = (own,) if own else tuple(sorted({*METRIC_TOP_K_PERCENTS, top_k_percent}))
    top_k_percent = own or top_k_percent
    found, shown = results.instances, []
    for number in range(len(instances)) if numbers is None else numbers:
        instance, inputs = instances[number], []
        for choice, text in enumerate(instance.inputs):
            row = number * split.choices + choice
            scores = results.scores[int(split.offsets[row]) : int(split.offsets[row + 1])]
            enters, name = entering_percents(scores, thresholds), labels[choice] if split.choices > 1 else ""
            raw = [float(f"{score:.9g}") for score in scores.tolist()]  # single precision has no more digits
            inputs.append(
                highlight_row(split, row, text.segments, enters, raw, top_k_percent=top_k_percent, choice=name)
            )
        shown.append(
            HighlightedInstance(
                id=instance.id,
                inputs=tuple(inputs),
                label=labels[instance.label] if known_label else None,
                predicted=labels[int(found.predicted[number])],
                probability=float(found.probability[number]),
                top_k_percent=top_k_percent,
                thresholds=thresholds,
                measured=_measured(found, number),
            )
        )
    return tuple(shown)


def _measured(results: InstanceResults, number: int) -> dict[str, float]:
    """What was measured on one instance, by column or by key of the metric; only finite numbers."""
    columns = {name: results.measured[name] for name in _SHOWN if name in results.measured}
    columns |= {key: found[0] for key in AT_EACH_K if (found := results.metric(key)) is not None}
    measured = {name: float(column[number]) for name, column in columns.items()}
    return {name: value for name, value in measured.items() if math.isfinite(value)}
