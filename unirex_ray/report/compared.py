"""A corpus, or several, compared: from the recorded runs to tables, charts, a page, and what MLflow shows of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unirex_ray.analysis.compare import Comparison, compare, with_certainty, write_back
from unirex_ray.analysis.corpora import CorporaComparison, compare_corpora, dataset_means
from unirex_ray.analysis.extraction_time import NO_TIMES, read_times
from unirex_ray.analysis.gold_efficiency import gold_efficiency
from unirex_ray.analysis.learning_curve import learning_curves
from unirex_ray.analysis.paper import compare_with_paper, paper_scores, require_published
from unirex_ray.analysis.rationales import read_rationales
from unirex_ray.analysis.references import one_task_model
from unirex_ray.analysis.selection import with_most_data
from unirex_ray.analysis.transfer import transfer_rows
from unirex_ray.config import Config, Tree
from unirex_ray.data.load import check_name
from unirex_ray.errors import UserError
from unirex_ray.files import replace_bytes
from unirex_ray.metrics.instance_file import INSTANCES, of_split
from unirex_ray.report.certainty import certainty_remarks, findings, one_seed
from unirex_ray.report.corpora import corpora_figures, corpora_table
from unirex_ray.report.files import (
    CONFIGURATIONS,
    REPORT,
    comparison_figures,
    comparison_tables,
    unfinished_remarks,
    write_results,
)
from unirex_ray.report.html import RATIONALES, methods_page
from unirex_ray.report.page import RunLink, Section, report_page
from unirex_ray.report.plots import png
from unirex_ray.report.table import ReportTable, method_label
from unirex_ray.tracking.archive import ArchiveStore, to_archive
from unirex_ray.tracking.choose import configured_weights, open_sweeps, weights_of
from unirex_ray.tracking.pooled_stores import PooledStores
from unirex_ray.tracking.provenance import code_version
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import GIT_VERSION, SweepRecord
from unirex_ray.training.result_file import RESULT

PAPER_TABLES = {"main": "table_main", "1": "table_1", "2": "transfer", "4": "table_4"}
"""By how the paper numbers them; main: Tables 6 to 10."""

_CHARTS = {
    "comparison_cnrg": "CNRG by method",
    "comparison_desiderata": "FNRG, PNRG and TNRG by method",
    "gold_efficiency": "AUPRC by the share of gold rationales",
    "learning_curve": "Test metrics by the number of train instances",
    "cnrg_without_plausibility": "CNRG by corpus, methods without plausibility optimisation",
    "cnrg_with_plausibility": "CNRG by corpus, methods with plausibility optimisation",
    "desiderata_without_plausibility": "Desiderata of methods without plausibility optimisation",
    "desiderata_with_plausibility": "Desiderata of methods with plausibility optimisation",
}


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
        if table is not None:
            name = PAPER_TABLES[table]
            if name not in self.tables:
                raise UserError(f"--table={table}: no sweep has results for it; see search_spaces/README.md")
            return [self.tables[name]]
        asked = {CONFIGURATIONS: configurations, "pairs": pairs}
        hidden = {*PAPER_TABLES.values(), *(name for name, is_asked in asked.items() if not is_asked)} - {"transfer"}
        return [shown for name, shown in self.tables.items() if name not in hidden]


def configs_of(config: Config, choice: Mapping[str, Any]) -> dict[str, Config]:
    """A configuration for each corpus that `data.name` lists.

    Args:
        choice: among the recorded sweeps, the arguments of `open_sweeps`.

    Raises:
        UserError: for an unknown corpus; where a choice among the sweeps of one corpus is made for several.
    """
    names = config.data.name.split(",")
    for name in names:
        check_name(name)
    chosen = [option for option in ("sweeps", "digest", "protocol") if choice.get(option)]
    if len(names) > 1 and chosen:
        option = {"sweeps": "--sweep-id"}.get(chosen[0], f"--{chosen[0]}")
        raise UserError(
            f"{option} chooses among the sweeps of one corpus, but data.name = {config.data.name!r} lists several"
        )
    return {name: config.changed({"data.name": name}) for name in names}


def compare_corpus(config: Config, tree: Tree, choice: Mapping[str, Any], *, published: bool = False) -> Compared:
    """Read a corpus' runs, and compare its methods.

    Args:
        tree: that `config` was built from.
        choice: see `configs_of`.
        published: whether the paper's results stand beside ours.

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

    comparison = with_certainty(compare(corpus, sweeps, weights), read_once, weights)
    against = compare_with_paper(comparison.raw, paper, weights, left_out=comparison.unranked) if paper else None
    efficiency = gold_efficiency(with_most_data(comparison.variants)[0], weights)
    transfer = transfer_rows(comparison, store.evaluations(corpus))
    times = read_times(config.output, [sweep.settings for sweep in sweeps]) if own else NO_TIMES
    chosen = {row.method: row.configuration for row in comparison.rows}
    references = one_task_model(chosen, comparison.variants, read_once)
    learning = learning_curves(comparison.variants, weights)
    tables = comparison_tables(comparison, against, efficiency, transfer, times, references, learning)
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


