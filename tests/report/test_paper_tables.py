"""Our results in the form of the paper's tables."""

import csv
import io

import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_trials import TRIALS, raw, record

from unirex_ray.analysis.compare import Comparison, compare
from unirex_ray.analysis.extraction_time import ExtractionTimes
from unirex_ray.config import build_config
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.report.compared import PAPER_TABLES, Compared
from unirex_ray.report.paper_tables import TABLE_1, TABLE_4, paper_tables
from unirex_ray.sweep.shipped import shipped_spaces
from unirex_ray.sweep.space import load_space
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST

SPACES = tuple(
    f"ablation-{name}" for name in ("extractor-f", "extractor-fp", "faithfulness-losses", "suff-criterion", "head")
)
"""The five blocks of Table 1."""


def run(store: MemoryStore, sweep: str, trials: list[tuple[str, dict]]) -> None:
    """Record configurations of a sweep, each better than the one before."""
    tags, counts = {DATA_DIGEST: "abc1"}, {}
    opened = store.open_sweep(experiment="sst", sweep_id=sweep, seeds=(0, 1), params={}, tags=tags)
    for place, (method, parameters) in enumerate(trials, 1):
        index = counts[method] = counts.get(method, -1) + 1
        for seed in (0, 1):
            trial_id = f"{sweep}-{method}-{index:04d}-s{seed}"
            spec = TrialSpec(trial_id=trial_id, method=method, configuration=index, seed=seed, parameters=parameters)
            opened.open_trial(spec, params={}, tags=tags)
            found = raw(place / 100, place / 100 + seed / 1000) | {"time/extraction_s": place / 1000}
            opened.finish_trial(trial_id, "completed", metrics=TrialMetrics.from_flat(found))
    opened.finish()


def compared(store: MemoryStore) -> Comparison:
    return compare("sst", store.sweeps("sst"))


def shipped(space: str) -> list[tuple[str, dict]]:
    """Every configuration of a shipped space, in its order."""
    loaded = load_space(shipped_spaces()[space])
    config = build_config(loaded.presets)
    spaces = [loaded.checked(config).for_method(method, config) for method in config.sweep.methods]
    return [(of.method, dict(of.grid_point(number))) for of in spaces for number in range(of.grid_size)]


def test_the_main_table_has_the_papers_order_and_columns():
    store = MemoryStore()
    record(store, TRIALS, corpus="sst")
    table = paper_tables(compared(store))["table_main"]
    lines = [line for line in table.markdown().splitlines() if line.startswith("| ")]
    assert lines[0] == ("| Method | CNRG | FNRG | Comp ↑ | Suff ↓ | PNRG | AUPRC ↑ | TF1 ↑ | TNRG | Task ↑ |")
    assert [line.split(" | ")[0] for line in lines[1:]] == [
        "| AA (IG)",
        "| UNIREX (DLM-FP)",
        "| UNIREX (SLM-P)",
        "| some-ablation",
    ]
    assert lines[2].startswith("| UNIREX (DLM-FP) | 0.250 | 0.250 | 0.400")
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(table.csv()))}
    assert float(rows["unirex-dlm-fp"]["test/auprc"]) == 0.4


def test_the_ablations_stand_under_each_other_by_their_names_in_the_paper():
    store = MemoryStore()
    # A sweep of single configurations and a grid are no part of it.
    run(store, "other", [("unirex-slm-fp", {}), ("unirex-dlm-fp", {}), ("unirex-slm-fp", {"loss.comp_weight": 0.7})])
    for space in SPACES:
        run(store, space, shipped(space))
    table = paper_tables(compared(store))["table_1"]
    wanted = [(block, row.label) for block, rows in TABLE_1.items() for row in rows]
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [(row["ablation"], row["row"]) for row in rows] == wanted
    assert table.columns["Ablation"][:5] == ["Ext Type (F)", "", "", "", "Ext Type (FP)"]
    # Each from its own block's sweep: the fourth configuration of its sweep, not the first of "other".
    (slm,) = [row for row in rows if row["row"] == "SLM-FP"]
    assert (slm["configuration"], float(slm["test/auprc"])) == ("ablation-extractor-fp:0", pytest.approx(0.0405))
    # The best of each block is bold, and each block ends with a line.
    bold = [str(cell) for cell in table.columns["AUPRC ↑"] if not isinstance(cell, str)]
    assert len(bold) == 5
    assert table.breaks == {3, 7, 10, 13}
    assert not any(remark.startswith("Not there") for remark in table.remarks)


