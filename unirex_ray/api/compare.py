"""Comparing methods from the recorded runs, for Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unirex_ray.config import build_config
from unirex_ray.config.given import Settings, given_names, given_tree
from unirex_ray.report.compared_corpora import compare_all
from unirex_ray.report.frame import DataFrame, frame_of


def compare(
    settings: Settings = None,
    *,
    also: str | Path | Sequence[str | Path] = (),
    archives: str | Path | Sequence[str | Path] = (),
    sweeps: str | Sequence[str] = (),
    digest: str | None = None,
    protocol: str | None = None,
    unfinished: bool = False,
    published: bool = False,
    baseline: str | None = None,
    write_archive: str | Path | None = None,
    **keys: Any,
) -> DataFrame:
    """Compare methods by global NRG as `jobs/compare.py` does: `unirex_ray.compare(output="sst", data={"name": ...})`.

    It writes the same files to the output, and NRG to the runs.

    Args:
        settings, keys: the configuration, see `given_tree`.
        also, archives, sweeps: one or several; with digest, protocol and unfinished: which runs, see `open_sweeps`.
        published, baseline: whether the paper's results are compared as well, and with which method all others, in
            files of their own; see `compare_corpus`.
        write_archive: a file to keep in what was compared, see `AllCompared.write_archive`.

    Returns:
        A row per corpus and method, the best first.

    Raises:
        UserError: where there is nothing to compare; where pandas is not installed.
    """
    frame_of([])  # before the work, not behind it
    tree = given_tree(settings, keys)
    names = {"also": given_names(also), "archives": given_names(archives), "sweeps": given_names(sweeps)}
    choice = {**names, "digest": digest, "protocol": protocol, "unfinished": unfinished}
    config = build_config(tree)
    found = compare_all(config, tree, choice, published=published, baseline=baseline)
    for line in found.write(config.output):
        print(line)
    if write_archive is not None:
        print(found.write_archive(write_archive))
    return frame_of(
        [{"corpus": name, **row} for name, one in found.corpora.items() for row in one.tables["comparison"].records]
    )
