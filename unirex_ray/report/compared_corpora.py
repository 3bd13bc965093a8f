"""Every corpus that was asked for, compared: its pages, what the runs get of them, and all corpora together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unirex_ray.analysis.compare import write_back
from unirex_ray.analysis.corpora import CorporaComparison, compare_corpora, dataset_means
from unirex_ray.analysis.paper import paper_scores
from unirex_ray.config import Config, Tree
from unirex_ray.data.load import check_name
from unirex_ray.errors import UserError
from unirex_ray.files import replace_bytes
from unirex_ray.metrics.instance_file import of_split
from unirex_ray.report.compared import Compared, compare_corpus
from unirex_ray.report.corpora import corpora_figures, corpora_table
from unirex_ray.report.corpus_page import CHARTS, TERMS, answer, caveats, corpus_pages, facts, run_links, sections
from unirex_ray.report.files import (
    REPORT,
    write_results,
)
from unirex_ray.report.page import Section, report_page
from unirex_ray.report.plots import png
from unirex_ray.report.table import ReportTable
from unirex_ray.tracking.archive import ArchiveStore, to_archive
from unirex_ray.tracking.pooled_stores import PooledStores
from unirex_ray.tracking.provenance import code_version
from unirex_ray.tracking.store import SweepRecord


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
        figures={CHARTS[name]: image for name, image in figures.items()},
    )
    about = [line for corpus, compared in corpora.items() for line in caveats(corpus, compared.comparison)]
    tables["corpora"] = replace(tables["corpora"], remarks=[*tables["corpora"].remarks, *about])
    page = report_page(
        [first, *(s for corpus, compared in corpora.items() for s in sections(compared, (), f"{corpus}: "))],
        title=f"{', '.join(corpora)}: rationale extraction methods compared",
        subtitle=f"test; made by {code_version()}",
        answer=tables["corpora"].remarks[: sum(group.headline is not None for group in means.groups)],
        facts={f"{corpus}: {k}": v for corpus, c in corpora.items() for k, v in facts(c).items() if k != "Corpus"},
        runs=[run for compared in corpora.values() for run in run_links(compared)],
        terms=TERMS,
    )
    return ComparedCorpora(means=means, tables=tables, figures=figures, page=page)


def _archive(corpora: Mapping[str, Compared], file: str | Path) -> str:
    sweeps = {name: compared.sweeps for name, compared in corpora.items()}
    trials = {trial.spec.trial_id for of_corpus in sweeps.values() for sweep in of_corpus for trial in sweep.trials}
    found = [one for name, compared in corpora.items() for one in compared.store.evaluations(name)]
    results = {}
    for trial_id, data in ((name, data) for compared in corpora.values() for name, data in compared.results.items()):
        with suppress(UserError):  # the comparison has told that it is damaged
            results[trial_id] = of_split(data, "test")
    content = to_archive(sweeps, [one for one in found if one.trial_id in trials], results)
    try:
        replace_bytes(Path(file), content)
    except OSError as error:
        raise UserError(f"cannot write the archive {str(file)!r}: {error.strerror}") from None
    with_results = f"{len(results)} of them with results by instance"
    return f"Wrote {file}: {len(trials)} trials, {with_results}, {len(content):,} bytes."


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
        return _archive(self.corpora, file)


def compare_all(
    config: Config, tree: Tree, choice: Mapping[str, Any], *, published: bool = False, baseline: str | None = None
) -> AllCompared:
    """Compare the methods on each corpus that `data.name` lists, and the corpora; arguments as `compare_corpus`.

    Without a `data.name`, those of the archives, where some are chosen.

    Raises:
        UserError: where there is nothing to compare, or the choice cannot be made for several corpora.
    """
    if choice.get("archives"):
        if "output" not in tree:
            raise UserError("--archive writes tables to --output, and reads no runs there: give a folder of its own")
        if tree.get("tracking", {}).get("uri"):
            raise UserError("--archive is read in place of tracking.uri: leave one of them out")
        # What is wrong with them is known before a server is asked.
        archives = [ArchiveStore(file) for file in dict.fromkeys(choice["archives"])]
        choice = {**choice, "archives": archives}
        if "name" not in tree.get("data", {}):
            corpora_of = [corpus for archive in archives for corpus in archive.corpora]
            config = config.changed({"data.name": ",".join(dict.fromkeys(corpora_of))})
    configs = configs_of(config, choice)
    corpora = {
        name: compare_corpus(of, tree, choice, published=published, baseline=baseline) for name, of in configs.items()
    }
    several = compare_several(corpora, published=published) if len(corpora) > 1 else None
    return AllCompared(configs=configs, corpora=corpora, several=several)
