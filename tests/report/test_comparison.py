import csv
import io
import json
import math
from typing import Any

import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_trials import OURS, PAPER, TRIALS, Trials, raw, record
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from unirex_ray.analysis.compare import Comparison, compare
from unirex_ray.analysis.leaderboard import Place, leaderboard
from unirex_ray.analysis.paper import compare_with_paper
from unirex_ray.analysis.selection import configurations
from unirex_ray.report.comparison import (
    comparison_markdown,
    comparison_remarks,
    comparison_rows,
    leaderboard_rows,
    print_comparison,
    print_leaderboard,
)
from unirex_ray.report.published import print_published, published_markdown, published_remarks, published_rows
from unirex_ray.report.table import parameters_text, to_csv


def places(trials: Trials = TRIALS) -> tuple[Place, ...]:
    store = MemoryStore()
    record(store, trials)
    return leaderboard(configurations(store.trials(), seeds=(0, 1)))


def comparison(trials: Trials = TRIALS) -> Comparison:
    store = MemoryStore()
    record(store, trials)
    return compare("reviews", store.sweeps("reviews"))


def printed(width: int, print_it: Any, what: Any) -> str:
    stream = io.StringIO()
    print_it(what, Console(file=stream, width=width))
    return stream.getvalue()


def test_leaderboard_order_ranks_and_best() -> None:
    rows = [(p.configuration.method, p.configuration.key, p.rank, p.best) for p in places()]
    assert rows == [
        ("unirex-dlm-fp", "1", 1, True),
        ("unirex-dlm-fp", "0", 2, False),
        ("unirex-dlm-fp", "2", None, False),
        ("unirex-dlm-fp", "3", None, False),
        ("unirex-slm-p", "0", 1, False),
        ("aa-ig", "0", 1, False),
        ("some-ablation", "0", 1, False),
        ("unirex-slm-fp", "0", None, False),
    ]


def test_leaderboard_scores_are_on_dev() -> None:
    by_key = {(p.configuration.method, p.configuration.key): p for p in places()}
    best, second = by_key["unirex-dlm-fp", "1"], by_key["unirex-dlm-fp", "0"]
    assert best.scores is not None
    assert second.scores is not None
    assert (best.scores.cnrg, second.scores.cnrg) == (1.0, 0.0)
    assert (best.global_cnrg, second.global_cnrg) == (1.0, None)
    # Dev means are 0.6, 0.5 and 0.3: hand-computed (0.5 - 0.3) / (0.6 - 0.3).
    assert by_key["unirex-slm-p", "0"].global_cnrg == pytest.approx(2 / 3)
    assert by_key["unirex-dlm-fp", "2"].note == "seed 1 failed: loss is nan"
    assert not any("test" in key for row in leaderboard_rows(places()) for key in row)


def test_a_leaderboard_of_failures_still_prints() -> None:
    failed = places([("aa-ig", 0, 0, "failed")])
    assert "seed 0 failed: loss is nan" in printed(200, print_leaderboard, failed)
    assert to_csv(leaderboard_rows(failed)).count("\n") == 2
    assert leaderboard({}) == ()


@pytest.mark.parametrize("width", [80, 120, 240])
def test_no_number_is_cut_at_any_width(width: int) -> None:
    text = printed(width, print_leaderboard, places())
    for cell in ("learning_rate=2e-05", "UNIREX (DLM-FP) *", "0.600", "0.400", "0.60"):
        assert cell in text
    text = printed(width, print_comparison, comparison())
    for cell in ("UNIREX (DLM-FP)", "0.250", "0.200 ± 0.141", "0.800 ± 0.141", "0.20 ± 0.14"):
        assert cell in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_wide_is_one_table() -> None:
    assert printed(240, print_comparison, comparison()).count("Method") == 1
    assert printed(80, print_comparison, comparison()).count("Method") > 1


def test_markdown_marks_the_best_by_direction() -> None:
    text = comparison_markdown(comparison([t for t in TRIALS if t[0] != "some-ablation"]))
    header, _, first, _, last = text.splitlines()[2:7]
    assert header.startswith("| Method | CNRG | FNRG | PNRG | TNRG | Configs | Comp ↑ | Suff ↓ |")
    assert first.startswith("| UNIREX (SLM-P) | **1.000** | **1.000** |")
    assert "**0.000 ± 0.000**" in first
    assert "**" not in last
    assert "- Unscored: unirex-slm-fp 0 (seed 0 failed: loss is nan)." in text


def test_markup_and_pipes_are_text() -> None:
    odd: Trials = [("[red]m|x[/red]", 0, seed, raw(0.5, 0.5)) for seed in (0, 1)]
    odd = [*odd, *TRIALS[:2]]
    assert "[red]m|x[/red]" in printed(240, print_comparison, comparison(odd))
    assert "[red]m|x[/red]" in printed(240, print_leaderboard, places(odd))
    assert "| [red]m\\|x[/red] |" in comparison_markdown(comparison(odd))


def test_remarks_on_constant_metrics_and_missing_gold() -> None:
    assert "equal on Comp, Suff, AUPRC, TF1, Task" in comparison_remarks(comparison(TRIALS[:2]))[0]
    no_gold = [
        (method, index, seed, {k: v for k, v in raw(0.1 * i, 0.1 * i).items() if "auprc" not in k and "f1" not in k})
        for i, (method, index, seed) in enumerate([("aa-ig", 0, 0), ("aa-ig", 0, 1)])
    ]
    without = comparison([*no_gold])
    assert any("no gold rationales" in remark for remark in comparison_remarks(without))
    assert "PNRG" not in printed(240, print_comparison, without).splitlines()[2]


