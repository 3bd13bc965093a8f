import pytest

from unirex_ray.benchmarks.search import SearchCost, measure_search
from unirex_ray.benchmarks.table import search_table


@pytest.mark.parametrize("trials", [2, 4, 10, 42])
def test_a_sweep_goes_on_from_any_number_of_trials(trials):
    cost = measure_search(trials)
    assert cost.trials == trials
    assert min(cost.suggestion_ms, cost.next_ms, cost.report_ms, cost.compare_ms) > 0


def test_its_costs_are_a_table(monkeypatch):
    def cost(trials: int) -> SearchCost:
        return SearchCost(trials=trials, suggestion_ms=36.26, next_ms=0.03, report_ms=9.8, compare_ms=116.2)

    monkeypatch.setattr("unirex_ray.benchmarks.table.measure_search", cost)
    table = search_table((10_000,))
    assert {**table.lead, **table.scores} == {
        "Trials": ["10,000"],
        "Suggestion": ["36.3"],
        "Next": ["0.03"],
        "Report at a rung": ["9.8"],
        "Compare": ["116.2"],
    }
    assert table.records == [
        {"trials": 10_000, "suggestion_ms": 36.26, "next_ms": 0.03, "report_ms": 9.8, "compare_ms": 116.2}
    ]
