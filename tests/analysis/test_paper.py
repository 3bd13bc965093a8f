import pytest
from helpers.recorded_trials import OURS, PAPER

from unirex_ray.analysis.paper import compare_with_paper, published, require_published
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS
from unirex_ray.metrics.table import NRG_METRICS

CORPORA = ("sst", "movies", "cose", "multirc", "esnli")


def test_numbers_that_the_paper_prints() -> None:
    assert require_published("sst")["aa-ig"] == {
        "comprehensiveness": 0.119,
        "sufficiency": 0.258,
        "auprc": 49.94,
        "token_f1": 50.75,
        "task_score": 93.81,
    }
    assert require_published("movies")["l2e"]["comprehensiveness"] == 0.0
    assert require_published("cose")["unirex-slm-fp"]["sufficiency"] == 0.424
    assert require_published("multirc")["unirex-aa-fp"]["sufficiency"] == -0.077
    assert require_published("esnli")["aa-input-x-grad"]["token_f1"] == 43.13


@pytest.mark.parametrize("corpus", CORPORA)
def test_sixteen_methods_with_the_five_metrics(corpus: str) -> None:
    table = require_published(corpus)
    assert len(table) == 16
    assert all(set(row) == {metric.key for metric in NRG_METRICS} for row in table.values())
    # Ours alone is SLM-P, which the paper describes but has no row of.
    assert {method for method in METHODS if METHODS[method].in_global_nrg} - set(table) == {"unirex-slm-p"}


def test_over_all_sixteen_the_recomputed_cnrg_is_the_printed_one() -> None:
    sst = require_published("sst")
    rows = {row.method: row for row in compare_with_paper(sst, sst).rows}
    # Table 6, CNRG as printed.
    printed = {"unirex-dlm-fp": 0.897, "unirex-slm-fp": 0.891, "unirex-dlm-p": 0.770, "aa-ig": 0.526, "fresh": 0.330}
    assert {method: rows[method].paper_cnrg for method in printed} == pytest.approx(printed, abs=0.0025)
    assert [rows[method].paper_rank for method in printed] == [1, 2, 3, 11, 16]


def test_a_corpus_that_the_paper_has_no_table_of() -> None:
    assert published("reviews") is None
    with pytest.raises(
        UserError, match=r"no table of data.name = 'reviews'; it has sst, movies, cose, multirc, esnli$"
    ):
        require_published("reviews")


def test_beside_the_paper_both_are_scored_over_the_common_methods() -> None:
    beside = compare_with_paper(OURS, PAPER)
    dlm, aa_f, aa = beside.rows
    assert [row.method for row in beside.rows] == ["unirex-dlm-fp", "unirex-aa-f", "aa-ig"]
    # Ours: DLM-FP has FNRG (1/2 + 1)/2, PNRG 1, TNRG 1/2; AA-F (1 + 2/3)/2, (1/2 + 1/4)/2, 0; AA 0, 0, 1.
    assert [row.cnrg for row in beside.rows] == pytest.approx([0.75, (5 / 6 + 3 / 8) / 3, 1 / 3])
    # The paper's: DLM-FP (1/2 + 0)/2, 1, 1/2; AA-F 1, 0, 1; AA (0 + 1/2)/2, (1/5 + 1/2)/2, 0.
    assert [row.paper_cnrg for row in beside.rows] == pytest.approx([1.75 / 3, 2 / 3, 0.2])
    assert [(row.rank, row.paper_rank, row.moved) for row in beside.rows] == [(1, 2, 1), (2, 1, -1), (3, 3, 0)]
    assert beside.spearman is None
    assert (beside.only_ours, beside.only_paper) == (("mine",), ("sgt",))
    assert dlm.ours["auprc"] == 80.0
    assert dlm.paper["auprc"] == 90.0
    # Task performance alone.
    only_task = {row.method: row for row in compare_with_paper(OURS, PAPER, (0.0, 0.0, 1.0)).rows}
    assert [only_task[row.method].rank for row in (dlm, aa_f, aa)] == [2, 3, 1]
    assert [only_task[row.method].paper_rank for row in (dlm, aa_f, aa)] == [2, 1, 3]


def test_the_rank_correlation_by_hand() -> None:
    paper = {method: {**PAPER["aa-ig"], "task_score": 70.0 + n} for n, method in enumerate(list(METHODS)[:5])}
    ours = {method: {**row, "task_score": -row["task_score"]} for method, row in paper.items()}
    assert compare_with_paper(ours, paper).spearman == pytest.approx(-1.0)
    ours = dict(paper)
    first, second = list(paper)[:2]
    ours[first], ours[second] = paper[second], paper[first]
    assert compare_with_paper(ours, paper).spearman == pytest.approx(1 - 6 * 2 / (5 * 24))


def test_beside_the_paper_equal_scores_share_a_rank() -> None:
    same = {**OURS, "unirex-aa-f": OURS["aa-ig"]}
    assert [row.rank for row in compare_with_paper(same, PAPER).rows] == [1, 2, 2]
    flat = dict.fromkeys(PAPER, OURS["aa-ig"])
    beside = compare_with_paper(flat, PAPER)
    assert {row.rank for row in beside.rows} == {1}
    assert beside.spearman is None


def test_beside_the_paper_with_few_methods_in_common() -> None:
    two = compare_with_paper({m: OURS[m] for m in ("aa-ig", "unirex-dlm-fp")}, PAPER)
    assert [row.method for row in two.rows] == ["unirex-dlm-fp", "aa-ig"]
    assert two.spearman is None
    none = compare_with_paper({"mine": OURS["mine"]}, PAPER)
    assert (none.rows, none.only_ours, none.only_paper) == ((), ("mine",), tuple(PAPER))


def test_beside_the_paper_without_gold_its_plausibility_is_left_out_too() -> None:
    ours = {m: {k: v for k, v in row.items() if k not in ("auprc", "token_f1")} for m, row in OURS.items()}
    rows = {row.method: row for row in compare_with_paper(ours, PAPER).rows}
    assert rows["unirex-aa-f"].cnrg == pytest.approx(5 / 12)
    assert rows["unirex-aa-f"].paper_cnrg == 1.0
    assert rows["aa-ig"].paper_cnrg == pytest.approx(0.125)
