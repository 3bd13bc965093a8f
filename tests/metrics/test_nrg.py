import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.analysis.paper import PUBLISHED_TABLES
from unirex_ray.errors import UserError
from unirex_ray.metrics.nrg import mean_over_seeds, relative_gain, score_population, std_over_seeds
from unirex_ray.metrics.table import NRG_METRICS

PAPER = json.loads(PUBLISHED_TABLES.read_text(encoding="utf-8"))
MISPRINTS = {
    "SST UNIREX (AA-FP)": "fnrg printed 0.339, its raw scores give 0.692 (the printed cnrg agrees with 0.692)",
    "CoS-E FRESH+P": "suff printed 0.013 repeats comp; printed fnrg 0.515 and cnrg 0.504 belong to suff 0.000",
    "MultiRC FRESH": "printed pnrg 0.617 and cnrg 0.675 do not follow from the printed auprc and tf1 (0.325 and 0.578)",
    "MultiRC UNIREX (AA-F)": "F1 printed 66.17 repeats AA-FP's; printed tnrg 0.939 and cnrg 0.711 belong to another",
    "MultiRC SGT+P": "suff printed 0.283; printed fnrg 0.665 and cnrg 0.630 belong to about 0.028",
    "e-SNLI A2R+P": "F1 printed 77.31 repeats tf1; printed tnrg 0.656 and cnrg 0.800 belong to another value",
}
KEY_OF_COLUMN = {
    "comp": "comprehensiveness",
    "suff": "sufficiency",
    "auprc": "auprc",
    "tf1": "token_f1",
    "perf": "task_score",
}

# Multiples of 1/64 in a small range: differences are exact, so properties hold without a tolerance hiding a fault.
VALUES = st.integers(-640, 640).map(lambda i: i / 64)
MEMBERS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.fixed_dictionaries({metric.key: VALUES for metric in NRG_METRICS}),
    min_size=1,
    max_size=6,
)

SMALL = {
    "a": {"comprehensiveness": 0.1, "sufficiency": 0.3, "auprc": 40.0, "token_f1": 50.0, "task_score": 90.0},
    "b": {"comprehensiveness": 0.3, "sufficiency": 0.1, "auprc": 60.0, "token_f1": 55.0, "task_score": 80.0},
    "c": {"comprehensiveness": 0.2, "sufficiency": 0.0, "auprc": 80.0, "token_f1": 70.0, "task_score": 85.0},
}


