import math
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.analysis.selection import (
    Configuration,
    configurations,
    rank_methods,
    rank_on_dev,
    rank_variants,
    select_variants,
    selectable,
)
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS
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


LEVELS = st.integers(0, 2).map(lambda level: level / 2)
RESULTS = st.tuples(*[LEVELS] * len(KEYS), st.booleans())
WEIGHTS = st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3).filter(any)


@given(results=st.lists(RESULTS, min_size=1, max_size=7), later=st.lists(RESULTS, max_size=3), weights=WEIGHTS)
@settings(deadline=None, max_examples=300)
def test_whatever_some_weights_select_is_selectable(results: list, later: list, weights: tuple) -> None:
    def complete(number: int, result: tuple) -> Configuration:
        *values, learned = result
        metrics = {f"dev/{key}": value for key, value in zip(KEYS, values, strict=True)}
        metrics |= {"dev/majority_p": 0.0 if learned else 1.0, "dev/comprehensiveness_se": 0.3}
        (configuration,) = configurations([record("aa-ig", number, 0, metrics)], seeds=(0,))["aa-ig"]
        return configuration

    configs = [complete(number, result) for number, result in enumerate([*results, *later])]
    kept = selectable(configs)
    assert rank_variants(configs, weights).order[0] in kept
    # One that was not selectable among the first ones is not among all of them either.
    for gone in {c.index for c in configs[: len(results)]} - {c.index for c in selectable(configs[: len(results)])}:
        assert gone not in {c.index for c in kept}


def test_what_another_one_matches_everywhere_and_beats_in_each_group_is_not_selectable() -> None:
    def of(*values: tuple[float, float, float, float, float]) -> list[int]:
        records = [
            record("aa-ig", number, 0, {f"dev/{key}": value for key, value in zip(KEYS, row, strict=True)})
            for number, row in enumerate(values)
        ]
        of_method = configurations(records, seeds=(0,)).get("aa-ig", [])
        return [c.index for c in selectable(of_method)]

    assert of((0.1, 0.5, 0.2, 0.2, 0.5), (0.2, 0.5, 0.3, 0.2, 0.6)) == [1]
    assert of((0.1, 0.5, 0.2, 0.2, 0.5), (0.2, 0.6, 0.3, 0.2, 0.6)) == [0, 1]  # of sufficiency, less is better
    # By accuracy alone, the earlier one of two equal ones is selected.
    assert of((0.1, 0.5, 0.2, 0.2, 0.5), (0.2, 0.5, 0.3, 0.2, 0.5)) == [0, 1]
    assert of((0.2, 0.5, 0.3, 0.2, 0.5), (0.1, 0.5, 0.2, 0.2, 0.5), (0.2, 0.5, 0.3, 0.2, 0.5)) == [0]
    assert of() == []
    # So little ahead that `rank`, which rounds, takes the earlier one.
    assert of((0.1, 0.5, 0.2, 0.2, 0.5), (0.1, 0.5, 0.2, 0.2, 0.5 + 1e-16 * 3)) == [0, 1]


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
    population = rank_variants(configs["unirex-slm-fp"]).population
    assert {key: scores.cnrg for key, scores in population.scores.items()} == {"0": 0.0, "1": 1.0}


def test_selection_reads_dev_only(configs: dict[str, list[Configuration]]) -> None:
    selected = select_variants(configs)
    assert {method: config.index for method, config in selected.items()} == {"aa-ig": 0, "unirex-slm-fp": 1}
    best = rank_on_dev(selected, EQUAL_WEIGHTS).best
    assert best is not None
    assert (best.method, best.index) == ("unirex-slm-fp", 1)
    assert rank_methods(selected, "test").population.scores["aa-ig"].cnrg == 0.0


def test_the_lower_index_wins_a_tie() -> None:
    tied = [record("aa-ig", i, 0, raw(0.5, 0.5)) for i in (2, 1, 3)]
    assert select_variants(configurations(tied, seeds=(0,)))["aa-ig"].index == 1