def record(compared: Compared, pages: Mapping[str, str]) -> str:
    """Write NRG back to the runs, and put the pages and what they say into the sweeps' runs.

    Returns:
        What was written where, in words.
    """
    store = compared.store
    sweeps = [sweep for sweep in compared.sweeps if not store.is_archived(sweep)]
    if not sweeps:
        return f"nothing to runs: {store.uri} stays as it is"
    write_back(store.log_scores, compared.comparison)
    said = [*answer(compared.comparison), *compared.comparison.protocols.values()]
    files = {name: page.encode() for name, page in pages.items()}
    for sweep in sweeps:
        store.describe(sweep.run_id, "\n\n".join(said))
    written_to = ", ".join(dict.fromkeys(map(store.uri_of, sweeps)))
    return f"NRG to the runs at {written_to}; {keep_in_runs(store, sweeps, files)}"


def keep_in_runs(
    store: PooledStores, sweeps: Sequence[SweepRecord], files: Mapping[str, bytes], folder: str | None = None
) -> str:
    """Keep files in the sweeps' runs; says whether that was possible: artifacts may be out of reach."""
    try:
        for sweep in sweeps:
            store.log_files(sweep.run_id, files, folder)
    except UserError as error:
        return f"NOT to the sweeps' own runs: {error}"
    return f"{', '.join(files)} to the sweeps' own runs"


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
        _sections(compared, answer(comparison)),
        title=f"{comparison.experiment}: rationale extraction methods compared",
        subtitle=f"{len(comparison.rows)} methods on test; made by {code_version()}",
        answer=answer(comparison),
        facts=_facts(compared),
        runs=_runs(compared),
        rationales=RATIONALES if compared.rationales else None,
    )
    return {REPORT: report, **({RATIONALES: compared.rationales} if compared.rationales else {})}


