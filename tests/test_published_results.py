"""What the READMEs say of the experiment on SST is what its record gives, to the last printed digit."""

import re
from pathlib import Path
from typing import Any

import pytest

from unirex_ray.config import build_config
from unirex_ray.report.certainty import findings
from unirex_ray.report.compared import Compared
from unirex_ray.report.compared_corpora import compare_all
from unirex_ray.report.table import method_label

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "search_spaces" / "sst-main.zip"
BEYOND = ROOT / "search_spaces" / "sst-beyond.zip"
_NUMBER = r"-?\d+\.\d+"
_INTERVAL = re.compile(rf"(?<![\d.])({_NUMBER}) to ({_NUMBER})(?!\d|\.\d)")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    tree = {"output": str(tmp_path_factory.mktemp("tables"))}
    return compare_all(build_config(tree), tree, {"archives": [str(RECORD)]}, published=True).corpora["sst"]


def beside_slm_fp(folder: Path, **choice: Any) -> Compared:
    """With what was run beside the paper's methods: differences to UNIREX (SLM-FP)."""
    tree = {"output": str(folder)}
    archives = {"archives": [str(RECORD), str(BEYOND)], **choice}
    return compare_all(build_config(tree), tree, archives, baseline="unirex-slm-fp").corpora["sst"]


@pytest.fixture(scope="module")
def beyond(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return beside_slm_fp(tmp_path_factory.mktemp("beyond"), protocol="cfe0f3224812")


def said(page: str, heading: str) -> str:
    """A section of a README, up to the next heading of its level."""
    level = heading.partition(" ")[0]
    text = (ROOT / page).read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1]
    return re.split(rf"\n{level} ", text)[0]


def rows(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("| ")]


def intervals(compared: Compared, *tables: str) -> set[tuple[str, str]]:
    """Of every score, metric and difference, at any number of decimals."""
    bounds = []
    for name in tables:
        for record in compared.tables[name].records:
            lows = {key: value for key, value in record.items() if key.endswith("_low") and value is not None}
            bounds += [(value, record[key.removesuffix("_low") + "_high"]) for key, value in lows.items()]
        bounds += [tuple(map(float, found)) for found in _INTERVAL.findall(compared.tables[name].markdown())]
    both = [*bounds, *((-high, -low) for low, high in bounds)]
    return {(f"{low:z.{digits}f}", f"{high:z.{digits}f}") for low, high in both for digits in (1, 2, 3)}


@pytest.mark.parametrize(
    ("page", "heading", "table"),
    [
        ("README.md", "## What it looks like", "comparison"),
        ("unirex_ray/methods/README.md", "## References", "references"),
    ],
)
def test_a_table_is_the_one_that_the_record_gives(compared: Compared, page: str, heading: str, table: str) -> None:
    unranked = {method_label(method) for method in compared.comparison.raw} - {
        method_label(method) for method in compared.comparison.selected
    }
    left_out = unranked if table == "comparison" else ()
    wanted = [row for row in rows(compared.tables[table].markdown()) if row.split("|")[1].strip() not in left_out]
    assert rows(said(page, heading))[: len(wanted)] == wanted


@pytest.mark.parametrize(
    ("page", "heading"), [("README.md", "## What it looks like"), ("unirex_ray/methods/README.md", "## References")]
)
def test_every_interval_is_one_of_the_record(compared: Compared, page: str, heading: str) -> None:
    told = _INTERVAL.findall(said(page, heading))
    known = intervals(compared, "comparison", "certainty", "pairs", "agreement", "references")
    assert told
    assert not {*told} - known


def test_what_can_be_told_apart_is_said_as_the_record_says_it(compared: Compared) -> None:
    text = " ".join(said("README.md", "## What it looks like").split())
    assert compared.comparison.certainty is not None
    for sentence in findings(compared.comparison.certainty):
        assert sentence in text
    table = compared.tables["agreement"]
    counts = zip(table.lead["By"], table.scores["Told apart"], table.scores["As in the paper"], strict=True)
    assert table.title.removeprefix("The paper's order of ").removesuffix(" of methods") in text
    for by, apart, agree in counts:
        assert f"{apart} and {agree} by {str(by).split()[0]}" in text


@pytest.mark.parametrize(
    ("page", "heading"),
    [("unirex_ray/methods/README.md", "## REFER"), ("search_spaces/README.md", "## A gentle start")],
)
def test_differences_to_slm_fp_are_those_of_the_records(beyond: Compared, page: str, heading: str) -> None:
    table, told = rows(beyond.tables["baseline"].markdown()), rows(said(page, heading))
    assert told[0] == table[0]
    assert len(told) > 1
    assert {*told} <= {*table}


def test_differences_of_a_warm_up_are_those_of_its_sweep(beyond: Compared, tmp_path: Path) -> None:
    text = said("search_spaces/README.md", "## A gentle start")
    named = beside_slm_fp(tmp_path, sweeps=re.findall(r"--sweep-id=(\S+)", text))
    warm_up, *_ = named.tables["baseline"].records
    assert warm_up["method"] == "unirex-slm-fp"
    assert warm_up["configuration"].startswith(re.findall(r"--sweep-id=(\S+)", text)[1])
    told = _INTERVAL.findall(text.split("no difference is seen:")[1].split("That is")[0])
    keys = ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")
    ends = [(warm_up[f"difference/{key}_low"], warm_up[f"difference/{key}_high"]) for key in keys]
    assert told == [tuple(f"{end:z.{3 if number < 2 else 2}f}" for end in both) for number, both in enumerate(ends)]
    assert (warm_up["better"], warm_up["worse"]) == ([], [])