def test_a_grid_over_the_weights_is_no_ablation():
    store = MemoryStore()
    grid = [{"loss.comp_weight": a, "loss.suff_weight": b} for a in (0, 0.5, 1.0) for b in (0, 0.5, 1.0)]
    run(store, "grid", [("unirex-slm-fp", settings) for settings in grid])
    assert "table_1" not in paper_tables(compared(store))


def test_what_an_ablation_lacks_is_named():
    store = MemoryStore()
    run(store, "head", shipped("ablation-head")[:2])
    table = paper_tables(compared(store))["table_1"]
    assert table.columns["Method"] == ["SLM-FP (Linear)", "SLM-FP (MLP-2048-2)"]
    (missing,) = [remark for remark in table.remarks if remark.startswith("Not there")]
    assert "SLM Ext Head: SLM-FP (MLP-4096-3)" in missing
    assert "Ext Type (F): AA-F (Rand)" in missing


def test_efficiency_says_how_much_faster_than_a_thousand_steps():
    store = MemoryStore()
    run(store, "steps", shipped("ablation-ig-steps"))
    table = paper_tables(compared(store))["table_4"]
    assert table.columns["Method"] == [row.label for row in TABLE_4]
    assert table.columns["x faster than IG-1000"][0] == "9.0"  # 9 ms to 1 ms
    assert table.columns["ms per instance ↓"][0] == "1.000 ± 0.000"
    assert "CSD ↑" not in table.columns  # not measured here


def test_times_that_were_measured_alone_take_the_place_of_the_trials():
    store = MemoryStore()
    run(store, "steps", shipped("ablation-ig-steps"))
    seconds = {"AA (IG-3)": (0.004, 0.006), "AA (IG-1000)": (1.0, 1.0)}
    times = ExtractionTimes(seconds=seconds, settings={}, conditions="measured alone: batches of 32 texts.")
    table = paper_tables(compared(store), times)["table_4"]
    assert table.columns["ms per instance ↓"][0] == "5.000 ± 1.414"
    assert table.columns["ms per instance ↓"][1] == ""  # never a time of another kind
    assert table.columns["x faster than IG-1000"][:2] == ["200.0", ""]
    assert table.remarks[-1].endswith("explains, measured alone: batches of 32 texts.")


def test_a_sweep_without_ablations_has_no_table_of_them():
    store = MemoryStore()
    run(store, "all", [("unirex-aa-f", {}), ("unirex-dlm-fp", {}), ("unirex-slm-fp", {}), ("aa-ig", {})])
    assert set(paper_tables(compared(store))) == {"table_main"}


def test_a_table_is_asked_for_alone_and_refused_where_there_is_none():
    store = MemoryStore()
    record(store, TRIALS, corpus="sst")
    comparison = compared(store)
    tables = {"comparison": None, "pairs": None, "configurations": None, **paper_tables(comparison)}
    found = Compared(comparison=comparison, tables=tables, figures={}, sweeps=[], store=None, results={})
    options = {"configurations": False, "pairs": False}
    assert found.to_print(**options, table="main") == [tables["table_main"]]
    assert found.to_print(**options, table=None) == [None]
    assert len(found.to_print(configurations=True, pairs=True, table=None)) == 3
    with pytest.raises(UserError, match="--table=4: no sweep has results for it"):
        found.to_print(**options, table="4")
    assert set(PAPER_TABLES) == {"main", "1", "2", "4"}
