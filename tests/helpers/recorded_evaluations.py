"""A sweep on SST whose models were evaluated elsewhere."""

from collections.abc import Mapping
from types import MappingProxyType

from helpers.memory_store import MemoryStore

from unirex_ray.analysis.compare import Comparison, compare
from unirex_ray.data.schema import Split
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import Evaluation, TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST, RunStore

BY_SEED = {0: 0.0, 1: 3.0, 2: 6.0}


def values(base: float, seed: int, split: str = "test", *, gold: bool, behind: str = "accuracy") -> dict[str, float]:
    """comp = base + d, suff = base + 2d, task = base + 3d (d: 0, 3, 6 by seed), so that csd = -d."""
    step = BY_SEED[seed]
    named = {"comprehensiveness": base + step, "sufficiency": base + 2 * step, "csd": -step, "macro_f1": 1.5}
    named |= {"accuracy": 2.5, "task_score": base + 3 * step, "token_f1": 7.0}
    named[behind] = base + 3 * step
    if gold:
        named["auprc"] = base
    return {f"{split}/{key}": value for key, value in named.items()}


def evaluation(
    method: str,
    seed: int,
    corpus: str,
    base: float = 10.0,
    *,
    index: int = 0,
    digest: str = "0a1b2c3d4e5f6071",
    split: Split = "test",
    behind: str = "accuracy",
    gold: bool = False,
    settings: Mapping[str, str] = MappingProxyType({}),
    p: float | None = None,
) -> Evaluation:
    return Evaluation(
        trial_id=f"s1-{method}-{index:04d}-s{seed}",
        method=method,
        seed=seed,
        trained_on="sst",
        trained_digest="abc1",
        corpus=corpus,
        digest=digest,
        split=split,
        labels="negative for no, positive for yes",
        metrics=TrialMetrics.from_flat(
            {
                **values(base, seed, split, gold=gold, behind=behind),
                "time/extraction_s": 0.1,
                **({} if p is None else {f"{split}/majority_p": p}),
            }
        ),
        settings=dict(settings),
    )


METHODS = ("unirex-slm-fp", "unirex-aa-f-rand", "aa-ig")


def record(store: RunStore, evaluations: list[Evaluation]) -> None:
    """A sweep with two configurations of SLM-FP, of which the second is better on dev, and one of the others."""
    seeds, tags = (0, 1, 2), {DATA_DIGEST: "abc1"}
    sweep = store.open_sweep(experiment="sst", sweep_id="s1", seeds=seeds, params={}, tags=tags)
    for method, index, base in (
        ("unirex-slm-fp", 0, 20.0),
        ("unirex-slm-fp", 1, 40.0),
        ("unirex-aa-f-rand", 0, 5.0),
        ("aa-ig", 0, 10.0),
    ):
        for seed in seeds:
            spec = TrialSpec(
                trial_id=f"s1-{method}-{index:04d}-s{seed}",
                method=method,
                configuration=index,
                seed=seed,
                parameters={"data.gold_percent": 100.0 if index else 5.0} if method == "unirex-slm-fp" else {},
            )
            sweep.open_trial(spec, params={}, tags=tags)
            dev = {"comprehensiveness": base, "sufficiency": -base, "auprc": base, "token_f1": base, "task_score": base}
            metrics = {f"dev/{key}": value for key, value in dev.items()}
            metrics |= values(base, seed, gold=True)
            sweep.finish_trial(spec.trial_id, "completed", metrics=TrialMetrics.from_flat(metrics))
    sweep.finish()
    for evaluated in evaluations:
        store.log_evaluation(evaluated, params={}, tags={}, files={})


def store_of(evaluations: list[Evaluation]) -> MemoryStore:
    store = MemoryStore()
    record(store, evaluations)
    return store


def compared(store: MemoryStore) -> Comparison:
    return compare("sst", store.sweeps("sst"))


IRONY = [evaluation("unirex-slm-fp", seed, "irony", 50.0, index=1, behind="binary_f1") for seed in (0, 1)]

OURS = [
    evaluation("unirex-aa-f-rand", 0, "target", 7.0),
    *IRONY,
    *(evaluation("aa-ig", seed, "irony", 20.0, behind="binary_f1") for seed in (2, 0, 1)),
    *(evaluation("unirex-slm-fp", seed, "yelp", 30.0, index=1) for seed in (0, 1, 2)),
]
