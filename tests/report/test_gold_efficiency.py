import csv
import io
from dataclasses import replace

import pytest
from helpers.gold_curves import configuration, efficiency
from rich.console import Console

from unirex_ray.analysis.gold_efficiency import gold_efficiency
from unirex_ray.report.gold_efficiency import gold_efficiency_table


def test_markdown() -> None:
    lines = gold_efficiency_table(efficiency()).markdown().splitlines()
    assert lines[0] == "Test AUPRC ↑ by the share of train instances with gold rationales, mean ± std over 1/3 seeds"
    assert lines[2:] == [
        "| Method | 0.5% | 20% | 100% |",
        "|---|---:|---:|---:|",
        "| AA (IG) | 44.00 ± 4.00 | 44.00 ± 4.00 | 44.00 ± 4.00 |",
        "| UNIREX (DLM-FP) |  | 75.00 |  |",
        "| UNIREX (SLM-FP) | **74.00 ± 3.46** | **78.00 ± 0.00** | **82.00 ± 2.00** |",
        "",
        "- No gold rationales are used, at any share, by AA (IG).",
        "- UNIREX (DLM-FP) has no complete configuration at 0.5%, 100%.",
        "- Left out, because data.gold_percent was not varied: UNIREX (DLM-P).",
    ]


@pytest.mark.parametrize("width", [60, 240])
def test_printed_at_any_width(width: int) -> None:
    stream = io.StringIO()
    gold_efficiency_table(efficiency()).print(Console(file=stream, width=width))
    text = stream.getvalue()
    for cell in (
        "AA (IG)",
        "0.5%",
        "100%",
        "44.00 ± 4.00",
        "74.00 ± 3.46",
        "82.00 ± 2.00",
        "no complete configuration",
    ):
        assert cell in text
    assert max(len(line) for line in text.splitlines()) <= width
    assert (text.count("Method") == 1) == (width == 240)


def test_a_choice_within_a_share_is_told() -> None:
    method = "unirex-slm-fp"
    curves = gold_efficiency({method: [configuration(method, i, p, (1.0, 2.0)) for i, p in enumerate((1, 1, 2))]})
    assert curves is not None
    assert gold_efficiency_table(curves).remarks == [
        "Of several configurations of one method and share, the best by dev CNRG is shown."
    ]
    assert gold_efficiency_table(replace(curves, curves=())).remarks == []


def test_csv_has_every_digit() -> None:
    read = list(csv.DictReader(io.StringIO(gold_efficiency_table(efficiency()).csv(), newline="")))
    assert [(row["method"], row["gold_percent"]) for row in read] == [
        ("aa-ig", ""),
        ("unirex-dlm-fp", "20.0"),
        ("unirex-slm-fp", "0.5"),
        ("unirex-slm-fp", "20.0"),
        ("unirex-slm-fp", "100.0"),
    ]
    assert float(read[2]["test/auprc"]) == 74.0
    assert float(read[2]["test/auprc_std"]) == pytest.approx(12**0.5, abs=1e-14)
    assert (read[1]["test/auprc_std"], read[1]["seeds"], read[2]["configuration"]) == ("", "[0]", "1")
