import csv
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
from helpers.gold_curves import efficiency
from helpers.memory_store import MemoryStore
from helpers.recorded_evaluations import OURS, compared, store_of
from helpers.recorded_trials import TRIALS, Trials, raw, record

from unirex_ray.analysis.compare import Comparison, compare
from unirex_ray.analysis.transfer import transfer_rows
from unirex_ray.errors import UserError
from unirex_ray.report.files import comparison_figures, comparison_tables, write_results
from unirex_ray.report.plots import cnrg_figure, desiderata_figure, gold_efficiency_figure, png


def comparison(trials: Trials = TRIALS) -> Comparison:
    store = MemoryStore()
    record(store, trials)
    return compare("$reviews$", store.sweeps("reviews"))


@pytest.mark.parametrize("draw", [cnrg_figure, desiderata_figure])
@pytest.mark.parametrize("trials", [TRIALS, TRIALS[:2]], ids=["three methods", "one method"])
def test_charts_are_pictures_with_bars(draw: object, trials: Trials, tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    path.write_bytes(png(draw(comparison(trials))))  # type: ignore[operator]
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] > pixels.shape[0] / 2
    assert pixels.shape[1] > 600


@pytest.mark.slow
def test_without_gold_there_is_no_pnrg_bar(tmp_path: Path) -> None:
    no_gold = [
        (m, 0, seed, {k: v for k, v in raw(0.5, v).items() if "auprc" not in k and "f1" not in k})
        for m, v in (("aa-ig", 0.1), ("unirex-aa-f", 0.9))
        for seed in (0, 1)
    ]
    (tmp_path / "chart.png").write_bytes(png(desiderata_figure(comparison(no_gold))))
    pixels = (matplotlib.image.imread(tmp_path / "chart.png")[..., :3] * 255).round().astype(int)
    colours = {tuple(int(c) for c in pixel) for row in pixels for pixel in row}
    assert (0xE6, 0x9F, 0x00) in colours
    assert (0x00, 0x9E, 0x73) not in colours


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to output"):
        write_results(tmp_path / "file" / "sub", "comparison", comparison_tables(comparison()), {}, {})


def test_gold_efficiency_draws_means_and_bands() -> None:
    (axes,) = gold_efficiency_figure("$sst$", efficiency()).axes
    aa, dlm, slm = axes.get_lines()
    assert aa.get_xydata().tolist() == [[0.5, 44.0], [100.0, 44.0]]
    assert dlm.get_xydata().tolist() == [[20.0, 75.0]]
    assert slm.get_xydata().tolist() == [[0.5, 74.0], [20.0, 78.0], [100.0, 82.0]]
    assert [line.get_marker() == "None" for line in (aa, dlm, slm)] == [True, False, False]
    assert [line.is_dashed() for line in (aa, dlm, slm)] == [True, False, False]
    assert len({line.get_color() for line in (aa, dlm, slm)}) == 3
    corners = [band.get_paths()[0].vertices.tolist() if band.get_paths() else [] for band in axes.collections]
    assert {(0.5, 40.0), (100.0, 48.0)} <= {tuple(corner) for corner in corners[0]}
    assert corners[1] == []
    edges = {(x, round(y, 6)) for x, y in corners[2]}
    assert {(0.5, round(74 - math.sqrt(12), 6)), (20.0, 78.0), (100.0, 84.0), (100.0, 80.0)} <= edges
    assert axes.get_xscale() == "log"
    assert axes.get_xticks().tolist() == [0.5, 20.0, 100.0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.5%", "20%", "100%"]
    # As the lines lie at the right end.
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["UNIREX (SLM-FP)", "UNIREX (DLM-FP)", "AA (IG)"]


def test_gold_efficiency_is_a_picture(tmp_path: Path) -> None:
    figure = gold_efficiency_figure("$sst$", replace(efficiency(), curves=efficiency().curves * 4))
    (tmp_path / "chart.png").write_bytes(png(figure))
    pixels = matplotlib.image.imread(tmp_path / "chart.png")
    assert pixels.shape[1] > pixels.shape[0]
    assert pixels.shape[1] > 800


@pytest.mark.slow
def test_further_reports_are_written_only_where_there_are_any(tmp_path: Path) -> None:
    store = store_of(OURS)
    sst = compared(store)
    transfer = transfer_rows(sst, store.evaluations("sst"))
    plain = write_results(
        tmp_path / "plain", "comparison", comparison_tables(sst), comparison_figures(sst), {"report.html": "<p>"}
    )
    assert all(name.startswith(("comparison", "configurations", "report", "table_")) for name in plain)
    assert (tmp_path / "plain" / "report.html").read_text() == "<p>"
    assert {path.name for path in (tmp_path / "plain").iterdir()} == set(plain)
    assert (tmp_path / "plain" / "comparison.md").read_text().startswith("sst: test, ")

    tables = comparison_tables(sst, None, efficiency(), transfer)
    figures = comparison_figures(sst, efficiency())
    written = write_results(tmp_path / "all", "comparison", tables, figures, {"report.html": "<p>"})
    assert set(written) - set(plain) == {"gold_efficiency.csv", "gold_efficiency.png", "transfer.csv"}
    assert {path.name for path in (tmp_path / "all").iterdir()} == set(written)
    text = (tmp_path / "all" / "comparison.md").read_text()
    assert text.startswith("sst: test, ")
    assert text.index("\n\nTest AUPRC ↑ by the share") < text.index("\n\nTrained on sst: ")
    (tmp_path / "all" / "notes.csv").touch()
    again = write_results(tmp_path / "all", "comparison", comparison_tables(sst), {}, {})
    assert {path.name for path in (tmp_path / "all").iterdir()} - {*again} == {"notes.csv", "report.html"}
    write_results(tmp_path / "all", "comparison", tables, figures, {})
    with (tmp_path / "all" / "transfer.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(transfer)
