"""What was compared on a corpus, on a page and in sentences."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from unirex_ray.analysis.compare import Comparison
from unirex_ray.report.certainty import certainty_remarks, findings, one_seed
from unirex_ray.report.compared import PAPER_TABLES, Compared
from unirex_ray.report.files import (
    CONFIGURATIONS,
    REPORT,
    unfinished_remarks,
)
from unirex_ray.report.html import RATIONALES
from unirex_ray.report.page import RunLink, Section, report_page
from unirex_ray.report.table import method_label
from unirex_ray.tracking.provenance import code_version
from unirex_ray.tracking.store import GIT_VERSION

CHARTS = {
    "comparison_cnrg": "CNRG by method",
    "comparison_desiderata": "FNRG, PNRG and TNRG by method",
    "gold_efficiency": "AUPRC by the share of gold rationales",
    "learning_curve": "Test metrics by the number of train instances",
    "cnrg_without_plausibility": "CNRG by corpus, methods without plausibility optimisation",
    "cnrg_with_plausibility": "CNRG by corpus, methods with plausibility optimisation",
    "desiderata_without_plausibility": "Desiderata of methods without plausibility optimisation",
    "desiderata_with_plausibility": "Desiderata of methods with plausibility optimisation",
}


TERMS = {
    "Comp ↑": "comprehensiveness: by how much the predicted class' probability falls without the rationale.",
    "Suff ↓": "sufficiency: by how much it falls with the rationale alone; negative where it rises.",
    "CSD ↑": "Comp minus Suff.",
    "AUPRC ↑, TF1 ↑": "plausibility, x100: how well scores, and tokens with a score above 0, match human rationales.",
    "Task ↑": "the corpus' task score (accuracy or F1), x100.",
    "NRG": "normalised relative gain: 0 is the worst and 1 the best of the methods compared here; other methods, other "
    "NRG. FNRG is the mean of Comp's and Suff's, PNRG of AUPRC's and TF1's, TNRG the task score's, CNRG the three's.",
    "95 %, First": "interval of CNRG over test instances and seeds, and in how many of the draws a method is first. As "
    "NRG ends at 0 and 1, a score may lie at the end of its own interval.",
    "p": "two-sided, corrected for the number of methods (Holm).",
    "Configs": "complete configurations that a method's was selected from on dev.",
    "ms ↓": "time of extracting one rationale, whatever ran beside it.",
}
"""Definitions are in unirex_ray/metrics/README.md."""


def answer(comparison: Comparison) -> list[str]:
    """Which method is best, and how sure that is, in sentences."""
    return [*unfinished_remarks(comparison.unfinished), *_verdict(comparison)]


def _verdict(comparison: Comparison) -> list[str]:
    first = comparison.rows[0]
    if first.scores is None or first.learned is False:
        return [f"No method is better than the majority class on {comparison.experiment}."]
    if comparison.certainty is not None:
        return [*findings(comparison.certainty), *one_seed(comparison.certainty)]
    said = [f"{method_label(first.method)} has the highest CNRG, {first.scores.cnrg:.3f}."]
    if comparison.no_certainty:
        said.append(f"Without intervals, this may be chance: {comparison.no_certainty}.")
    return said


def corpus_pages(compared: Compared) -> dict[str, str]:
    """The pages of one corpus by name: the comparison and, where there are any, the methods' rationales."""
    comparison = compared.comparison
    report = report_page(
        sections(compared, answer(comparison)),
        title=f"{comparison.experiment}: rationale extraction methods compared",
        subtitle=f"{len(comparison.rows)} methods on test; made by {code_version()}",
        answer=answer(comparison),
        facts=facts(compared),
        runs=run_links(compared),
        rationales=RATIONALES if compared.rationales else None,
        terms=TERMS,
    )
    return {REPORT: report, **({RATIONALES: compared.rationales} if compared.rationales else {})}


def sections(compared: Compared, said: Collection[str], prefix: str = "") -> list[Section]:
    """A section per table; what several of them remark is said once.

    Args:
        said: remarks that the page has elsewhere.
        prefix: of the headings.
    """
    headings = {"comparison": "Methods", CONFIGURATIONS: "Configurations"}
    charts = {
        "comparison": ("comparison_cnrg", "comparison_desiderata"),
        "gold_efficiency": ("gold_efficiency",),
        "learning_curve": ("learning_curve",),
    }
    told = {*said, *compared.comparison.protocols.values()}
    shown = []
    for name, table in compared.tables.items():
        if name == PAPER_TABLES["main"] or (prefix and name not in ("comparison", "certainty")):
            continue
        section = Section(
            heading=prefix + headings.get(name, name.replace("_", " ").capitalize()),
            tables=[replace(table, remarks=[remark for remark in table.remarks if remark not in told])],
            figures={CHARTS[c]: compared.figures[c] for c in charts.get(name, ()) if c in compared.figures},
        )
        shown.append(section)
        told |= {*table.remarks}
    return shown


def facts(compared: Compared) -> dict[str, str]:
    """What the numbers come from, by its heading."""
    records = [record for row in compared.comparison.rows for record in row.configuration.records]
    versions = {record.tags.get(GIT_VERSION, "") for record in records}
    return {
        "Corpus": compared.comparison.experiment,
        "Data digest": compared.comparison.digest,
        "Protocol": "; ".join(compared.comparison.protocols.values()),
        "Sweeps": ", ".join(compared.comparison.sweeps),
        "Trained with": ", ".join(sorted(versions - {""})) or "not recorded",
        "Recorded at": compared.store.uri,
    }


def run_links(compared: Compared) -> list[RunLink]:
    """The runs of the compared configurations."""
    stores = {t.run_id: compared.store.uri_of(sweep) for sweep in compared.sweeps for t in sweep.trials}

    def link(run_id: str | None) -> str | None:
        uri = stores.get(run_id, "")
        return f"{uri.rstrip('/')}/#/runs/{run_id}" if uri.startswith("http") else None

    return [
        RunLink(method=method_label(row.method), seed=r.spec.seed, run_id=str(r.run_id), link=link(r.run_id))
        for row in compared.comparison.rows
        for r in row.configuration.records
    ]


def caveats(corpus: str, comparison: Comparison) -> list[str]:
    """What the intervals of a corpus leave out, or why there are none, and its protocols."""
    found = comparison.certainty
    told = unfinished_remarks(comparison.unfinished)
    told += certainty_remarks(found) if found else [f"no intervals: {comparison.no_certainty}."]
    return [f"{corpus}: {line}" for line in (*told, *comparison.protocols.values())]
