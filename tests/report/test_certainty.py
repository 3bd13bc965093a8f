"""What a comparison says of its certainty: in its tables, in CSV, and in words."""

import csv
import io
import re
from dataclasses import replace

import pytest
from helpers.memory_store import MemoryStore
from helpers.simulated import TRUE, numbers, reader, record_simulated

from unirex_ray.analysis.compare import Comparison, compare, with_certainty
from unirex_ray.report.certainty import findings, p_text, rank_text, share_text
from unirex_ray.report.compared import Compared
from unirex_ray.report.corpus_page import answer, sections
from unirex_ray.report.files import comparison_figures, comparison_tables


def compared(true=TRUE, *, seeds: int = 3) -> Comparison:
    store = MemoryStore()
    record_simulated(store, true, seeds=seeds)
    return with_certainty(compare("reviews", store.sweeps("reviews")), reader(store))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compared()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_main_table_shows_intervals_and_who_may_be_first(comparison):
    text = comparison_tables(comparison)["comparison"].markdown()
    header = next(line for line in text.splitlines() if line.startswith("| Method"))
    assert header.startswith("| Method | CNRG | 95 % | First | FNRG |")
    low, high = comparison.certainty.intervals["aa-ig"]["cnrg"]
    assert f"| {low:.2f} to {high:.2f} | {share_text(comparison.certainty.first['aa-ig'])} |" in text
    assert "2,000 bootstrap draws of 150 test instances and 3 seeds" in text
    assert "3 seeds tell little of their spread" in text


def test_every_bound_is_in_the_csv_with_every_digit(comparison):
    tables = comparison_tables(comparison)
    for name in ("comparison", "certainty"):
        rows = {row["method"]: row for row in rows_of(tables[name].csv())}
        for method, intervals in comparison.certainty.intervals.items():
            for key, (low, high) in intervals.items():
                group = "test" if key in TRUE["aa-ig"] else "nrg"
                assert float(rows[method][f"{group}/{key}_low"]) == low
                assert float(rows[method][f"{group}/{key}_high"]) == high
            assert float(rows[method]["p_first"]) == comparison.certainty.first[method]
            assert int(rows[method]["rank_worst"]) == comparison.certainty.ranks[method][1]


def test_pairs_are_a_matrix_and_rows_of_csv(comparison):
    table = comparison_tables(comparison)["pairs"]
    (first,) = [row for row in rows_of(table.csv()) if {row["method"], row["other"]} == {"aa-ig", "aa-grad"}]
    assert (first["method"], float(first["ahead"]), float(first["p_cnrg"])) == ("aa-ig", 1.0, 1 / 2000)
    assert float(first["p_holm_auprc"]) < 0.05
    assert (float(first["difference_auprc_low"]), float(first["difference_auprc_high"])) == next(
        pair.differences["auprc"]
        for pair in comparison.certainty.pairs
        if {pair.method, pair.other} == {"aa-ig", "aa-grad"}
    )
    lines = [line for line in table.markdown().splitlines() if line.startswith("| ")]
    assert lines[0] == "| # | Method | 1 | 2 | 3 | 4 |"
    assert re.fullmatch(r"\| 3 \| AA \(IG\) \| \d \| \d \|  \| 100 \|", lines[3])


def test_one_seed_says_what_its_intervals_leave_out():
    table = comparison_tables(compared(seeds=1))["comparison"]
    assert any(remark.startswith("WITH ONE SEED, how far another seed moves a method") for remark in table.remarks)
    assert any("draws of 150 test instances, NRG" in remark for remark in table.remarks)
    assert answer(compared(seeds=1))[-1].startswith("WITH ONE SEED, ")
    assert not any(line.startswith("WITH ONE SEED") for line in answer(compared(seeds=2)))


def test_the_page_says_once_what_several_tables_remark(comparison):
    tables = {name: replace(table, remarks=["of all", name]) for name, table in comparison_tables(comparison).items()}
    page = Compared(comparison=comparison, tables=tables, figures={}, sweeps=[], store=None, results={})
    said = [
        remark for section in sections(page, ["configurations"]) for table in section.tables for remark in table.remarks
    ]
    assert said == ["of all", "comparison", "certainty", "pairs"]


def test_who_can_be_told_apart_is_said_in_words(comparison):
    (best, equal) = ("UNIREX (SLM-FP)", "UNIREX (DLM-FP)")
    if comparison.rows[0].method == "unirex-dlm-fp":
        best, equal = equal, best
    share, apart, ahead = findings(comparison.certainty)
    assert share.startswith(f"{best} has the highest CNRG in ")
    assert apart.startswith(f"{best} cannot be told apart from {equal} (p = ")
    assert ahead == f"{best} is ahead of AA (IG), AA (Grad) (p ≤ 0.05)."


def test_one_method_alone_has_an_interval_and_nothing_to_be_told_from():
    found = compared({"aa-ig": numbers(0.1, 0.1, 50.0, 50.0, 80.0)})
    assert findings(found.certainty) == ["AA (IG) is the only method that is ranked."]
    tables = comparison_tables(found)
    shown = tables["comparison"].markdown()
    assert "NRG compares methods, so that one alone has none" in shown
    assert not re.search(r"CNRG|First|100 %|\b0\.000\b", shown.partition("NRG compares")[0])
    intervals = tables["certainty"].markdown()
    assert re.search(r"\| Comp ↑ \|", intervals)
    assert not re.search(r"NRG|First", intervals)
    assert "pairs" not in tables
    assert not comparison_figures(found)


def test_nobody_is_said_to_be_ahead_of_a_method_that_is_not_ranked():
    found = compared({"aa-ig": numbers(0.1, 0.1, 50.0, 50.0, 80.0), "sgt": numbers(0.5, -0.1, 90.0, 90.0, 50.0)})
    assert answer(found) == ["AA (IG) is the only method that is ranked."]


def test_where_no_method_learned_anything_none_is_said_to_have_won():
    found = compared({"aa-ig": numbers(0.1, 0.1, 50.0, 50.0, 50.0), "sgt": numbers(0.5, -0.1, 90.0, 90.0, 50.0)})
    assert answer(found) == ["No method is better than the majority class on reviews."]
    assert findings(found.certainty) == []


def test_without_intervals_the_table_says_why():
    store = MemoryStore()
    record_simulated(store)
    for run in store.runs.values():
        run["artifacts"].clear()
    found = with_certainty(compare("reviews", store.sweeps("reviews")), reader(store))
    table = comparison_tables(found)["comparison"]
    assert table.remarks[0].startswith("NO INTERVALS, so that a difference may be chance: s1-")
    assert "95 %" not in table.markdown()


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.001, "< 1 %"), (0.41, "41 %"), (0.999, "> 99 %"), (1.0, "100 %")]
)
def test_shares_do_not_pretend_to_be_sure(share, text):
    assert share_text(share) == text


def test_numbers_in_words():
    assert (rank_text((2, 2)), rank_text((1, 4))) == ("2", "1 to 4")
    assert (p_text(0.0005), p_text(0.409)) == ("p < 0.01", "p = 0.41")