def naive(raw: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """A second way to the same numbers, metric by metric, as the paper writes it."""

    def gain(key: str, name: str, lower: bool) -> float:
        column = [row[key] for row in raw.values()]
        if max(column) == min(column):
            return 0.0
        share = (raw[name][key] - min(column)) / (max(column) - min(column))
        return 1 - share if lower else share

    result = {}
    for name in raw:
        f = (gain("comprehensiveness", name, False) + gain("sufficiency", name, True)) / 2
        p = (gain("auprc", name, False) + gain("token_f1", name, False)) / 2
        t = gain("task_score", name, False)
        result[name] = {"fnrg": f, "pnrg": p, "tnrg": t, "cnrg": (f + p + t) / 3}
    return result


def test_literal() -> None:
    population = score_population(SMALL)
    scores = population.scores["b"]
    assert scores.relative == pytest.approx(
        {"comprehensiveness": 1.0, "sufficiency": 2 / 3, "auprc": 0.5, "token_f1": 0.25, "task_score": 0.0}
    )
    assert scores.fnrg == pytest.approx(0.8333333)
    assert scores.pnrg == pytest.approx(0.375)
    assert scores.tnrg == 0.0
    assert scores.cnrg == pytest.approx(0.4027778)
    assert population.constant == ()
    assert population.plausibility


@given(MEMBERS)
def test_equals_naive(raw: dict[str, dict[str, float]]) -> None:
    expected = naive(raw)
    for name, scores in score_population(raw).scores.items():
        got = {"fnrg": scores.fnrg, "pnrg": scores.pnrg, "tnrg": scores.tnrg, "cnrg": scores.cnrg}
        assert got == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.slow
@given(MEMBERS)
def test_range_and_direction(raw: dict[str, dict[str, float]]) -> None:
    population = score_population(raw)
    for metric in NRG_METRICS:
        column = {name: scores.relative[metric.key] for name, scores in population.scores.items()}
        assert all(0.0 <= value <= 1.0 for value in column.values())
        best = (max if metric.higher_is_better else min)(raw, key=lambda name: raw[name][metric.key])
        worst = (min if metric.higher_is_better else max)(raw, key=lambda name: raw[name][metric.key])
        if metric.key in population.constant:
            assert set(column.values()) == {0.0}
        else:
            assert column[best] == 1.0
            assert column[worst] == 0.0
    assert all(0.0 <= s.cnrg <= 1.0 + 1e-12 for s in population.scores.values())


@pytest.mark.slow
@given(MEMBERS, st.sampled_from([0.25, 0.5, 2.0, 8.0]), VALUES)
def test_invariant_to_positive_affine_rescaling(raw: dict[str, dict[str, float]], scale: float, shift: float) -> None:
    moved = {name: {key: scale * value + shift for key, value in row.items()} for name, row in raw.items()}
    for name, scores in score_population(raw).scores.items():
        assert score_population(moved).scores[name].relative == pytest.approx(dict(scores.relative), abs=1e-12)


def test_a_new_extreme_changes_the_others() -> None:
    before = score_population(SMALL).scores["b"]
    after = score_population({**SMALL, "d": {**SMALL["a"], "comprehensiveness": 0.5}}).scores["b"]
    assert before.relative["comprehensiveness"] == pytest.approx(1.0)
    assert after.relative["comprehensiveness"] == pytest.approx(0.5)
    assert after.cnrg < before.cnrg


def test_constant_metrics_are_zero_and_named() -> None:
    raw = {name: {**row, "task_score": 0.0} for name, row in SMALL.items()}
    population = score_population(raw)
    assert population.constant == ("task_score",)
    assert {scores.tnrg for scores in population.scores.values()} == {0.0}
    alone = score_population({"a": SMALL["a"]})
    assert set(alone.constant) == {metric.key for metric in NRG_METRICS}
    assert alone.scores["a"].cnrg == 0.0


def test_without_gold_rationales_pnrg_is_left_out() -> None:
    raw = {
        name: {key: value for key, value in row.items() if key not in ("auprc", "token_f1")}
        for name, row in SMALL.items()
    }
    population = score_population(raw, (1.0, 5.0, 1.0))
    assert not population.plausibility
    scores = population.scores["a"]
    assert scores.pnrg is None
    assert "auprc" not in scores.relative
    assert scores.cnrg == pytest.approx((0.0 + 1.0) / 2)


def test_weights() -> None:
    assert score_population(SMALL, (0.0, 0.0, 2.0)).scores["c"].cnrg == pytest.approx(0.5)
    assert score_population(SMALL, (3.0, 1.0, 0.0)).scores["b"].cnrg == pytest.approx((3 * 5 / 6 + 0.375) / 4)
    with pytest.raises(UserError, match="not all 0"):
        score_population(SMALL, (0.0, 0.0, 0.0))
    no_gold = {"a": {"comprehensiveness": 0.1, "sufficiency": 0.3, "task_score": 90.0}}
    with pytest.raises(UserError, match="PNRG is left out"):
        score_population(no_gold, (0.0, 1.0, 0.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_names_member_and_metric(bad: float) -> None:
    with pytest.raises(ValueError, match=r"'auprc' of member 'b'"):
        score_population({**SMALL, "b": {**SMALL["b"], "auprc": bad}})


@pytest.mark.parametrize("key", [metric.key for metric in NRG_METRICS])
def test_a_missing_metric_names_member_and_metric(key: str) -> None:
    short = {k: v for k, v in SMALL["b"].items() if k != key}
    with pytest.raises(ValueError, match=f"'b' lacks the metric '{key}'"):
        score_population({**SMALL, "b": short})


def test_zero_is_a_value() -> None:
    raw = {name: {**row, "auprc": 0.0 if name == "a" else row["auprc"]} for name, row in SMALL.items()}
    assert score_population(raw).scores["b"].relative["auprc"] == pytest.approx(0.75)


def test_empty() -> None:
    assert score_population({}).scores == {}
    assert relative_gain(np.array([]), higher_is_better=True).size == 0


def test_paper_tables() -> None:
    """The printed NRG columns follow from the printed raw ones in 74 rows; the other six are misprints."""
    wrong = set()
    for corpus, table in PAPER["tables"].items():
        rows = {name: dict(zip(PAPER["columns"], values, strict=True)) for name, values in table.items()}
        raw = {name: {key: row[column] for column, key in KEY_OF_COLUMN.items()} for name, row in rows.items()}
        for name, scores in score_population(raw).scores.items():
            assert scores.pnrg is not None
            printed = [rows[name][column] for column in ("fnrg", "pnrg", "tnrg", "cnrg")]
            computed = [scores.fnrg, scores.pnrg, scores.tnrg, scores.cnrg]
            if max(abs(p - c) for p, c in zip(printed, computed, strict=True)) > 0.0025:
                wrong.add(f"{corpus} {name}")
    assert sum(len(table) for table in PAPER["tables"].values()) == 80
    assert len(wrong) == 6
    assert wrong == set(MISPRINTS)


@given(st.lists(VALUES, min_size=2, max_size=6))
def test_seeds(values: list[float]) -> None:
    rows = [{"auprc": value} for value in values]
    assert mean_over_seeds(rows)["auprc"] == pytest.approx(statistics.mean(values))
    assert std_over_seeds(rows)["auprc"] == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert mean_over_seeds(rows) == mean_over_seeds(rows[::-1])


def test_seeds_literal() -> None:
    rows = [{"auprc": 1.0}, {"auprc": 2.0}, {"auprc": 6.0}]
    assert mean_over_seeds(rows) == {"auprc": 3.0}
    assert std_over_seeds(rows)["auprc"] == pytest.approx(math.sqrt(7))
    assert math.isnan(std_over_seeds(rows[:1])["auprc"])
    assert mean_over_seeds([{"auprc": 1.0, "token_f1": 0.0}, {"auprc": 3.0}]) == {"auprc": 2.0}


def test_a_range_below_twice_the_largest_standard_error_counts_as_constant() -> None:
    raw = {
        "a": {**SMALL["a"], "task_score": 80.0, "task_score_se": 1.0},
        "b": {**SMALL["b"], "task_score": 83.0, "task_score_se": 2.0},
        "c": {**SMALL["c"], "task_score": 82.0},
    }
    population = score_population(raw)
    assert population.noise == {"task_score": (3.0, 2.0)}
    assert population.constant == ()
    assert {scores.tnrg for scores in population.scores.values()} == {0.0}
    plain = score_population({name: {k: v for k, v in m.items() if k != "task_score_se"} for name, m in raw.items()})
    assert {name: s.fnrg for name, s in population.scores.items()} == {n: s.fnrg for n, s in plain.scores.items()}
    raw["b"]["task_score"] = 84.0  # twice the error
    assert score_population(raw).noise == {}
    assert score_population(raw).scores["b"].tnrg == 1.0
