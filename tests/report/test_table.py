import csv
import io
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from unirex_ray.report.table import ReportTable, group_breaks, over_seeds, parameters_text, stretches, to_csv

TABLE = ReportTable(
    title="Title",
    lead={"Method": ["a|b", "c"]},
    scores={"Score": [Text("1", style="bold"), Text("", style="bold")]},
    raw={name: ["1.0", "2.0"] for name in ("One", "Two", "Three", "Four")},
    raw_group=2,
    remarks=["A remark."],
    breaks=group_breaks(["a", "c"]),
)


@pytest.mark.parametrize(
    ("width", "headers"),
    [
        (80, [["Method", "Score", "One", "Two", "Three", "Four"]]),
        (30, [["Method", "Score"], ["Method", "One", "Two"], ["Method", "Three", "Four"]]),
    ],
)
def test_a_wide_table_is_split_between_groups(width: int, headers: list[list[str]]) -> None:
    stream = io.StringIO()
    TABLE.print(Console(file=stream, width=width))
    lines = stream.getvalue().splitlines()
    assert [line.split() for line in lines if "Method" in line] == headers
    rows = [index for index, line in enumerate(lines) if "a|b" in line]
    assert [lines[index + 1].strip() for index in rows] == [""] * len(headers)
    assert (lines[0].strip(), lines[-1]) == ("Title", "A remark.")


@pytest.mark.parametrize("width", [44, 60, 80, 100, 130])
def test_no_cell_is_cut(width: int) -> None:
    lead = {"Method": ["UNIREX (SLM-FP) †", "AA (IG)"]}
    scores = {"CNRG": ["0.167", "1.000"], "95 %": ["0.00 to 0.17", "0.50 to 1.00"], "First": ["0 %", "100 %"]}
    raw = {name: ["0.000 ± 0.001", "80.65 ± 12.34"] for name in ("Comp ↑", "Suff ↓", "AUPRC ↑")}
    stream = io.StringIO()
    ReportTable(title="Title", lead=lead, scores=scores, raw=raw).print(Console(file=stream, width=width))
    shown = stream.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    for header, column in {**scores, **raw}.items():
        assert header in shown
        for cell in column:
            assert cell in shown
    assert all(shown.count(cell) == shown.count("Method") for cell in lead["Method"])


def test_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "Title",
        "",
        "| Method | Score | One | Two | Three | Four |",
        "|---|---:|---:|---:|---:|---:|",
        "| a\\|b | **1** | 1.0 | 1.0 | 1.0 | 1.0 |",
        "| c |  | 2.0 | 2.0 | 2.0 | 2.0 |",
        "",
        "- A remark.",
    ]


CELLS = st.one_of(
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")),
    st.lists(st.integers()),
    st.booleans(),
)


@pytest.mark.slow
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b,c", 'd"']), CELLS, min_size=1), min_size=1))
def test_csv_round_trip(rows: list[dict[str, Any]]) -> None:
    read = list(csv.DictReader(io.StringIO(to_csv(rows), newline="")))
    # A row of one empty cell is a blank line, which readers skip.
    header = {key for row in rows for key in row}
    if len(header) > 1:
        assert len(read) == len(rows)
        for got, row in zip(read, rows, strict=True):
            for key in header:
                value = row.get(key)
                assert got[key] == ("" if value is None else value if isinstance(value, str) else json.dumps(value))


def test_nan_is_an_empty_cell() -> None:
    assert to_csv([{"a": math.nan, "b": 0.0}]) == "a,b\n,0.0\n"


def test_parameters_text() -> None:
    assert (
        parameters_text({"train.learning_rate": 2e-5, "loss.comp_weight": 1.0}) == "learning_rate=2e-05 comp_weight=1"
    )
    assert parameters_text({"train.seed": 1, "data.seed": 2}) == "train.seed=1 data.seed=2"


def test_over_seeds() -> None:
    assert over_seeds([(0,), (4,)]) == "one seed"
    assert over_seeds([(0, 1), (0, 1, 2)]) == "mean ± std over 2/3 seeds"


def test_latex_is_a_booktabs_table_with_everything_escaped():
    table = ReportTable(
        title="50 % of {x}_1",
        lead={"Method": ["A & B", "C\\D"]},
        scores={"95 %": [Text("0.1 ± 0.2", style="bold"), "< 1"]},
        raw={"Suff ↓": ["-0.1", "†~^#$"]},
        breaks={0},
        remarks=["a 100 % remark"],
    )
    assert table.latex().splitlines() == [
        r"% 50 \% of \{x\}\_1",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"Method & 95 \% & Suff $\downarrow$ \\",
        r"\midrule",
        r"A \& B & \textbf{0.1 $\pm$ 0.2} & -0.1 \\",
        r"\midrule",
        r"C\textbackslash{}D & $<$ 1 & $^\dagger$\textasciitilde{}\textasciicircum{}\#\$ \\",
        r"\bottomrule",
        r"\end{tabular}",
        "% a 100 % remark",
    ]


def test_a_bold_part_of_a_cell_is_a_highlight() -> None:
    cell = Text.assemble("the ", ("good", "bold underline"), " film")
    table = ReportTable(title="t", lead={"Method": ["a"]}, scores={"Rationale": [cell]}, raw={})
    assert stretches(cell) == [("the ", False), ("good", True), (" film", False)]
    assert "| a | the **good** film |" in table.markdown()
    assert r"a & the \textbf{good} film \\" in table.latex()
    assert r"\begin{tabular}{lp{0.5\linewidth}}" in table.latex()
    for is_terminal, shown in ((False, "the [good] film"), (True, "the good film")):
        out = Console(file=io.StringIO(), width=80, force_terminal=is_terminal, color_system=None)
        table.print(out)
        assert shown in re.sub(r"\x1b\[[0-9;]*m", "", out.file.getvalue())


def test_markdown_has_no_tags_of_what_it_shows() -> None:
    table = ReportTable(title="t", lead={"Method": ["<script>", "a < 1"]}, scores={}, raw={}, remarks=["</b> p < 0.01"])
    text = table.markdown()
    assert "| &lt;script> |" in text
    assert "| a < 1 |" in text
    assert "- &lt;/b> p < 0.01" in text
