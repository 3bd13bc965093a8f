"""An exported folder is put in place as a whole, or not at all."""

import json
from pathlib import Path

import pytest
from helpers.exports import change
from helpers.marks import slow
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import export_trial, trained_sweep

from unirex_ray.errors import UserError
from unirex_ray.files import new_folder
from unirex_ray.inference import export as module
from unirex_ray.inference.find import find_models
from unirex_ray.inference.model import load_model
from unirex_ray.models import store
from unirex_ray.models.card import MODEL

METHODS = ("unirex-slm-fp", "fresh-p")


@pytest.fixture(scope="module")
def swept(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    config = tiny_config(encoders["bert"], train__epochs=1)
    trained_sweep(folder, config, tiny_corpus((20, 8, 12)), METHODS, (0,))
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_stands_alone(swept: Path, method: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert export_trial(swept, tmp_path / "model", method).method == method
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        *("README.md", "best_config.yaml", "metrics.json", "provenance.json"),
        *(MODEL, "rationale_model.safetensors", "task_model"),
    }
    readme = (tmp_path / "model" / "README.md").read_text()
    assert "`task_model/` is the task model alone, for `AutoModelForSequenceClassification`" in readme
    assert ("It reads rationales, not whole texts." in readme) == (method == "fresh-p")
    assert load_model(tmp_path / "model").explain("good1 w1 w2")[0].predicted in ("negative", "positive")


def test_a_model_of_single_texts_takes_no_second_one(swept: Path, tmp_path: Path) -> None:
    export_trial(swept, tmp_path / "model")
    assert json.loads((tmp_path / "model" / MODEL).read_text())["segments"] == 1
    with pytest.raises(UserError, match="was trained on single texts; leave the second one out"):
        load_model(tmp_path / "model").explain([("good1", "w1")])


@pytest.mark.slow
def test_a_model_of_pairs_takes_two_texts(swept: Path, tmp_path: Path) -> None:
    export_trial(swept, tmp_path / "model")
    change(tmp_path / "model" / MODEL, segments=2)
    model = load_model(tmp_path / "model")
    with pytest.raises(UserError, match="was trained on pairs of texts; give the second one as well"):
        model.explain("good1")
    with pytest.raises(UserError, match="the second text of the text is empty"):
        model.explain([("good1", " ")])
    (explained,) = model.explain([("good1 w1", "bad1 w2")])
    assert explained.inputs[0].segments == ("good1 w1", "bad1 w2")
    assert explained.tokens == ("[CLS]", "good1", "w1", "[SEP]", "bad1", "w2", "[SEP]")
    change(tmp_path / "model" / MODEL, segments=None)  # an export that did not record it
    assert load_model(tmp_path / "model").explain("good1")[0].predicted


def test_a_task_model_that_nobody_else_computes_is_named(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "write_classifier", lambda *given: None)
    export_trial(swept, tmp_path / "new" / "model")
    readme = (tmp_path / "new" / "model" / "README.md").read_text()
    assert "No `AutoModelForSequenceClassification` computes this task model's head" in readme
    assert load_model(tmp_path / "new" / "model").explain("good1 w1 w2")[0].predicted


@pytest.mark.parametrize("there", [False, *slow(True)])
@pytest.mark.parametrize("failing", ["load_tokenizer", "save_model", "model_card", "provenance_of"])
def test_a_failed_export_leaves_nothing(
    swept: Path, there: bool, failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(module, failing)

    def fail(*given: object, **options: object) -> None:
        real(*given, **options)
        raise OSError(28, "No space left on device")

    if there:
        (tmp_path / "model").mkdir()
    monkeypatch.setattr(module, failing, fail)
    with pytest.raises(UserError, match=r"cannot write .* No space left on device; choose another --folder"):
        export_trial(swept, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"] * there
    assert not there or not any((tmp_path / "model").iterdir())


def test_weights_that_are_gone_leave_nothing(swept: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the weights of trial s1-aa-ig-0003-s0 are not in .* MLflow run run"):
        export_trial(swept, tmp_path / "model", "aa-ig")
    assert not any(tmp_path.iterdir())


def test_what_a_folder_or_file_holds_is_left_alone(swept: Path, tmp_path: Path) -> None:
    for taken in (tmp_path / "folder" / "kept", tmp_path / "file"):
        taken.parent.mkdir(exist_ok=True)
        taken.write_text("mine")
        target = taken if taken.name == "file" else taken.parent
        with pytest.raises(UserError, match=r"is not empty; choose another --folder"):
            export_trial(swept, target)
        assert taken.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_what_somebody_puts_there_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .* not empty.*; choose another --folder"):
        fill(tmp_path / "model", meanwhile=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "theirs"]


def test_a_new_folder_appears_as_a_whole(tmp_path: Path) -> None:
    fill(tmp_path / "model", meanwhile=False)
    assert (tmp_path / "model" / "ours").read_text() == "whole"
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "usual").stat().st_mode


def fill(folder: Path, *, meanwhile: bool) -> None:
    with new_folder(folder, "folder") as new:
        (new / "ours").write_text("whole")
        assert not folder.exists()
        if meanwhile:
            folder.mkdir()
            (folder / "theirs").write_text("theirs")


@pytest.mark.slow
def test_an_unknown_method_is_refused(swept: Path, tmp_path: Path) -> None:
    export_trial(swept, tmp_path / "model")
    change(tmp_path / "model" / MODEL, method="aa-gi")
    for read in (find_models, load_model):
        with pytest.raises(UserError, match=r"is damaged: .* unknown method 'aa-gi'.*; export the model again"):
            read(tmp_path / "model")
