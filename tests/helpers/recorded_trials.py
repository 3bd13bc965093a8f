"""Trials that were recorded, for tests of what compares them."""

from collections.abc import Mapping, Sequence

from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import TrialSpec, TrialStatus
from unirex_ray.tracking.store import DATA_DIGEST, RunStore

KEYS = ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")


def raw(dev: float, test: float) -> dict[str, float]:
    def of(split: str, value: float) -> dict[str, float]:
        return {f"{split}/{key}": 1 - value if key == "sufficiency" else value for key in KEYS}

    return {**of("dev", dev), **of("test", test), "time/total_s": 1.0}


Trials = Sequence[tuple[str, int, int, Mapping[str, float] | str]]

TRIALS: Trials = [
    ("aa-ig", 0, 0, raw(0.2, 0.1)),
    ("aa-ig", 0, 1, raw(0.4, 0.3)),
    ("unirex-dlm-fp", 0, 0, raw(0.5, 0.6)),
    ("unirex-dlm-fp", 0, 1, raw(0.5, 0.6)),
    # Best on dev, worst on test: selected all the same.
    ("unirex-dlm-fp", 1, 0, raw(0.6, 0.4)),
    ("unirex-dlm-fp", 1, 1, raw(0.6, 0.4)),
    ("unirex-dlm-fp", 2, 0, raw(0.9, 0.9)),
    ("unirex-dlm-fp", 2, 1, "failed"),
    ("unirex-dlm-fp", 3, 0, "stopped"),
    ("unirex-slm-p", 0, 0, raw(0.5, 1.0)),
    ("unirex-slm-p", 0, 1, raw(0.5, 1.0)),
    ("some-ablation", 0, 0, raw(0.9, 2.0)),
    ("some-ablation", 0, 1, raw(0.9, 2.0)),
    ("unirex-slm-fp", 0, 0, "failed"),
]


def record(
    store: RunStore, trials: Trials, *, sweep: str = "s1", digest: str = "abc1", corpus: str = "reviews"
) -> None:
    tags = {DATA_DIGEST: digest}
    opened = store.open_sweep(experiment=corpus, sweep_id=sweep, seeds=(0, 1), params={}, tags=tags)
    for method, index, seed, outcome in trials:
        spec = TrialSpec(
            trial_id=f"{sweep}-{method}-{index:04d}-s{seed}",
            method=method,
            configuration=index,
            seed=seed,
            parameters={"train.learning_rate": 2e-5},
        )
        opened.open_trial(spec, params={}, tags=tags)
        status: TrialStatus = "completed" if not isinstance(outcome, str) else outcome  # type: ignore[assignment]
        metrics = TrialMetrics() if isinstance(outcome, str) else TrialMetrics.from_flat(outcome)
        reason = "loss is nan" if isinstance(outcome, str) else None
        opened.finish_trial(spec.trial_id, status, metrics=metrics, reason=reason)
    opened.finish()


def numbers(comp: float, suff: float, auprc: float, f1: float, task: float) -> dict[str, float]:
    return dict(zip(KEYS, (comp, suff, auprc, f1, task), strict=True))


OURS = {
    "aa-ig": numbers(0.1, 0.3, 40.0, 50.0, 90.0),
    "mine": numbers(0.9, -0.5, 99.0, 99.0, 99.0),
    "unirex-aa-f": numbers(0.3, 0.1, 60.0, 55.0, 80.0),
    "unirex-dlm-fp": numbers(0.2, 0.0, 80.0, 70.0, 85.0),
}

PAPER = {
    "sgt": numbers(0.0, 0.9, 10.0, 10.0, 10.0),
    "aa-ig": numbers(0.2, 0.2, 50.0, 60.0, 90.0),
    "unirex-aa-f": numbers(0.4, 0.1, 40.0, 40.0, 92.0),
    "unirex-dlm-fp": numbers(0.3, 0.3, 90.0, 80.0, 91.0),
}