def test_comparison_csv_reads_back() -> None:
    given_rows = comparison_rows(comparison())
    read = list(csv.DictReader(io.StringIO(to_csv(given_rows), newline="")))
    assert len(read) == len(given_rows)
    for got, expected in zip(read, given_rows, strict=True):
        assert float(got["test/auprc"]) == expected["test/auprc"]
        assert float(got["test/sufficiency_std"]) == expected["test/sufficiency_std"]
        assert json.loads(got["parameters"]) == {"train.learning_rate": 2e-5}
        assert got["sweep"] == "s1"
    assert read[-1]["nrg/cnrg"] == ""
    assert float(read[1]["nrg/cnrg"]) == given_rows[1]["nrg/cnrg"]


CELLS = st.one_of(
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")),
    st.lists(st.integers()),
    st.booleans(),
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b,c", 'd"']), CELLS, min_size=1), min_size=1))
def test_csv_round_trip(rows: list[dict[str, Any]]) -> None:
    read = list(csv.DictReader(io.StringIO(to_csv(rows), newline="")))
    # A row of one empty cell is a blank line, which readers skip.
    header = {key for row in rows for key in row}
    if len(header) > 1:
        assert len(read) == len(rows)
        for got, row in zip(read, rows, strict=True):
            for key in header:
                value = row.get(key)
                assert got[key] == ("" if value is None else value if isinstance(value, str) else json.dumps(value))


def test_nan_is_an_empty_cell() -> None:
    assert to_csv([{"a": math.nan, "b": 0.0}]) == "a,b\n,0.0\n"


def test_parameters_text() -> None:
    assert (
        parameters_text({"train.learning_rate": 2e-5, "loss.comp_weight": 1.0}) == "learning_rate=2e-05 comp_weight=1"
    )
    assert parameters_text({"train.seed": 1, "data.seed": 2}) == "train.seed=1 data.seed=2"


@pytest.mark.parametrize("width", [80, 120, 240])
def test_published_at_any_width(width: int) -> None:
    text = printed(width, print_published, compare_with_paper(OURS, PAPER))
    for cell in ("UNIREX (DLM-FP)", "0.750", "0.583", "▲1", "▼1", "same", "0.200", "0.300", "80.00", "90.00", "91.00"):
        assert cell in text
    assert max(len(line) for line in text.splitlines()) <= width
    # Ours and the paper's of one metric are in one table.
    for metric in ("Comp ↑", "Suff ↓", "AUPRC ↑", "TF1 ↑", "Task ↑"):
        (header,) = [line for line in text.splitlines() if metric in line]
        assert header.index(f"Paper's {metric[:-2]}") > header.index(metric)
    assert (text.count("Method") == 1) == (width == 240)


def test_published_markdown() -> None:
    lines = published_markdown(compare_with_paper(OURS, PAPER)).splitlines()
    assert lines[0] == "Beside the paper's results (UNIREX, Tables 6-10); NRG over the methods that both have: 3"
    assert lines[2].startswith("| Method | CNRG | Paper's CNRG | Rank | Paper's rank | Moved | Comp ↑ | Paper's Comp |")
    assert lines[4] == (
        "| UNIREX (DLM-FP) | 0.750 | 0.583 | 1 | 2 | **▲1** | 0.200 | 0.300 | 0.000 | 0.300 "
        "| 80.00 | 90.00 | 70.00 | 80.00 | 85.00 | 91.00 |"
    )
    assert lines[5].startswith("| UNIREX (AA-F) | 0.403 | 0.667 | 2 | 1 | **▼1** |")
    assert lines[6].startswith("| AA (IG) | 0.333 | 0.200 | 3 | 3 | same |")
    assert "- Spearman's rank correlation of the two rankings: 0.50 (3 methods)." in lines


def test_published_remarks() -> None:
    # A label where this version knows the method, else its name.
    ours = {**OURS, "unirex-slm-p": OURS["mine"]}
    paper = {**PAPER, "unirex-slm-fp": PAPER["aa-ig"], "not-yet-here": PAPER["aa-ig"]}
    remarks = published_remarks(compare_with_paper(ours, paper))
    assert "Only here: mine, UNIREX (SLM-P)." in remarks
    assert remarks[-1].endswith("UNIREX (SLM-FP), not-yet-here.")

    flat = {m: {**row, "task_score": 90.0} for m, row in PAPER.items()}
    assert published_remarks(compare_with_paper(PAPER, flat)) == [
        "Spearman's rank correlation of the two rankings: 1.00 (4 methods).",
        "All of them are equal on Task in the paper: each gets NRG 0.0 there.",
    ]


def test_published_with_nothing_in_common() -> None:
    beside = compare_with_paper({"mine": OURS["mine"]}, {"sgt": PAPER["sgt"]})
    text = printed(80, print_published, beside)
    assert text.splitlines()[0] == "No method is both here and in the paper."
    assert "Only here: mine." in text
    assert "|" not in published_markdown(beside)
    assert published_rows(beside) == []


def test_published_csv_reads_back() -> None:
    rows = published_rows(compare_with_paper(OURS, PAPER))
    read = list(csv.DictReader(io.StringIO(to_csv(rows), newline="")))
    assert [row["moved"] for row in read] == ["1", "-1", "0"]
    assert float(read[1]["paper_cnrg"]) == rows[1]["paper_cnrg"] == pytest.approx(2 / 3)
    assert (float(read[0]["test/sufficiency"]), float(read[0]["paper/sufficiency"])) == (0.0, 0.3)