def test_a_method_without_a_complete_configuration_is_left_out() -> None:
    assert select_variants(configurations(RECORDS[-2:], seeds=(0, 1))) == {}
    assert rank_on_dev({}, EQUAL_WEIGHTS).best is None


def test_a_method_outside_the_global_scope_does_not_change_the_others() -> None:
    records = [
        record("aa-ig", 0, 0, raw(0.2, 0.2)),
        record("unirex-dlm-p", 0, 0, raw(0.4, 0.4)),
        record("some-ablation", 0, 0, raw(0.9, 0.9)),
    ]
    selected = select_variants(configurations(records, seeds=(0,)))
    assert set(selected) == {"aa-ig", "unirex-dlm-p", "some-ablation"}
    assert {m: s.cnrg for m, s in rank_methods(selected, "test").population.scores.items()} == {
        "aa-ig": 0.0,
        "unirex-dlm-p": 1.0,
    }
    best = rank_on_dev(selected, EQUAL_WEIGHTS).best
    assert best is not None
    assert best.method == "unirex-dlm-p"
    alone = rank_on_dev({"some-ablation": selected["some-ablation"]}, EQUAL_WEIGHTS).best
    assert alone is not None


def test_configurations_of_several_sweeps_have_keys_of_their_own() -> None:
    one = configurations(RECORDS, seeds=(0, 1), sweep="a")["unirex-slm-fp"]
    two = configurations(RECORDS, seeds=(0, 1), sweep="b")["unirex-slm-fp"]
    assert set(rank_variants([*one, *two]).population.scores) == {"a:0", "a:1", "b:0", "b:1"}


def test_trials_of_other_seeds_are_ignored() -> None:
    extra = [*RECORDS, record("aa-ig", 0, 7, raw(0.9, 0.9))]
    assert configurations(extra, seeds=(0, 1))["aa-ig"][0].mean("dev")["auprc"] == pytest.approx(0.2)


def judged(metrics: Mapping[str, float], p: float, *, errors: float | None = None) -> dict[str, float]:
    """The metrics of a model with this p against the majority class, on both splits."""
    noise = {} if errors is None else {f"{split}/{key}_se": errors for split in ("dev", "test") for key in KEYS}
    return {**metrics, "dev/majority_p": p, "test/majority_p": p, **noise}


def test_a_model_that_learned_nothing_is_selected_last_and_never_the_best() -> None:
    dead, alive = judged(raw(0.9, 0.9), 1.0), judged(raw(0.2, 0.2), 0.001)
    records = [record("aa-ig", 0, 0, dead), record("aa-ig", 1, 0, alive), record("l2e", 0, 0, dead)]
    selected = select_variants(configurations(records, seeds=(0,)))
    assert selected["aa-ig"].index == 1
    assert (selected["aa-ig"].better_than_majority("dev"), selected["l2e"].better_than_majority("dev")) == (True, False)
    ranking = rank_on_dev(selected)
    assert [configuration.method for configuration in ranking.order] == ["aa-ig", "l2e"]
    assert ranking.population.scores["l2e"].cnrg == 1.0  # it counts in Z
    best = rank_on_dev(selected, EQUAL_WEIGHTS).best
    assert best is not None
    assert best.method == "aa-ig"
    assert rank_on_dev({"l2e": selected["l2e"]}, EQUAL_WEIGHTS).best is None


def test_one_seed_that_learned_nothing_is_enough_and_an_unknown_verdict_is_no_verdict() -> None:
    seeds = [record("aa-ig", 0, 0, judged(raw(0.5, 0.5), 0.01)), record("aa-ig", 0, 1, judged(raw(0.5, 0.5), 0.3))]
    assert configurations(seeds, seeds=(0, 1))["aa-ig"][0].better_than_majority("dev") is False
    old = [*seeds[:1], record("aa-ig", 0, 1, raw(0.5, 0.5))]
    (configuration,) = configurations(old, seeds=(0, 1))["aa-ig"]
    assert configuration.better_than_majority("dev") is None
    assert rank_on_dev({"aa-ig": configuration}, EQUAL_WEIGHTS).best is configuration


