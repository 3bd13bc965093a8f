"""Pairs of methods that can be told apart, beside the paper's order of them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers.memory_store import MemoryStore
from helpers.simulated import TRUE, numbers, reader, record_simulated
from scipy.stats import spearmanr

from unirex_ray.analysis.agreement import agreement
from unirex_ray.analysis.compare import Comparison, compare, with_certainty
from unirex_ray.analysis.paper import compare_with_paper
from unirex_ray.report.files import comparison_tables

PAPER = {
    "unirex-slm-fp": numbers(0.30, 0.05, 70.0, 60.0, 85.0),
    "unirex-dlm-fp": numbers(0.30, 0.05, 70.0, 60.0, 85.0),
    "aa-ig": numbers(0.40, 0.02, 55.0, 50.0, 85.0),
    "aa-grad": numbers(0.05, 0.30, 45.0, 40.0, 75.0),
    "sgt": numbers(0.05, 0.30, 45.0, 40.0, 75.0),
}
"""AA (IG) is more faithful than both UNIREX methods, and as good at the task."""


def compared(true=TRUE) -> Comparison:
    store = MemoryStore()
    record_simulated(store, true, corpus="sst")
    return with_certainty(compare("sst", store.sweeps("sst")), reader(store))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compared()


def test_a_difference_has_the_interval_of_its_draws(comparison):
    found = comparison.certainty
    for pair in found.pairs:
        ours, theirs = (found.drawn.members.index(name) for name in (pair.method, pair.other))
        for key, values in found.drawn.by_key().items():
            wanted = np.percentile(values[:, ours] - values[:, theirs], [2.5, 97.5])
            assert pair.differences[key] == pytest.approx(tuple(wanted))


def test_pairs_are_held_against_the_paper_with_each_metrics_direction(comparison):
    beside = compare_with_paper(comparison.raw, PAPER)
    found = agreement(comparison.certainty, beside)
    assert found.pairs == 6
    assert list(found.apart) == ["comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score", "cnrg"]
    # Both UNIREX methods are equal here, and ahead of AA (IG), and that of AA (Grad), by every metric.
    for key, against in {"comprehensiveness": 2, "sufficiency": 2, "auprc": 0, "token_f1": 0}.items():
        telling = {(pair.method, pair.other): pair for pair in found.apart[key]}
        # By chance, the two that are equal are told apart by one of the metrics; the paper has them equal.
        by_chance = telling.pop(("unirex-dlm-fp", "unirex-slm-fp"), None)
        assert by_chance is None or by_chance.agrees is None
        assert len(telling) == 5, key
        assert Counter(pair.agrees for pair in telling.values()) == Counter({True: 5 - against, False: against}), key
        pair = telling["unirex-slm-fp", "aa-ig"]
        assert pair.agrees is (not against)
        assert pair.in_paper == pytest.approx(PAPER["unirex-slm-fp"][key] - PAPER["aa-ig"][key])
        assert pair.difference[0] < TRUE["unirex-slm-fp"][key] - TRUE["aa-ig"][key] < pair.difference[1]
        assert (pair.difference[0] > 0) is (key != "sufficiency")
    equal = [pair for pair in found.apart["task_score"] if pair.agrees is None]
    assert {pair.other for pair in equal} <= {"aa-ig"}
    assert all(pair.in_paper == 0 for pair in equal)


def test_the_correlation_has_the_interval_of_its_draws(comparison):
    # With a fifth method, as fewer have no correlation.
    five = compared({**TRUE, "sgt": numbers(0.10, 0.25, 50.0, 45.0, 78.0)})
    beside = compare_with_paper(five.raw, PAPER)
    drawn = five.certainty.drawn
    ranks = {row.method: row.paper_rank for row in beside.rows}
    slow = [spearmanr(-scores, [ranks[member] for member in drawn.members]).statistic for scores in drawn.cnrg]
    found = agreement(five.certainty, beside)
    assert found.spearman == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])))
    assert found.spearman[0] - 1e-9 <= beside.spearman <= found.spearman[1] + 1e-9
    assert agreement(comparison.certainty, compare_with_paper(comparison.raw, PAPER)).spearman is None
    # Our CNRG over a larger Z is not the paper's over the common methods.
    fewer = compare_with_paper(five.raw, {method: row for method, row in PAPER.items() if method != "sgt"})
    without = agreement(five.certainty, fewer)
    assert without.spearman is None
    assert "cnrg" not in without.apart
    assert without.pairs == 6


def test_the_table_counts_and_the_csv_has_every_pair(comparison):
    beside = compare_with_paper(comparison.raw, PAPER)
    table = comparison_tables(comparison, beside)["agreement"]
    lines = [line for line in table.markdown().splitlines() if line.startswith("| ")]
    assert lines[0] == "| By | Told apart | As in the paper | The other way round | Equal in the paper |"
    assert lines[1].startswith("| CNRG |")
    assert "| Suff ↓ | 5 | 3 | 2 | 0 |" in lines
    assert "The paper's order of 6 pairs of methods" in table.markdown()
    of_suff = [record for record in table.records if record["metric"] == "sufficiency"]
    assert sum(record["agrees"] for record in of_suff) == 3
    assert "agreement" not in comparison_tables(replace(comparison, certainty=None), beside)
    assert "agreement" not in comparison_tables(comparison)
