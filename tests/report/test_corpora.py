import csv
import io

from unirex_ray.analysis.corpora import Headline, MethodGroup, dataset_means
from unirex_ray.analysis.paper import printed_scores
from unirex_ray.report.corpora import corpora_figures, corpora_table, headline_text

FOUND = dataset_means(printed_scores())


def test_two_groups_stand_under_each_other_with_their_headlines():
    table = corpora_table(FOUND)
    lines = [line for line in table.markdown().splitlines() if line.startswith("| ")]
    assert lines[0].startswith("| Method | CNRG | FNRG | PNRG | TNRG | CNRG sst | CNRG movies |")
    assert lines[1].startswith("| UNIREX (AA-F) | 0.653 |")
    assert lines[10].startswith("| UNIREX (SLM-FP) | **0.820** |")
    assert table.breaks == {8}
    assert table.remarks[:2] == [
        "UNIREX (AA-F) beats the strongest baseline without plausibility optimisation (SGT) by 9.2 % (no interval).",
        "UNIREX (SLM-FP) beats the strongest baseline with plausibility optimisation (A2R+P) by 32.9 % (no interval).",
    ]
    assert any("Gains are ratios of the means as shown, with three digits" in remark for remark in table.remarks)


def test_every_mean_is_in_the_csv():
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(corpora_table(FOUND).csv()))}
    for group in FOUND.groups:
        for row in group.rows:
            assert {f"mean/{key}": value for key, value in row.means.items()} == {
                key: float(value) for key, value in rows[row.method].items() if key.startswith("mean/")
            }
            assert rows[row.method]["plausibility_optimisation"] == ("true" if group.learns_from_gold else "false")


def said(gain: float, interval=(0.1, 0.2), ahead: float = 0.999) -> str:
    headline = Headline(ours="unirex-aa-f", other="sgt", gain=gain, interval=interval, ahead=ahead)
    return headline_text(MethodGroup(learns_from_gold=False, rows=(), headline=headline), headline)


def test_a_headline_says_how_sure_it_is():
    assert said(0.15).endswith("(SGT) by 15.0 % (95 % interval 10.0 to 20.0 %, p < 0.01).")
    assert said(0.15, (-0.1, 0.3), 0.8).endswith("(95 % interval -10.0 to 30.0 %, p = 0.40; this may be chance).")
    assert said(-0.15).startswith("UNIREX (AA-F), the best of UNIREX without plausibility optimisation, does not beat")


def test_the_papers_figures_have_a_bar_per_method_and_corpus():
    figures = corpora_figures(FOUND)
    assert list(figures) == [
        "cnrg_without_plausibility",
        "desiderata_without_plausibility",
        "cnrg_with_plausibility",
        "desiderata_with_plausibility",
    ]
    (axes,) = figures["cnrg_without_plausibility"].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [*FOUND.corpora, "Dataset mean"]
    assert len(axes.patches) == 9 * 6
    (axes,) = figures["desiderata_with_plausibility"].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["FNRG", "PNRG", "TNRG"]


def test_a_method_that_learned_nothing_is_last_marked_and_never_bold():
    def of(cnrg: float) -> dict[str, float]:
        return dict.fromkeys(("cnrg", "fnrg", "pnrg", "tnrg"), cnrg)

    scores = {"one": {"sgt": of(1.0), "unirex-aa-f": of(0.6), "aa-ig": of(0.4)}}
    found = dataset_means(scores, unranked=["sgt"])
    table = corpora_table(found)
    assert [str(cell) for cell in table.columns["Method"]] == ["UNIREX (AA-F)", "AA (IG)", "SGT †"]
    assert [str(cell) for cell in table.columns["CNRG"] if not isinstance(cell, str)] == ["0.600"]
    assert any(remark.startswith("† not better than the majority class on some corpus") for remark in table.remarks)
    labels = corpora_figures(found)["cnrg_without_plausibility"].axes[0].get_yticklabels()
    assert [label.get_text() for label in labels][-1] == "SGT †"
