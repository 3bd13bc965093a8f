"""Methods by the number of train instances: curves, and that unlike sizes are never ranked against each other."""

import csv
import io

import pytest
from helpers.memory_store import MemoryStore

from unirex_ray.analysis.compare import compare
from unirex_ray.analysis.leaderboard import leaderboard
from unirex_ray.analysis.learning_curve import Point, learning_curves
from unirex_ray.analysis.selection import select_variants, selectable
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.report.files import comparison_tables
from unirex_ray.report.learning_curve import learning_curve_table
from unirex_ray.report.plots import learning_curve_figure, png
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST

KEYS = ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")
TRIALS = {
    # method: (train_limit, dev value, test value) of each configuration; "none" of one that did not search it
    "aa-ig": [(100, 0.9, 0.9), (1000, 0.2, 0.1), (None, 0.3, 0.2)],
    "unirex-slm-fp": [(100, 0.95, 0.9), (1000, 0.1, 0.3), (None, 0.5, 0.6), (None, 0.4, 0.9)],
    "unirex-dlm-fp": [(100, 0.99, 0.99)],
    "l2e": [("none", 0.1, 0.5)],
}


@pytest.fixture
def comparison():
    store, tags = MemoryStore(), {DATA_DIGEST: "abc1"}
    sweep = store.open_sweep(experiment="sst", sweep_id="s1", seeds=(0, 1), params={}, tags=tags)
    for method, configurations in TRIALS.items():
        for index, (limit, dev, test) in enumerate(configurations):
            for seed in (0, 1):
                parameters = {} if limit == "none" else {"data.train_limit": limit}
                name = f"s1-{method}-{index:04d}-s{seed}"
                spec = TrialSpec(trial_id=name, method=method, configuration=index, seed=seed, parameters=parameters)
                sweep.open_trial(spec, params={}, tags=tags)
                values = {f"dev/{key}": dev for key in KEYS} | {f"test/{key}": test + seed / 10 for key in KEYS}
                sweep.finish_trial(name, "completed", metrics=TrialMetrics.from_flat(values))
    sweep.finish()
    return compare("sst", store.sweeps("sst"))


def test_methods_are_compared_on_as_many_instances_as_there_were(comparison):
    assert {row.method: row.configuration.index for row in comparison.rows} == {
        "aa-ig": 2,
        "unirex-slm-fp": 2,
        "l2e": 0,
    }
    assert {row.method: row.candidates for row in comparison.rows} == {"aa-ig": 1, "unirex-slm-fp": 2, "l2e": 1}
    reason = "no complete configuration with as many train instances as the others"
    assert ("unirex-dlm-fp", reason) in comparison.unscored
    said = comparison_tables(comparison)["comparison"].remarks
    assert "data.train_limit was searched over 100, 1,000, all; methods are compared at all." in said


def test_a_curve_per_method_that_searched_it(comparison):
    found = learning_curves(comparison.variants)
    told = {m: [(p.size, p.configuration.index, p.candidates) for p in points] for m, points in found.curves.items()}
    everything = float("inf")
    assert found.sizes == (100, 1000, everything)
    assert told == {
        "aa-ig": [(100, 0, 1), (1000, 1, 1), (everything, 2, 1)],
        "unirex-dlm-fp": [(100, 0, 1)],
        "unirex-slm-fp": [(100, 0, 1), (1000, 1, 1), (everything, 2, 2)],
    }
    assert learning_curves({m: c[:1] for m, c in comparison.variants.items()}) is None


def test_the_table_and_the_figure(comparison):
    found = learning_curves(comparison.variants)
    table = learning_curve_table(found)
    assert table.title == "Test metrics by train instances, mean ± std over 2 seeds"
    assert table.lead["Train"] == ["100", "1,000", "all", "100", "100", "1,000", "all"]
    assert "**" not in table.markdown()
    assert "No complete configuration: UNIREX (DLM-FP) at 1,000, all." in table.remarks
    rows = list(csv.DictReader(io.StringIO(table.csv(), newline="")))
    assert [row["train_limit"] for row in rows] == ["100", "1000", "", "100", "100", "1000", ""]
    assert float(rows[2]["test/auprc"]) == pytest.approx(0.25)
    figure = learning_curve_figure("sst", found)
    *panels, beside = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == ["Comp ↑", "Suff ↓", "AUPRC ↑", "TF1 ↑", "Task ↑"]
    named = [text.get_text() for text in beside.get_legend().get_texts()]
    assert named == ["AA (IG)", "UNIREX (DLM-FP)", "UNIREX (SLM-FP)"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].get_lines()}
    assert lines["AA (IG)"] == [[0, pytest.approx(0.95)], [1, pytest.approx(0.15)], [2, pytest.approx(0.25)]]
    assert lines["UNIREX (DLM-FP)"] == [[0, pytest.approx(1.04)]]
    assert png(figure).startswith(b"\x89PNG")


def test_points_of_models_that_learned_nothing_are_marked(comparison, monkeypatch):
    monkeypatch.setattr(Point, "learned", property(lambda point: point.size > 100))
    found = learning_curves(comparison.variants)
    table = learning_curve_table(found)
    assert table.lead["Method"][:2] == ["AA (IG) †", "AA (IG)"]
    assert any(remark.startswith("† not better than the majority class") for remark in table.remarks)
    figure = learning_curve_figure("sst", found)
    *panels, beside = figure.axes
    hollow = [line for line in panels[0].get_lines() if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow] == [[0]] * 3
    assert beside.get_legend().get_texts()[-1].get_text() == "not better than the majority class"


def test_a_sweep_selects_among_the_largest_samples(comparison):
    ranked = leaderboard(comparison.variants)
    best = ranked.best.configuration
    assert (best.method, best.index) == ("unirex-slm-fp", 2)
    # SLM-FP on 100 instances is ahead of it on dev, but of unlike data.
    slm = [(r.rank, r.configuration.index, r.note) for r in ranked.rows if r.configuration.method == "unirex-slm-fp"]
    fewer = [(None, index, f"data.train_limit = {size}, and others have more") for index, size in ((0, 100), (1, 1000))]
    assert slm == [(1, 2, ""), (2, 3, ""), *fewer]
    assert {
        row.configuration.method: row.configuration.index for row in ranked.rows if row.global_cnrg is not None
    } == {
        "aa-ig": 2,
        "unirex-slm-fp": 2,
        "l2e": 0,
    }
    assert {m: c.index for m, c in select_variants(comparison.variants).items()} == {
        "aa-ig": 2,
        "unirex-slm-fp": 2,
        "l2e": 0,
    }
    # Weights of those on fewer instances are free to go, whatever their metrics are.
    assert [c.index for c in selectable(comparison.variants["unirex-slm-fp"])] == [2, 3]
