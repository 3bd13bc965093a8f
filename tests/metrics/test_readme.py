"""The example of metrics/README.md, as it stands, on what a trial leaves."""

from pathlib import Path

import pytest
from helpers.documented import blocks, section
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.trial import train_trial


@pytest.mark.slow
def test_a_metric_of_ones_own_is_computed_from_results_by_instance(
    encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(encoders["bert"], method="aa-ig", train__epochs=1)
    train_trial(config, tiny_corpus((8, 4, 4)), LocalRuntime(tmp_path / "output" / "trials" / "s1-aa-ig-0000-s0"))
    assert list(tmp_path.rglob(INSTANCES))
    capsys.readouterr()
    (example,) = blocks(section("unirex_ray/metrics/README.md", "Results by instance"), "python")
    exec(compile(example, "README.md", "exec"), {})
    name, value = capsys.readouterr().out.split()
    assert name == "s1-aa-ig-0000-s0"
    assert float(value) in (0, 0.25, 0.5, 0.75, 1)
