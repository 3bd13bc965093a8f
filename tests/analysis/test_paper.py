import pytest

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
