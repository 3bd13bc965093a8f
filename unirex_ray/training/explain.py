"""Predictions with their rationales, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.highlight import HighlightedInstance, highlight_row
from unirex_ray.data.instance import Instance
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.top_k import row_rationale
from unirex_ray.training.evaluate import SplitResults

HIGHLIGHTS = 40
"""Instances that a page of rationales shows."""


def highlight_results(
    model: RationaleModel,
    split: EncodedSplit,
    instances: Sequence[Instance],
    labels: Sequence[str],
    results: SplitResults,
    *,
    top_k_percent: int = 20,
    known_label: bool = True,
) -> tuple[HighlightedInstance, ...]:
    """Mark the top-k% rationales of the first instances of a split.

    Args:
        instances: those that the encoded split begins with.
        labels: class names of the corpus by index; for multi-choice the choices are numbered.
        results: of the model on the split, with these instances' scores.
        top_k_percent: of no effect on a rationale that has a size of its own (FRESH).
        known_label: whether the instances' labels are the gold ones.
    """
    top_k_percent = model.design.top_k_percent or top_k_percent
    found, shown = results.instances, []
    for number, instance in enumerate(instances):
        inputs = []
        for choice, text in enumerate(instance.inputs):
            row = number * split.choices + choice
            scores = results.scores[int(split.offsets[row]) : int(split.offsets[row + 1])]
            selected = row_rationale(scores, top_k_percent)
            name = labels[choice] if split.choices > 1 else ""
            inputs.append(highlight_row(split, row, text.segments, selected, scores.tolist(), name))
        shown.append(
            HighlightedInstance(
                id=instance.id,
                inputs=tuple(inputs),
                label=labels[instance.label] if known_label else None,
                predicted=labels[int(found.predicted[number])],
                probability=float(found.probability[number]),
                top_k_percent=top_k_percent,
            )
        )
    return tuple(shown)