def test_ties_go_by_the_papers_order_of_methods_and_are_named() -> None:
    faithful = {**raw(0.5, 0.5), "dev/comprehensiveness": 0.9, "dev/sufficiency": 0.1, "dev/task_score": 0.4}
    accurate = {**raw(0.5, 0.5), "dev/comprehensiveness": 0.1, "dev/sufficiency": 0.9, "dev/task_score": 0.6}
    for one, other in ((faithful, accurate), (accurate, faithful)):
        records = [record("unirex-slm-fp", 0, 0, one), record("aa-ig", 0, 0, other)]
        selected = select_variants(configurations(records, seeds=(0,)))
        ranking = rank_on_dev(selected)
        assert {scores.cnrg for scores in ranking.population.scores.values()} == {1 / 3}
        assert [configuration.method for configuration in ranking.tied] == ["aa-ig", "unirex-slm-fp"]
        assert rank_on_dev(selected, EQUAL_WEIGHTS).best is ranking.order[0] is selected["aa-ig"]


def test_what_is_not_better_than_the_majority_ties_for_nothing() -> None:
    dead = {**raw(0.5, 0.5), "dev/majority_p": 1.0}
    ranking = rank_on_dev(
        select_variants(configurations([record(method, 0, 0, dead) for method in ("l2e", "aa-ig")], seeds=(0,)))
    )
    assert (len(ranking.order), ranking.tied, ranking.best) == (2, (), None)


def test_rounding_noise_decides_no_tie() -> None:
    # A third and a third and a third, in orders that sum to different last bits.
    records = [
        record(method, 0, 0, {**raw(0.0, 0.0), **{f"dev/{key}": value for key, value in values.items()}})
        for method, values in {
            "unirex-dlm-fp": {"comprehensiveness": 0.1, "sufficiency": 0.9, "task_score": 0.3, "auprc": 0.2},
            "l2e": {"comprehensiveness": 0.3, "sufficiency": 0.9, "task_score": 0.1, "auprc": 0.2},
            "aa-ig": {"comprehensiveness": 0.0, "sufficiency": 1.0, "task_score": 0.0, "auprc": 0.0},
            "sgt": {"comprehensiveness": 0.7, "sufficiency": 0.1, "task_score": 0.7, "auprc": 0.7},
        }.items()
    ]
    ranking = rank_on_dev(select_variants(configurations(records, seeds=(0,))))
    assert ranking.order[0].method == "sgt"
    assert ranking.tied == ()


def test_a_metric_that_varies_by_less_than_its_noise_decides_nothing_but_a_tie() -> None:
    records = [
        record("aa-ig", i, 0, judged(raw(value, value), 0.01, errors=0.06)) for i, value in enumerate((0.5, 0.6))
    ]
    ranking = rank_variants(configurations(records, seeds=(0,))["aa-ig"])
    assert {scores.cnrg for scores in ranking.population.scores.values()} == {0.0}
    assert set(ranking.population.noise) == set(KEYS)
    assert [configuration.index for configuration in ranking.order] == [1, 0]  # by the CNRG that there would be
    assert len(ranking.tied) == 2


def test_a_method_with_a_test_metric_that_is_not_finite_is_not_scored_on_test_and_may_be_the_best_on_dev() -> None:
    records = [record("aa-ig", 0, 0, raw(0.2, 0.2)), record("l2e", 0, 0, {**raw(0.4, 0.4), "test/auprc": math.nan})]
    selected = select_variants(configurations(records, seeds=(0,)))
    assert list(rank_methods(selected, "test").population.scores) == ["aa-ig"]
    assert selected["l2e"].not_finite("test") == "test/auprc is nan"
    best = rank_on_dev(selected, EQUAL_WEIGHTS).best
    assert best is not None
    assert best.method == "l2e"
