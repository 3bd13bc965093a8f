import csv
import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from helpers.recorded_evaluations import IRONY, OURS, compared, evaluation, store_of
from rich.console import Console

from unirex_ray.analysis.transfer import TransferRow, evaluation_rows, transfer_rows
from unirex_ray.report.transfer import transfer_table
from unirex_ray.tracking.records import SAME_LABELS


def rows() -> tuple[TransferRow, ...]:
    store = store_of(OURS)
    return transfer_rows(compared(store), store.evaluations("sst"))


def printed(rows: Sequence[TransferRow], width: int = 240) -> str:
    stream = io.StringIO()
    transfer_table(rows).print(Console(file=stream, width=width))
    return stream.getvalue()


def test_markdown_is_the_papers_table() -> None:
    lines = transfer_table(rows()).markdown().splitlines()
    assert lines[0] == "Trained on sst: faithfulness and task score by corpus, mean ± std over 1/2/3 seeds"
    assert lines[2:] == [
        "| Task | Dataset | Method | CSD ↑ | Comp ↑ | Suff ↓ | AUPRC ↑ | Task score ↑ |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        "| SA | sst | AA (IG) | -3.000 ± 3.000 | 13.000 ± 3.000 | 16.000 ± 6.000 | 10.00 ± 0.00 | 19.00 ± 9.00 |",
        "|  |  | UNIREX (SLM-FP) | -3.000 ± 3.000 | **43.000 ± 3.000** | 46.000 ± 6.000 "
        "| **40.00 ± 0.00** | **49.00 ± 9.00** |",
        "|  |  | UNIREX (AA-F, Rand) | -3.000 ± 3.000 | 8.000 ± 3.000 | **11.000 ± 6.000** "
        "| 5.00 ± 0.00 | 14.00 ± 9.00 |",
        "| SA | yelp | UNIREX (SLM-FP) | -3.000 ± 3.000 | 33.000 ± 3.000 | 36.000 ± 6.000 |  | 39.00 ± 9.00 |",
        "| ID | irony | AA (IG) | -3.000 ± 3.000 | 23.000 ± 3.000 | **26.000 ± 6.000** |  | 29.00 ± 9.00 |",
        "|  |  | UNIREX (SLM-FP) | **-1.500 ± 2.121** | **51.500 ± 2.121** | 53.000 ± 4.243 |  | **54.50 ± 6.36** |",
        "|  | target | UNIREX (AA-F, Rand) | 0.000 | 7.000 | 7.000 |  | 7.00 |",
        "",
        "- SA: sentiment analysis; ID: irony detection.",
        "- Labels on yelp, the model's for the corpus': negative for no, positive for yes.",
        "- Labels on irony, the model's for the corpus': negative for no, positive for yes.",
        "- Labels on target, the model's for the corpus': negative for no, positive for yes.",
        "- Task score: Accuracy on sst, yelp, target; Binary F1 on irony.",
        "- Not evaluated on yelp: AA (IG), UNIREX (AA-F, Rand).",
        "- UNIREX (SLM-FP) on irony: seed 2 is not evaluated.",
        "- Not evaluated on irony: UNIREX (AA-F, Rand).",
        "- UNIREX (AA-F, Rand) on target: seeds 1, 2 are not evaluated.",
        "- Not evaluated on target: AA (IG), UNIREX (SLM-FP).",
    ]


@pytest.mark.parametrize("width", [80, 120, 240])
def test_printed_at_any_width(width: int) -> None:
    # The longest name that a corpus has.
    longest = {"dataset": "stormfront (0a1b2c3d)", "task": "OSD"}
    text = printed([replace(row, **longest) if row.dataset == "irony" else row for row in rows()], width)
    for cell in ("sst", "UNIREX (AA-F, Rand)", "-1.500 ± 2.121", "51.500 ± 2.121", "40.00 ± 0.00", "54.50 ± 6.36"):
        assert cell in text
    assert "UNIREX (AA-F, Rand)  " in text
    assert "stormfront (0a1b2c3d)  " in text
    assert "Labels on target, the model's for the corpus': negative for no, positive for yes." in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= width
    # Where the table is split, every part repeats the lead columns.
    assert (text.count("Dataset") == 1) == (width == 240)


def test_plain_evaluations_print_in_the_same_form() -> None:
    text = printed(evaluation_rows(IRONY))
    (header,) = [line.split() for line in text.splitlines() if "Method" in line]
    assert header == ["Task", "Dataset", "Method", "CSD", "↑", "Comp", "↑", "Suff", "↓", "Task", "score", "↑"]
    assert "-1.500 ± 2.121" in text
    assert "AUPRC" not in text
    assert "one seed" in printed(evaluation_rows(IRONY[:1]))


def test_models_that_differ_in_their_labels_are_told_apart() -> None:
    odd = replace(evaluation("aa-ig", 0, "irony"), labels="negative for yes, positive for no")
    assert transfer_table(evaluation_rows([odd, *IRONY])).remarks[1] == (
        "Labels on irony, the model's for the corpus': negative for yes, positive for no (AA (IG)); "
        "negative for no, positive for yes (UNIREX (SLM-FP))."
    )


def test_names_are_text() -> None:
    odd = replace(IRONY[0], corpus="[red]a|b[/red]")
    assert "[red]a|b[/red]" in printed(evaluation_rows([odd]))
    assert "| [red]a\\|b[/red] |" in transfer_table(evaluation_rows([odd])).markdown()


def test_csv_has_every_digit() -> None:
    read = list(csv.DictReader(io.StringIO(transfer_table(rows()).csv(), newline="")))
    assert len(read) == 7
    slm = read[5]
    assert (slm["trained_on"], slm["corpus"], slm["digest"], slm["split"]) == (
        "sst",
        "irony",
        "0a1b2c3d4e5f6071",
        "test",
    )
    assert (slm["method"], slm["task_metric"], slm["seeds"], slm["missing_seeds"]) == (
        "unirex-slm-fp",
        "Binary F1",
        "[0, 1]",
        "[2]",
    )
    assert float(slm["csd"]) == -1.5
    assert float(slm["csd_std"]) == pytest.approx(4.5**0.5, abs=1e-14)
    assert (slm["auprc"], float(read[1]["auprc"])) == ("", 40.0)
    assert slm["labels_stand_for"] == "negative for no, positive for yes"


def test_labels_that_are_the_same_are_not_told() -> None:
    same = replace(evaluation("aa-ig", 0, "reviews"), labels=SAME_LABELS)
    assert not any("Labels on" in remark for remark in transfer_table(evaluation_rows([same])).remarks)
