"""The paper's own results (UNIREX, Tables 6-10), and our methods beside them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr

from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Population, Weights, score_population
from unirex_ray.metrics.table import AUPRC, COMPREHENSIVENESS, SUFFICIENCY, TASK_SCORE, TOKEN_F1

PUBLISHED_TABLES = Path(__file__).with_name("published.json")
"""Rows by the paper's corpus and row names; beside the raw numbers it holds the paper's printed NRG."""

_FEWEST_RANKED = 5

_CORPORA = {"sst": "SST", "movies": "Movies", "cose": "CoS-E", "multirc": "MultiRC", "esnli": "e-SNLI"}
_KEYS = {
    "comp": COMPREHENSIVENESS.key,
    "suff": SUFFICIENCY.key,
    "auprc": AUPRC.key,
    "tf1": TOKEN_F1.key,
    "perf": TASK_SCORE.key,
}


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One method that the paper has as well.

    Attributes:
        ours: raw metrics by metric key without split.
        paper: the paper's raw metrics, likewise.
        cnrg: over the common methods, in [0, 1].
        paper_cnrg: the same of the paper's raw metrics; not the CNRG that the paper prints, whose Z is larger.
        rank: by CNRG among the common methods, from 1; equal scores share the better rank.
        paper_rank: the same by `paper_cnrg`.
    """

    method: str
    ours: Mapping[str, float]
    paper: Mapping[str, float]
    cnrg: float
    paper_cnrg: float
    rank: int
    paper_rank: int

    @property
    def moved(self) -> int:
        """How many ranks higher than in the paper; negative: lower."""
        return self.paper_rank - self.rank


@dataclass(frozen=True, kw_only=True)
class PaperComparison:
    """Our methods beside the paper's published ones.

    Attributes:
        rows: the methods that both have, by our rank.
        left_out: methods of ours that cannot be ranked: not better than the majority class, or with a metric that is
            not finite.
        only_ours: methods that the paper's table lacks.
        only_paper: methods that ours lacks.
        ours: our scores over the common methods.
        paper: the paper's, likewise.
        spearman: rank correlation of the two rankings, in [-1, 1]; None for fewer than five methods, with which a
            correlation says nothing, or where one side ranks all of them equal.
    """

    rows: tuple[PaperRow, ...]
    left_out: tuple[str, ...]
    only_ours: tuple[str, ...]
    only_paper: tuple[str, ...]
    ours: Population
    paper: Population
    spearman: float | None


def published(corpus: str) -> Mapping[str, Mapping[str, float]] | None:
    """The paper's raw test metrics of one corpus, by method and metric key without split.

    Returns:
        Sixteen methods in the paper's order with the five keys of `NRG_METRICS`; None where the paper has no table.
    """
    if corpus not in _CORPORA:
        return None
    tables = json.loads(PUBLISHED_TABLES.read_text(encoding="utf-8"))
    methods = {method.label: name for name, method in METHODS.items()}
    named = {
        methods[label]: dict(zip(tables["columns"], values, strict=True))
        for label, values in tables["tables"][_CORPORA[corpus]].items()
    }
    return {method: {key: row[column] for column, key in _KEYS.items()} for method, row in named.items()}


def paper_scores(corpora: Iterable[str], weights: Weights = EQUAL_WEIGHTS) -> dict[str, dict[str, dict[str, float]]]:
    """NRG of the paper's raw metrics, over its sixteen methods, by corpus, method and key.

    Raises:
        UserError: where the paper has no table of a corpus.
    """
    scored = {corpus: score_population(require_published(corpus), weights).scores for corpus in corpora}
    return {corpus: {method: s.by_key() for method, s in of_corpus.items()} for corpus, of_corpus in scored.items()}


def printed_scores() -> dict[str, dict[str, dict[str, float]]]:
    """NRG as the paper prints it, by corpus, method and key: `cnrg`, `fnrg`, `pnrg`, `tnrg`."""
    tables = json.loads(PUBLISHED_TABLES.read_text(encoding="utf-8"))
    methods, columns = {method.label: name for name, method in METHODS.items()}, tables["columns"]
    return {
        corpus: {
            methods[label]: {key: values[columns.index(key)] for key in ("cnrg", "fnrg", "pnrg", "tnrg")}
            for label, values in tables["tables"][name].items()
        }
        for corpus, name in _CORPORA.items()
    }


def require_published(corpus: str) -> Mapping[str, Mapping[str, float]]:
    """As `published`.

    Raises:
        UserError: where the paper has no table of that corpus, listing those that it has.
    """
    table = published(corpus)
    if table is None:
        raise UserError(f"--published: the paper has no table of data.name = {corpus!r}; it has {', '.join(_CORPORA)}")
    return table


def compare_with_paper(
    ours: Mapping[str, Mapping[str, float]],
    paper: Mapping[str, Mapping[str, float]],
    weights: Weights = EQUAL_WEIGHTS,
    *,
    left_out: Collection[str] = (),
) -> PaperComparison:
    """Score and rank the methods that both tables have, each table by itself: CNRG compares over equal Z alone.

    Args:
        ours: raw metrics by method and metric key without split.
        paper: likewise; metrics that ours lacks (plausibility, without gold rationales) are left out of its CNRG.
        weights: of FNRG, PNRG and TNRG in CNRG, for both.
        left_out: methods of `ours` that cannot be ranked.
    """
    common = [method for method in ours if method in paper and method not in left_out]
    measured = {key for method in common for key in ours[method]}
    scored = score_population({method: ours[method] for method in common}, weights)
    published = score_population(
        {m: {key: value for key, value in paper[m].items() if key in measured} for m in common}, weights
    )
    rank, paper_rank = _ranks(scored), _ranks(published)
    rows = [
        PaperRow(
            method=method,
            ours=ours[method],
            paper=paper[method],
            cnrg=scored.scores[method].cnrg,
            paper_cnrg=published.scores[method].cnrg,
            rank=rank[method],
            paper_rank=paper_rank[method],
        )
        for method in common
    ]
    return PaperComparison(
        rows=tuple(sorted(rows, key=lambda row: (row.rank, row.paper_rank))),
        left_out=tuple(method for method in ours if method in left_out),
        only_ours=tuple(method for method in ours if method not in paper),
        only_paper=tuple(method for method in paper if method not in ours),
        ours=scored,
        paper=published,
        spearman=_spearman([rank[method] for method in common], [paper_rank[method] for method in common]),
    )


def _ranks(population: Population) -> dict[str, int]:
    # Scores that are equal in exact arithmetic may differ in their last bits; that is no difference in rank.
    cnrg = {method: round(scores.cnrg, 9) for method, scores in population.scores.items()}
    return {method: 1 + sum(other > value for other in cnrg.values()) for method, value in cnrg.items()}


def _spearman(ours: Sequence[int], paper: Sequence[int]) -> float | None:
    if len(ours) < _FEWEST_RANKED or len(set(ours)) == 1 or len(set(paper)) == 1:
        return None
    return float(spearmanr(ours, paper).statistic)
