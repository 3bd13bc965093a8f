import csv
import io
import json

import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_trials import OURS, PAPER, TRIALS, Trials, raw, record
from rich.console import Console

from unirex_ray.analysis.compare import Comparison, compare
from unirex_ray.analysis.leaderboard import LeaderboardRow, leaderboard
from unirex_ray.analysis.paper import compare_with_paper
from unirex_ray.analysis.selection import configurations
from unirex_ray.report.comparison import comparison_table, leaderboard_table
from unirex_ray.report.published import published_table
from unirex_ray.report.table import ReportTable


def ranked(trials: Trials = TRIALS) -> tuple[LeaderboardRow, ...]:
    store = MemoryStore()
    record(store, trials)
    return leaderboard(configurations(store.sweeps("reviews")[0].trials, seeds=(0, 1)))


def comparison(trials: Trials = TRIALS) -> Comparison:
    store = MemoryStore()
    record(store, trials)
    return compare("reviews", store.sweeps("reviews"))


def printed(table: ReportTable, width: int) -> str:
    stream = io.StringIO()
    table.print(Console(file=stream, width=width))
    return stream.getvalue()


def read_back(table: ReportTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv(), newline="")))


def test_leaderboard_order_ranks_and_best() -> None:
    rows = [(p.configuration.method, p.configuration.key, p.rank, p.best) for p in ranked()]
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
    by_key = {(p.configuration.method, p.configuration.key): p for p in ranked()}
    best, second = by_key["unirex-dlm-fp", "1"], by_key["unirex-dlm-fp", "0"]
    assert best.scores is not None
    assert second.scores is not None
    assert (best.scores.cnrg, second.scores.cnrg) == (1.0, 0.0)
    assert (best.global_cnrg, second.global_cnrg) == (1.0, None)
    # Dev means are 0.6, 0.5 and 0.3: hand-computed (0.5 - 0.3) / (0.6 - 0.3).
    assert by_key["unirex-slm-p", "0"].global_cnrg == pytest.approx(2 / 3)
    assert by_key["unirex-dlm-fp", "2"].note == "seed 1 failed: loss is nan"
    assert not any("test" in key for row in leaderboard_table(ranked()).records for key in row)


def test_a_leaderboard_of_failures_still_prints() -> None:
    failed = ranked([("aa-ig", 0, 0, "failed")])
    assert "seed 0 failed: loss is nan" in printed(leaderboard_table(failed), 200)
    assert leaderboard_table(failed).csv().count("\n") == 2
    assert leaderboard({}) == ()


@pytest.mark.parametrize("width", [80, 120, 240])
def test_no_number_is_cut_at_any_width(width: int) -> None:
    text = printed(leaderboard_table(ranked()), width)
    for cell in ("learning_rate=2e-05", "UNIREX (DLM-FP) *", "0.600", "0.400", "0.60"):
        assert cell in text
    text = printed(comparison_table(comparison()), width)
    for cell in ("UNIREX (DLM-FP)", "0.250", "0.200 ± 0.141", "0.800 ± 0.141", "0.20 ± 0.14"):
        assert cell in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_wide_is_one_table() -> None:
    assert printed(comparison_table(comparison()), 240).count("Method") == 1
    assert printed(comparison_table(comparison()), 80).count("Method") > 1


def test_markdown_marks_the_best_by_direction() -> None:
    text = comparison_table(comparison([t for t in TRIALS if t[0] != "some-ablation"])).markdown()
    header, _, first, _, last = text.splitlines()[2:7]
    assert header.startswith("| Method | CNRG | FNRG | PNRG | TNRG | Configs | Comp ↑ | Suff ↓ |")
    assert first.startswith("| UNIREX (SLM-P) | **1.000** | **1.000** |")
    assert "**0.000 ± 0.000**" in first
    assert "**" not in last
    assert "- Unscored: unirex-slm-fp 0 (seed 0 failed: loss is nan)." in text


