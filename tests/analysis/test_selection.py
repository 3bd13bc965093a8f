import math
from collections.abc import Mapping

import pytest

from unirex_ray.analysis.selection import (
    Configuration,
    configurations,
    score_methods,
    score_variants,
    select_best,
    select_variants,
)
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import TrialRecord, TrialSpec, TrialStatus

KEYS = ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")


def raw(dev: float, test: float) -> dict[str, float]:
    """Every metric as good as `dev` says (in [0, 1]), sufficiency turned round."""

    def of(split: str, value: float) -> dict[str, float]:
        return {f"{split}/{key}": 1 - value if key == "sufficiency" else value for key in KEYS}

    return {**of("dev", dev), **of("test", test), "time/total_s": 3.0}


def record(
    method: str,
    index: int,
    seed: int,
    metrics: Mapping[str, float] | None = None,
    status: TrialStatus = "completed",
) -> TrialRecord:
    spec = TrialSpec(
        trial_id=f"s-{method}-{index:04d}-s{seed}",
        method=method,
        configuration=index,
        seed=seed,
        parameters={"train.learning_rate": 10.0**-index},
    )
    return TrialRecord(spec=spec, status=status, metrics=TrialMetrics.from_flat(metrics or {}))


RECORDS = [
    record("aa-ig", 0, 1, raw(0.1, 0.1)),
    record("aa-ig", 0, 0, raw(0.3, 0.2)),
    record("unirex-slm-fp", 1, 0, raw(0.6, 0.5)),
    record("unirex-slm-fp", 1, 1, raw(0.6, 0.7)),
    record("unirex-slm-fp", 0, 0, raw(0.4, 0.9)),
    record("unirex-slm-fp", 0, 1, raw(0.4, 0.9)),
    record("unirex-slm-fp", 2, 0, raw(0.9, 0.9)),
    record("unirex-slm-fp", 2, 1, status="failed"),
    record("unirex-slm-fp", 3, 0, status="stopped"),
]


@pytest.fixture
def configs() -> dict[str, list[Configuration]]:
    return configurations(RECORDS, seeds=(0, 1))


def test_grouping(configs: dict[str, list[Configuration]]) -> None:
    assert list(configs) == ["aa-ig", "unirex-slm-fp"]
    assert [c.index for c in configs["unirex-slm-fp"]] == [0, 1, 2, 3]
    assert [c.complete for c in configs["unirex-slm-fp"]] == [True, True, False, False]
    first = configs["aa-ig"][0]
    assert [r.spec.seed for r in first.records] == [0, 1]
    assert first.parameters == {"train.learning_rate": 1.0}


def test_mean_and_std_over_seeds(configs: dict[str, list[Configuration]]) -> None:
    first = configs["aa-ig"][0]
    assert first.mean("dev") == pytest.approx({key: 0.8 if key == "sufficiency" else 0.2 for key in KEYS})
    assert first.std("test")["auprc"] == pytest.approx(math.sqrt(0.005))
    stopped = configs["unirex-slm-fp"][3]
    assert stopped.mean("dev") == {}
    assert math.isnan(configurations(RECORDS[:2], seeds=(1,))["aa-ig"][0].std("dev")["auprc"])


def test_only_complete_configurations_are_in_z(configs: dict[str, list[Configuration]]) -> None:
    population = score_variants(configs["unirex-slm-fp"])
    assert {key: scores.cnrg for key, scores in population.scores.items()} == {"0": 0.0, "1": 1.0}


def test_selection_reads_dev_only(configs: dict[str, list[Configuration]]) -> None:
    selected = select_variants(configs)
    assert {method: config.index for method, config in selected.items()} == {"aa-ig": 0, "unirex-slm-fp": 1}
    best = select_best(selected)
    assert best is not None
    assert (best.method, best.index) == ("unirex-slm-fp", 1)
    assert score_methods(selected, "test").scores["aa-ig"].cnrg == 0.0


def test_the_lower_index_wins_a_tie() -> None:
    tied = [record("aa-ig", i, 0, raw(0.5, 0.5)) for i in (2, 1, 3)]
    assert select_variants(configurations(tied, seeds=(0,)))["aa-ig"].index == 1


def test_a_method_without_a_complete_configuration_is_left_out() -> None:
    assert select_variants(configurations(RECORDS[-2:], seeds=(0, 1))) == {}
    assert select_best({}) is None


def test_a_method_outside_the_global_scope_does_not_change_the_others() -> None:
    records = [
        record("aa-ig", 0, 0, raw(0.2, 0.2)),
        record("unirex-dlm-p", 0, 0, raw(0.4, 0.4)),
        record("some-ablation", 0, 0, raw(0.9, 0.9)),
    ]
    selected = select_variants(configurations(records, seeds=(0,)))
    assert set(selected) == {"aa-ig", "unirex-dlm-p", "some-ablation"}
    assert {m: s.cnrg for m, s in score_methods(selected, "test").scores.items()} == {
        "aa-ig": 0.0,
        "unirex-dlm-p": 1.0,
    }
    best = select_best(selected)
    assert best is not None
    assert best.method == "unirex-dlm-p"
    alone = select_best({"some-ablation": selected["some-ablation"]})
    assert alone is not None


def test_configurations_of_several_sweeps_have_keys_of_their_own() -> None:
    one = configurations(RECORDS, seeds=(0, 1), sweep="a")["unirex-slm-fp"]
    two = configurations(RECORDS, seeds=(0, 1), sweep="b")["unirex-slm-fp"]
    assert set(score_variants([*one, *two]).scores) == {"a:0", "a:1", "b:0", "b:1"}


def test_trials_of_other_seeds_are_ignored() -> None:
    extra = [*RECORDS, record("aa-ig", 0, 7, raw(0.9, 0.9))]
    assert configurations(extra, seeds=(0, 1))["aa-ig"][0].mean("dev")["auprc"] == pytest.approx(0.2)