def _sections(compared: Compared, said: Collection[str], prefix: str = "") -> list[Section]:
    """A section per table.

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
    left_out = {*said, *compared.comparison.protocols.values()}
    return [
        Section(
            heading=prefix + headings.get(name, name.replace("_", " ").capitalize()),
            tables=[replace(table, remarks=[remark for remark in table.remarks if remark not in left_out])],
            figures={_CHARTS[c]: compared.figures[c] for c in charts.get(name, ()) if c in compared.figures},
        )
        for name, table in compared.tables.items()
        if name != PAPER_TABLES["main"] and (not prefix or name in ("comparison", "certainty"))
    ]


def _facts(compared: Compared) -> dict[str, str]:
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


def _runs(compared: Compared) -> list[RunLink]:
    stores = {t.run_id: compared.store.uri_of(sweep) for sweep in compared.sweeps for t in sweep.trials}

    def link(run_id: str | None) -> str | None:
        uri = stores.get(run_id, "")
        return f"{uri.rstrip('/')}/#/runs/{run_id}" if uri.startswith("http") else None

    return [
        RunLink(method=method_label(row.method), seed=r.spec.seed, run_id=str(r.run_id), link=link(r.run_id))
        for row in compared.comparison.rows
        for r in row.configuration.records
    ]


def _caveats(corpus: str, comparison: Comparison) -> list[str]:
    """What the intervals of a corpus leave out, or why there are none, and its protocols."""
    found = comparison.certainty
    told = unfinished_remarks(comparison.unfinished)
    told += certainty_remarks(found) if found else [f"no intervals: {comparison.no_certainty}."]
    return [f"{corpus}: {line}" for line in (*told, *comparison.protocols.values())]


@dataclass(frozen=True, kw_only=True)
class ComparedCorpora:
    """Several corpora.

    Attributes:
        tables, figures: the latter as PNG, by the name of their file without its ending.
        page: about all of them.
    """

    means: CorporaComparison
    tables: Mapping[str, ReportTable]
    figures: Mapping[str, bytes]
    page: str


def compare_several(corpora: Mapping[str, Compared], *, published: bool = False) -> ComparedCorpora:
    """Put corpora together, by name.

    Args:
        published: whether the paper's means over the same corpora stand beside ours.
    """
    means = compare_corpora({corpus: compared.comparison for corpus, compared in corpora.items()})
    tables = {"corpora": corpora_table(means)}
    if published:
        paper = dataset_means(paper_scores(corpora))
        tables["corpora_published"] = corpora_table(paper, "The paper's raw results, dataset means of NRG")
    figures = {name: png(figure) for name, figure in corpora_figures(means).items()}
    first = Section(
        heading="All corpora",
        tables=list(tables.values()),
        figures={_CHARTS[name]: image for name, image in figures.items()},
    )
    about = [line for corpus, compared in corpora.items() for line in _caveats(corpus, compared.comparison)]
    tables["corpora"] = replace(tables["corpora"], remarks=[*tables["corpora"].remarks, *about])
    page = report_page(
        [first, *(s for corpus, compared in corpora.items() for s in _sections(compared, (), f"{corpus}: "))],
        title=f"{', '.join(corpora)}: rationale extraction methods compared",
        subtitle=f"test; made by {code_version()}",
        answer=tables["corpora"].remarks[: sum(group.headline is not None for group in means.groups)],
        facts={f"{corpus}: {k}": v for corpus, c in corpora.items() for k, v in _facts(c).items() if k != "Corpus"},
        runs=[run for compared in corpora.values() for run in _runs(compared)],
    )
    return ComparedCorpora(means=means, tables=tables, figures=figures, page=page)


@dataclass(frozen=True, kw_only=True)
class AllCompared:
    """Every corpus that was asked for.

    Attributes:
        configs, corpora: by name.
        several: all together; None where there is one.
    """

    configs: Mapping[str, Config]
    corpora: Mapping[str, Compared]
    several: ComparedCorpora | None

    def write(self, output: str | Path) -> Iterator[str]:
        """Write tables, charts and pages, and NRG to the runs.

        Yields:
            What was written where, in words.

        Raises:
            UserError: if the folder cannot be written.
        """
        for name, compared in self.corpora.items():
            folder, pages = Path(output) / (name if self.several else ""), corpus_pages(compared)
            written = write_results(folder, "comparison", compared.tables, compared.figures, pages)
            comparison = compared.comparison
            yield f"Sweeps: {', '.join(comparison.sweeps)}; data digest {comparison.digest}."
            yield f"Wrote {', '.join(written)} to {folder}; {record(compared, pages)}."
        if self.several:
            together = self.several
            written = write_results(output, "corpora", together.tables, together.figures, {REPORT: together.page})
            yield f"Wrote {', '.join(written)} to {output}."

    def write_archive(self, file: str | Path) -> str:
        """Keep what was compared in one file, see `tracking.archive`; says what it holds.

        Raises:
            UserError: if it cannot be written.
        """
        results = {
            trial_id: of_split(data, "test")
            for compared in self.corpora.values()
            for trial_id, data in compared.results.items()
        }
        sweeps = {name: compared.sweeps for name, compared in self.corpora.items()}
        trials = {trial.spec.trial_id for of_corpus in sweeps.values() for sweep in of_corpus for trial in sweep.trials}
        evaluations = [
            evaluation
            for name, compared in self.corpora.items()
            for evaluation in compared.store.evaluations(name)
            if evaluation.trial_id in trials
        ]
        data = to_archive(sweeps, evaluations, results)
        try:
            replace_bytes(Path(file), data)
        except OSError as error:
            raise UserError(f"cannot write the archive {str(file)!r}: {error.strerror}") from None
        return (
            f"Wrote {file}: {len(trials)} trials, {len(results)} of them with results by instance, {len(data):,} bytes."
        )


def compare_all(config: Config, tree: Tree, choice: Mapping[str, Any], *, published: bool = False) -> AllCompared:
    """Compare the methods on each corpus that `data.name` lists, and the corpora; arguments as `compare_corpus`.

    Without a `data.name`, those of the archives, where some are chosen.

    Raises:
        UserError: where there is nothing to compare, or the choice cannot be made for several corpora.
    """
    if choice.get("archives") and "output" not in tree:
        raise UserError("--archive writes its tables to --output, and reads no runs there: give a folder of its own")
    if choice.get("archives") and tree.get("tracking", {}).get("uri"):
        raise UserError("--archive is read in place of tracking.uri: leave one of them out")
    if choice.get("archives") and "name" not in tree.get("data", {}):
        kept = [corpus for file in choice["archives"] for corpus in ArchiveStore(file).corpora]
        config = config.changed({"data.name": ",".join(dict.fromkeys(kept))})
    configs = configs_of(config, choice)
    corpora = {name: compare_corpus(of, tree, choice, published=published) for name, of in configs.items()}
    several = compare_several(corpora, published=published) if len(corpora) > 1 else None
    return AllCompared(configs=configs, corpora=corpora, several=several)
