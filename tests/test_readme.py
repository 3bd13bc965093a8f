"""The documentation's Python runs as it stands."""

import re
from pathlib import Path

import pytest

from unirex_ray.inference.explanation import Explanations
from unirex_ray.models.encoder import embedded_folder

ROOT = Path(__file__).parents[1]


def run_examples(page: Path) -> dict[str, object]:
    """Run the Python of a page, one block after the other; returns the names that it leaves."""
    examples = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert examples
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(page), "exec"), names)
    return names


@pytest.mark.slow
def test_the_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if embedded_folder() is None:
        pytest.skip("the embedded encoder's package is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # the README says "on one core"; threads that spin disturb others
    names = run_examples(ROOT / "README.md")
    assert isinstance(names["explanations"], Explanations)
    assert len(names["table"]) == len(names["explanations"]) == 2
    printed = capsys.readouterr().out
    assert printed.count("prediction: ") == 2
    numbers = printed.partition("prediction: ")[0]
    assert "test" in numbers
    assert "auprc" in numbers
    assert " ... " not in numbers  # what a reader wants to see is not what pandas leaves out


@pytest.mark.ray
def test_sweeps_comparisons_and_evaluations_are_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if embedded_folder() is None:
        pytest.skip("the embedded encoder's package is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    names = run_examples(ROOT / "jobs" / "README.md")
    leaderboard, methods, on_dev = names["leaderboard"], names["methods"], names["on_dev"]
    assert {*leaderboard["method"]} == {*methods["method"]} == {*on_dev["method"]} == {"aa-ig", "unirex-dlm-p"}
    assert len(methods) == 2
    selected = leaderboard.set_index("method")["dev/task_score"]
    assert on_dev.set_index("method")["task_score"].to_dict() == pytest.approx(selected.to_dict())
