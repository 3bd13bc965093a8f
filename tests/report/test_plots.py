from pathlib import Path

import matplotlib.image
import pytest
from memory_store import MemoryStore
from test_compare import TRIALS, Trials, raw, record

from unirex_ray.compare import Comparison, compare
from unirex_ray.errors import UserError
from unirex_ray.report.files import write_comparison
from unirex_ray.report.plots import plot_cnrg, plot_desiderata


def comparison(trials: Trials = TRIALS) -> Comparison:
    store = MemoryStore()
    record(store, trials)
    return compare("$reviews$", store.sweeps("reviews"))


@pytest.mark.parametrize("plot", [plot_cnrg, plot_desiderata])
@pytest.mark.parametrize("trials", [TRIALS, TRIALS[:2]], ids=["three methods", "one method"])
def test_charts_are_pictures_with_bars(plot: object, trials: Trials, tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    plot(comparison(trials), path)  # type: ignore[operator]
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] > pixels.shape[0] / 2
    assert pixels.shape[1] > 600


def test_without_gold_there_is_no_pnrg_bar(tmp_path: Path) -> None:
    no_gold = [
        (m, 0, seed, {k: v for k, v in raw(0.5, v).items() if "auprc" not in k and "f1" not in k})
        for m, v in (("aa-ig", 0.1), ("unirex-aa-f", 0.9))
        for seed in (0, 1)
    ]
    plot_desiderata(comparison(no_gold), tmp_path / "chart.png")
    pixels = (matplotlib.image.imread(tmp_path / "chart.png")[..., :3] * 255).round().astype(int)
    colours = {tuple(int(c) for c in pixel) for row in pixels for pixel in row}
    assert (0xE6, 0x9F, 0x00) in colours
    assert (0x00, 0x9E, 0x73) not in colours


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to output"):
        write_comparison(comparison(), tmp_path / "file" / "sub")
