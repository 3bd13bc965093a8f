import csv
import io
import json
import math
from dataclasses import replace

import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_trials import OURS, PAPER, TRIALS, Trials, raw, record
from rich.console import Console

from unirex_ray.analysis.compare import Comparison, compare
from unirex_ray.analysis.leaderboard import Leaderboard, leaderboard
from unirex_ray.analysis.paper import compare_with_paper, require_published
from unirex_ray.analysis.selection import configurations
from unirex_ray.report.comparison import comparison_table, leaderboard_table
from unirex_ray.report.published import published_table
from unirex_ray.report.table import ReportTable


def ranked(trials: Trials = TRIALS) -> Leaderboard:
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
    rows = [(p.configuration.method, p.configuration.key, p.rank, p.best) for p in ranked().rows]
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
    by_key = {(p.configuration.method, p.configuration.key): p for p in ranked().rows}
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
    assert leaderboard({}).rows == ()


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
    equal = [(method, 0, seed, raw(0.1, 0.1)) for method in ("aa-ig", "sgt") for seed in (0, 1)]
    assert "equal on Comp, Suff, AUPRC, TF1, Task" in comparison_table(comparison(equal)).remarks[0]
    no_gold = [
        (method, index, seed, {k: v for k, v in raw(0.1 * i, 0.1 * i).items() if "auprc" not in k and "f1" not in k})
        for i, (method, index, seed) in enumerate([("aa-ig", 0, 0), ("aa-ig", 0, 1), ("sgt", 0, 0), ("sgt", 0, 1)])
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
    assert "- No rank correlation: it takes five methods whose scores differ." in lines


def test_published_remarks() -> None:
    # A label where this version knows the method, else its name.
    ours = {**OURS, "unirex-slm-p": OURS["mine"]}
    paper = {**PAPER, "unirex-slm-fp": PAPER["aa-ig"], "not-yet-here": PAPER["aa-ig"]}
    remarks = published_table(compare_with_paper(ours, paper)).remarks
    assert "Only here: mine, UNIREX (SLM-P)." in remarks
    assert remarks[-1].endswith("UNIREX (SLM-FP), not-yet-here.")

    flat = {m: {**row, "task_score": 90.0} for m, row in PAPER.items()}
    assert published_table(compare_with_paper(PAPER, flat)).remarks == [
        "No rank correlation: it takes five methods whose scores differ.",
        "All of them are equal on Task in the paper: each gets NRG 0.0 there.",
    ]


def test_published_correlates_five_methods_and_leaves_out_those_that_learned_nothing() -> None:
    paper = require_published("sst")
    ours = {method: paper[method] for method in list(paper)[:6]}
    correlation = "Spearman's rank correlation of the two rankings: 1.00"
    assert published_table(compare_with_paper(ours, paper)).remarks[0] == f"{correlation} (6 methods)."
    remarks = published_table(compare_with_paper(ours, paper, left_out=["aa-ig"])).remarks
    assert remarks[0] == f"{correlation} (5 methods)."
    assert remarks[1].startswith("Left out, as not better than the majority class")
    assert remarks[1].endswith("AA (IG).")
    assert "AA (IG)," not in remarks[2]
    fewer = published_table(compare_with_paper(ours, paper, left_out=["aa-ig", "sgt", "l2e"])).remarks
    assert fewer[0].startswith("No rank correlation")


def judged(metrics: dict[str, float], p: float) -> dict[str, float]:
    return {**metrics, "dev/majority_p": p, "test/majority_p": p, "dev/task_score_se": 0.2, "test/task_score_se": 0.2}


DEAD: Trials = [
    *(("aa-ig", 0, seed, judged(raw(0.2, 0.1), 0.01)) for seed in (0, 1)),
    *(("unirex-dlm-fp", 0, seed, judged(raw(0.9, 0.9), 0.5 * seed)) for seed in (0, 1)),
    *(("unirex-slm-fp", 0, seed, judged(raw(0.5, 0.4), 0.01)) for seed in (0, 1)),
]


def test_a_method_that_learned_nothing_is_marked_comes_last_and_is_bold_nowhere() -> None:
    board = ranked(DEAD)
    assert [row.configuration.method for row in board.rows] == ["unirex-slm-fp", "aa-ig", "unirex-dlm-fp"]
    assert [row.best for row in board.rows] == [True, False, False]
    for table in (leaderboard_table(board), comparison_table(comparison(DEAD))):
        lines = table.markdown().splitlines()
        dead = next(line for line in lines if "UNIREX (DLM-FP) †" in line)
        assert "**" not in dead
        assert any(line.startswith("- † not better than the majority class") for line in lines)
        verdicts = [row.get("test/better_than_majority", row.get("dev/better_than_majority")) for row in table.records]
        assert verdicts == [True, True, False]
    assert [row.method for row in comparison(DEAD).rows] == ["unirex-slm-fp", "aa-ig", "unirex-dlm-fp"]
    assert comparison(DEAD).unranked == ("unirex-dlm-fp",)
    nothing = leaderboard_table(ranked([t for t in DEAD if t[0] == "unirex-dlm-fp"]))
    assert any("there is no best one" in remark for remark in nothing.remarks)


def test_noise_and_ties_are_said_and_unknown_verdicts_as_well() -> None:
    noisy = [
        (m, i, seed, {**metrics, "dev/task_score_se": 9.0, "test/task_score_se": 9.0}) for m, i, seed, metrics in DEAD
    ]
    for table in (leaderboard_table(ranked(noisy)), comparison_table(comparison(noisy))):
        assert any("twice the standard error" in remark and "methods: Task" in remark for remark in table.remarks)
    tied: Trials = [
        (method, 0, seed, {**raw(0.5, 0.5), f"{split}/comprehensiveness": comp, f"{split}/auprc": 1 - comp})
        for split in ("dev", "test")
        for method, comp in (("aa-ig", 0.4), ("unirex-slm-fp", 0.6))
        for seed in (0, 1)
    ]
    told = "\n".join(leaderboard_table(ranked(tied)).remarks + comparison_table(comparison(tied)).remarks)
    assert "Ties for the best CNRG: AA (IG), UNIREX (SLM-FP)." in told
    assert "was not recorded: AA (IG), UNIREX (SLM-FP)." in told


def test_a_test_metric_that_is_not_finite_keeps_a_method_from_being_scored() -> None:
    broken: Trials = [
        (m, i, seed, {**metrics, "test/auprc": math.nan} if m == "aa-ig" else metrics) for m, i, seed, metrics in DEAD
    ]
    shown = comparison(broken)
    assert [row.method for row in shown.rows] == ["unirex-slm-fp", "unirex-dlm-fp", "aa-ig"]
    assert ("aa-ig", "test/auprc is nan") in shown.unscored
    assert shown.unranked == ("unirex-dlm-fp", "aa-ig")
    printed(comparison_table(shown), 240)


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


def test_what_is_unscored_for_one_reason_is_said_in_one_line() -> None:
    found = replace(comparison(), unscored=(("a", "first"), ("b", "second"), ("c", "first")))
    said = [remark for remark in comparison_table(found).remarks if remark.startswith("Unscored")]
    assert said == ["Unscored: a, c (first).", "Unscored: b (second)."]


def test_what_select_predict_pipelines_have_by_construction_is_said() -> None:
    def said(*methods: str) -> list[str]:
        trials = [(method, 0, seed, raw(dev=0.5, test=0.5)) for method in methods for seed in (0, 1)]
        return [remark for remark in comparison_table(comparison(trials)).remarks if "by construction" in remark]

    assert said("aa-ig", "unirex-dlm-fp") == []
    (remark,) = said("aa-ig", "fresh", "a2r-p")
    assert remark.startswith("FRESH, A2R+P: the prediction is made from the rationale alone, so that Suff is 0")