def test_markup_and_pipes_are_text() -> None:
    odd: Trials = [("[red]m|x[/red]", 0, seed, raw(0.5, 0.5)) for seed in (0, 1)]
    odd = [*odd, *TRIALS[:2]]
    assert "[red]m|x[/red]" in printed(comparison_table(comparison(odd)), 240)
    assert "[red]m|x[/red]" in printed(leaderboard_table(ranked(odd)), 240)
    assert "| [red]m\\|x[/red] |" in comparison_table(comparison(odd)).markdown()


def test_remarks_on_constant_metrics_and_missing_gold() -> None:
    assert "equal on Comp, Suff, AUPRC, TF1, Task" in comparison_table(comparison(TRIALS[:2])).remarks[0]
    no_gold = [
        (method, index, seed, {k: v for k, v in raw(0.1 * i, 0.1 * i).items() if "auprc" not in k and "f1" not in k})
        for i, (method, index, seed) in enumerate([("aa-ig", 0, 0), ("aa-ig", 0, 1)])
    ]
    table = comparison_table(comparison(no_gold))
    assert any("no gold rationales" in remark for remark in table.remarks)
    assert "PNRG" not in printed(table, 240).splitlines()[2]


def test_comparison_csv_reads_back() -> None:
    table = comparison_table(comparison())
    read = read_back(table)
    assert len(read) == len(table.records)
    for got, expected in zip(read, table.records, strict=True):
        assert float(got["test/auprc"]) == expected["test/auprc"]
        assert float(got["test/sufficiency_std"]) == expected["test/sufficiency_std"]
        assert json.loads(got["parameters"]) == {"train.learning_rate": 2e-5}
        assert got["sweep"] == "s1"
    assert read[-1]["nrg/cnrg"] == ""
    assert float(read[1]["nrg/cnrg"]) == table.records[1]["nrg/cnrg"]


@pytest.mark.parametrize("width", [80, 120, 240])
def test_published_at_any_width(width: int) -> None:
    text = printed(published_table(compare_with_paper(OURS, PAPER)), width)
    for cell in ("UNIREX (DLM-FP)", "0.750", "0.583", "▲1", "▼1", "same", "0.200", "0.300", "80.00", "90.00", "91.00"):
        assert cell in text
    assert max(len(line) for line in text.splitlines()) <= width
    # Ours and the paper's of one metric are in one table.
    for metric in ("Comp ↑", "Suff ↓", "AUPRC ↑", "TF1 ↑", "Task ↑"):
        (header,) = [line for line in text.splitlines() if metric in line]
        assert header.index(f"Paper's {metric[:-2]}") > header.index(metric)
    assert (text.count("Method") == 1) == (width == 240)


def test_published_markdown() -> None:
    lines = published_table(compare_with_paper(OURS, PAPER)).markdown().splitlines()
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
    remarks = published_table(compare_with_paper(ours, paper)).remarks
    assert "Only here: mine, UNIREX (SLM-P)." in remarks
    assert remarks[-1].endswith("UNIREX (SLM-FP), not-yet-here.")

    flat = {m: {**row, "task_score": 90.0} for m, row in PAPER.items()}
    assert published_table(compare_with_paper(PAPER, flat)).remarks == [
        "Spearman's rank correlation of the two rankings: 1.00 (4 methods).",
        "All of them are equal on Task in the paper: each gets NRG 0.0 there.",
    ]


def test_published_with_nothing_in_common() -> None:
    table = published_table(compare_with_paper({"mine": OURS["mine"]}, {"sgt": PAPER["sgt"]}))
    text = printed(table, 80)
    assert text.splitlines()[0] == "No method is both here and in the paper."
    assert "Only here: mine." in text
    assert "|" not in table.markdown()
    assert table.records == []


def test_published_csv_reads_back() -> None:
    table = published_table(compare_with_paper(OURS, PAPER))
    read = read_back(table)
    assert [row["moved"] for row in read] == ["1", "-1", "0"]
    assert float(read[1]["paper_cnrg"]) == table.records[1]["paper_cnrg"] == pytest.approx(2 / 3)
    assert (float(read[0]["test/sufficiency"]), float(read[0]["paper/sufficiency"])) == (0.0, 0.3)
