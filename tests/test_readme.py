"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

from unirex_ray.inference.explanation import Explanations
from unirex_ray.models.encoder import embedded_folder

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if embedded_folder() is None:
        pytest.skip("the embedded encoder's package is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # the README says "on one core"; threads that spin disturb others
    examples = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert examples
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(README), "exec"), names)
    assert isinstance(names["explanations"], Explanations)
    assert len(names["table"]) == len(names["explanations"]) == 2
    printed = capsys.readouterr().out
    assert printed.count("prediction: ") == 2
    numbers = printed.partition("prediction: ")[0]
    assert "test" in numbers
    assert "auprc" in numbers
    assert " ... " not in numbers  # what a reader wants to see is not what pandas leaves out
