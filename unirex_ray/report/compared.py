"""One corpus compared: from the recorded runs to tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirex_ray.analysis.baseline import against_baseline, require_compared
from unirex_ray.analysis.compare import Comparison, compare, with_certainty
from unirex_ray.analysis.extraction_time import NO_TIMES, read_times
from unirex_ray.analysis.gold_efficiency import gold_efficiency
from unirex_ray.analysis.learning_curve import learning_curves
from unirex_ray.analysis.paper import compare_with_paper, require_published
from unirex_ray.analysis.rationales import read_rationales
from unirex_ray.analysis.references import one_task_model
from unirex_ray.analysis.selection import with_most_data
from unirex_ray.analysis.transfer import transfer_rows
from unirex_ray.config import Config, Tree
from unirex_ray.errors import UserError
from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.report.files import (
    CONFIGURATIONS,
    REPORT,
    comparison_figures,
    comparison_tables,
)
from unirex_ray.report.html import methods_page
from unirex_ray.report.table import ReportTable, method_label
from unirex_ray.tracking.choose import configured_weights, open_sweeps, weights_of
from unirex_ray.tracking.pooled_stores import PooledStores
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import SweepRecord
from unirex_ray.training.result_file import RESULT

PAPER_TABLES = {"main": "table_main", "1": "table_1", "2": "transfer", "4": "table_4"}
"""By how the paper numbers them; main: Tables 6 to 10."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One corpus.

    Attributes:
        tables, figures: the latter as PNG, by the name of their file without its ending.
        sweeps: that were read.
        store: that they were read from.
        results: files with results by instance that were read, by trial.
        rationales: the page of the methods' rationales; empty where no trial has any.
    """

    comparison: Comparison
    tables: Mapping[str, ReportTable]
    figures: Mapping[str, bytes]
    sweeps: Sequence[SweepRecord]
    store: PooledStores
    results: Mapping[str, bytes]
    rationales: str = ""

    def to_print(self, *, configurations: bool, pairs: bool, table: str | None) -> list[ReportTable]:
        """The tables that a user asked for.

        Args:
            table: of the paper alone, see `PAPER_TABLES`.

        Raises:
            UserError: where there are no results for that table.
        """
        asked = {CONFIGURATIONS: configurations, "pairs": pairs and "pairs" in self.tables}
        if table is not None:
            asked["baseline"] = "baseline" in self.tables
            name = PAPER_TABLES[table]
            if name not in self.tables:
                raise UserError(f"--table={table}: no sweep has results for it; see search_spaces/README.md")
            return [self.tables[shown] for shown in (name, *(n for n, is_asked in asked.items() if is_asked))]
        hidden = {*PAPER_TABLES.values(), *(name for name, is_asked in asked.items() if not is_asked)} - {"transfer"}
        return [shown for name, shown in self.tables.items() if name not in hidden]


def compare_corpus(
    config: Config, tree: Tree, choice: Mapping[str, Any], *, published: bool = False, baseline: str | None = None
) -> Compared:
    """Read a corpus' runs, and compare its methods.

    Args:
        tree: that `config` was built from.
        choice: see `configs_of`.
        published: whether the paper's results stand beside ours.
        baseline: a method whose differences to all others are wanted, see `against_baseline`.

    Raises:
        UserError: where there is nothing to compare.
    """
    corpus = config.data.name
    paper = require_published(corpus) if published else None
    store, sweeps = open_sweeps(config, **choice)
    weights = weights_of(sweeps, configured_weights(config, tree))
    own = [] if choice.get("archives") else [config.output]
    outputs = [*own, *choice.get("also", ())]
    read = _reader(store, outputs, INSTANCES)
    results: dict[str, bytes | None] = {}

    def read_once(trial: TrialRecord) -> bytes | None:
        name = trial.spec.trial_id
        if name not in results:
            results[name] = read(trial)
        return results[name]

    comparison = compare(corpus, sweeps, weights)
    chosen = {row.method: row.configuration for row in comparison.rows}
    if baseline is not None:
        require_compared(baseline, corpus, chosen)
    comparison = with_certainty(comparison, read_once, weights)
    against = compare_with_paper(comparison.raw, paper, weights, left_out=comparison.unranked) if paper else None
    efficiency = gold_efficiency(with_most_data(comparison.variants)[0], weights)
    transfer = transfer_rows(comparison, store.evaluations(corpus))
    times = read_times(config.output, [sweep.settings for sweep in sweeps]) if own else NO_TIMES
    references = one_task_model(chosen, comparison.variants, read_once)
    beside = None
    if baseline is not None:
        pairs = comparison.certainty.pairs if comparison.certainty else ()
        beside = against_baseline(baseline, chosen, comparison.variants, read_once, pairs)
    learning = learning_curves(comparison.variants, weights)
    for record in (record for configuration in chosen.values() for record in configuration.records):
        with suppress(UserError):  # an archive keeps also what is not scored
            read_once(record)
    tables = comparison_tables(comparison, against, efficiency, transfer, times, references, learning, beside)
    figures = comparison_figures(comparison, efficiency, learning)
    return Compared(
        comparison=comparison,
        tables=tables,
        figures=figures,
        rationales=_rationales_page(comparison, _reader(store, outputs, RESULT)),
        sweeps=sweeps,
        store=store,
        results={name: data for name, data in results.items() if data is not None},
    )


def _rationales_page(comparison: Comparison, read: Callable[[TrialRecord], bytes | None]) -> str:
    found, missing = read_rationales(comparison, read)
    if not found:
        return ""
    without = "".join(f"; without {method_label(method)}: {why}" for method, why in missing.items())
    seeds = sorted({row.configuration.records[0].spec.seed for row in comparison.rows})
    return methods_page(
        {method_label(method): shown for method, shown in found.items()},
        title=f"{comparison.experiment}: the methods' rationales",
        subtitle=f"test instances; each method's selected configuration, seed {', '.join(map(str, seeds))}{without}",
        back=REPORT,
    )


def _reader(store: PooledStores, outputs: Sequence[str], name: str) -> Callable[[TrialRecord], bytes | None]:
    """Reads a file of a trial: from an output that holds it, which may have moved, or from its run."""

    def read(trial: TrialRecord) -> bytes | None:
        for output in outputs:
            file = Path(output).expanduser() / "trials" / trial.spec.trial_id / name
            if file.is_file():
                return file.read_bytes()
        return None if trial.run_id is None else store.artifact(trial.run_id, name)

    return read
