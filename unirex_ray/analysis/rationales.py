"""The rationales that the selected configurations show, method by method."""

from __future__ import annotations

from collections.abc import Callable

from unirex_ray.analysis.compare import Comparison
from unirex_ray.data.highlight import HighlightedInstance, highlights_from_json
from unirex_ray.errors import first_line
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.training.result_file import RESULT, unseal

Rationales = dict[str, tuple[HighlightedInstance, ...]]


def read_rationales(
    comparison: Comparison, read: Callable[[TrialRecord], bytes | None]
) -> tuple[Rationales, dict[str, str]]:
    """What each method's selected configuration shows of test instances, with its first seed.

    Args:
        read: the file `result.json` of a trial; None where there is none.

    Returns:
        Instances by method, in the order of the comparison, and why a method has none.
    """
    found: Rationales = {}
    missing = {}
    for row in comparison.rows:
        data = read(row.configuration.records[0])
        if data is None:
            missing[row.method] = f"{RESULT} is gone, or was left by an earlier version"
            continue
        try:
            shown = highlights_from_json(unseal(data).get("highlights", ()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            missing[row.method] = f"{RESULT} is damaged: {first_line(error)}"
            continue
        if shown:
            found[row.method] = shown
        else:
            missing[row.method] = "an earlier version kept none"
    return found, missing
