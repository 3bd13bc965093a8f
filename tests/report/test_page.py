"""The page of a comparison: everything is in it, nothing is fetched, nothing is executed."""

import re

from helpers.memory_store import MemoryStore
from helpers.simulated import reader, record_simulated

from unirex_ray.analysis.compare import compare, with_certainty
from unirex_ray.report.corpus_page import answer
from unirex_ray.report.files import comparison_figures, comparison_tables
from unirex_ray.report.page import RunLink, Section, report_page
from unirex_ray.report.table import ReportTable


def page_of(**changes) -> str:
    store = MemoryStore()
    record_simulated(store)
    comparison = with_certainty(compare("reviews", store.sweeps("reviews")), reader(store))
    sections = [
        Section(
            heading="Methods",
            tables=list(comparison_tables(comparison).values()),
            figures={"CNRG by method": comparison_figures(comparison)["comparison_cnrg"]},
        )
    ]
    options = {"title": "reviews", "subtitle": "", "answer": answer(comparison), "facts": {"Data digest": "abc1"}}
    return report_page(sections, **{**options, **changes})


def test_it_needs_no_network_and_runs_nothing():
    page = page_of()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_it_says_who_won_and_shows_every_table_and_fact():
    page = page_of()
    assert re.search(r'<div class="answer">\s*<p>UNIREX \([DS]LM-FP\) has the highest CNRG in ', page)
    assert "<b>1.000</b>" in page
    for text in ("95 % intervals on test", "how often the method of a row", "<dt>Data digest</dt><dd>abc1</dd>"):
        assert text in page
    assert page.count("<tbody>") == 5
    assert 'alt="CNRG by method"' in page


def test_whatever_comes_from_outside_is_escaped():
    evil = "<script>alert(1)</script>"
    table = ReportTable(title=evil, lead={"Method": [evil]}, scores={evil: ["1"]}, raw={}, remarks=[evil])
    page = report_page(
        [Section(heading=evil, tables=[table])],
        title=evil,
        subtitle=evil,
        answer=[evil],
        facts={evil: evil},
        runs=[RunLink(method=evil, seed=0, run_id=evil, link="http://host/#/runs/1")],
    )
    assert evil not in page
    assert '<a href="http://host/#/runs/1">' in page


def test_without_intervals_the_answer_says_so():
    store = MemoryStore()
    record_simulated(store)
    comparison = compare("reviews", store.sweeps("reviews"))
    for run in store.runs.values():
        run["artifacts"].clear()
    first, second = answer(with_certainty(comparison, reader(store)))
    assert re.fullmatch(r"UNIREX \([DS]LM-FP\) has the highest CNRG, [01]\.\d{3}\.", first)
    assert second.startswith("Without intervals, this may be chance: s1-")
