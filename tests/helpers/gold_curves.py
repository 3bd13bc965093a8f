"""Configurations with different shares of gold rationales."""

from collections.abc import Mapping, Sequence

from unirex_ray.analysis.gold_efficiency import GoldEfficiency, gold_efficiency
from unirex_ray.analysis.selection import Configuration
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import TrialRecord, TrialSpec

KEYS = ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")

Dev = tuple[float, float, float, float, float]

MIDDLING: Dev = (0.2, 0.2, 50.0, 50.0, 90.0)


def configuration(
    method: str,
    index: int,
    percent: float | None,
    auprc: Sequence[float],
    dev: Dev = MIDDLING,
    *,
    gold: bool = True,
) -> Configuration:
    """Its test AUPRC by seed, and the same dev metrics (in the order of `KEYS`) for every seed."""

    def record(seed: int, value: float) -> TrialRecord:
        spec = TrialSpec(trial_id=f"{index}s{seed}", method=method, configuration=index, seed=seed, parameters={})
        metrics = {f"dev/{key}": number for key, number in zip(KEYS, dev, strict=True)}
        test = {"test/auprc": value} if gold else {"test/task_score": 90.0}
        return TrialRecord(spec=spec, status="completed", metrics=TrialMetrics.from_flat({**metrics, **test}))

    parameters: Mapping[str, float] = {} if percent is None else {"data.gold_percent": percent}
    records = tuple(record(seed, value) for seed, value in enumerate(auprc))
    return Configuration(method=method, index=index, parameters=parameters, records=records, complete=True)


VARIANTS = {
    "unirex-slm-fp": (
        configuration("unirex-slm-fp", 0, 100.0, (80.0, 84.0, 82.0)),
        configuration("unirex-slm-fp", 1, 0.5, (70.0, 76.0, 76.0)),
        configuration("unirex-slm-fp", 2, 20.0, (78.0, 78.0, 78.0)),
    ),
    "unirex-dlm-fp": (configuration("unirex-dlm-fp", 0, 20.0, (75.0,)),),
    "unirex-dlm-p": (configuration("unirex-dlm-p", 0, None, (85.0, 85.0)),),
    "aa-ig": (configuration("aa-ig", 0, None, (40.0, 44.0, 48.0)),),
}


def efficiency() -> GoldEfficiency:
    found = gold_efficiency(VARIANTS)
    assert found is not None
    return found
