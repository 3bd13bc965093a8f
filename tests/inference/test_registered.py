"""A registered model gives what the exported folder gives, wherever MLflow loads it."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pytest
from helpers.exports import LABELS, make
from helpers.marks import slow
from helpers.mlflow_server import Server
from helpers.registered_model import NAME, SPEC, Registered, export_best, registered, store_of
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import _parse_model_uri
from mlflow.utils.validation import _validate_model_name

import unirex_ray
from unirex_ray.analysis.selection import Configuration
from unirex_ray.config import Config
from unirex_ray.errors import UserError
from unirex_ray.inference import served
from unirex_ray.inference.export import Selected
from unirex_ray.inference.model import load_model
from unirex_ray.inference.registered import check_registered, register, save_served
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.models.store import save_model
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.protocol import protocol_hash, protocol_of
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import SweepRecord

TEXTS = ["good1 w1 w2 bad3 w4", "w7", "bad1 w3 good2 w9 w11 w12"]


@pytest.fixture(scope="module")
def made(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Registered:
    folder = tmp_path_factory.mktemp("working")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = registered(tmp_path_factory.mktemp("swept") / "output", encoders["bert"])
    assert not any(folder.iterdir())  # as MLflow's own default store would be
    return made


@pytest.fixture
def output(made: Registered, tmp_path: Path) -> Path:
    """The sweep's output, moved to a place of its own, with the model in it."""
    shutil.copytree(made.folder.parent, tmp_path / "output")
    return tmp_path / "output"


def loaded(uri: str, version: int, patch: pytest.MonkeyPatch) -> mlflow.pyfunc.PyFuncModel:
    patch.setenv("MLFLOW_TRACKING_URI", uri)
    return mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")


def expected(folder: Path, texts: list, k: int = 20) -> list[dict]:
    return [
        {
            "label": explanation.predicted,
            "probability": explanation.probability,
            "probabilities": explanation.probabilities,
            "rationale": explanation.rationale(),
            "complement_probability": explanation.complement_probability,
            "rationale_probability": explanation.rationale_probability,
        }
        for explanation in load_model(folder).explain(texts, top_k_percent=k)
    ]


@pytest.mark.slow
def test_it_predicts_what_the_exported_folder_does(made: Registered, monkeypatch: pytest.MonkeyPatch) -> None:
    model, frame = loaded(made.uri, 1, monkeypatch), pd.DataFrame({"text": TEXTS})
    assert model.predict(frame).to_dict("records") == expected(made.folder, TEXTS)
    halves = model.predict(frame, params={"top_k_percent": 50}).to_dict("records")
    assert halves == expected(made.folder, TEXTS, 50)
    assert halves != expected(made.folder, TEXTS)
    with pytest.raises(MlflowException, match=r"^texts\[1\] is empty; give a text to explain"):
        model.predict(pd.DataFrame({"text": ["good1", " "]}))
    with pytest.raises(MlflowException, match="top_k_percent must be a whole number from 1 to 100, but got 0"):
        model.predict(frame, params={"top_k_percent": 0})
    with pytest.raises(MlflowException, match="text"):
        model.predict(pd.DataFrame({"txt": TEXTS}))


@pytest.mark.slow
def test_a_version_tells_what_it_is_and_belongs_to_the_trials_run(made: Registered) -> None:
    client = MlflowClient(made.uri)
    version, metrics = client.get_model_version(NAME, "1"), client.get_run(made.run_id).data.metrics
    assert version.run_id == made.run_id
    assert {key: version.tags[key] for key in ("method", "corpus", "seed", "trial_id", "data.digest")} == {
        "method": SPEC.method,
        "corpus": "reviews",
        "seed": "0",
        "trial_id": SPEC.trial_id,
        "data.digest": "abc1",
    }
    assert version.tags["verdict.test"].startswith("not better than the majority class (p = ")
    (sweep,) = MlflowStore(made.uri).sweeps("reviews")
    assert version.tags["protocol"] == protocol_hash(protocol_of(sweep.settings))
    test = {key: value for key, value in metrics.items() if key.startswith("test/")}
    assert {"test/auprc", "test/task_score"} < test.keys()
    assert {key: float(version.tags[key]) for key in test} == pytest.approx(test, rel=1e-5)
    assert "UNIREX (SLM-FP) on reviews, seed 0: predicts one of negative, positive" in version.description
    assert "test: **no**" in version.description
    assert f"| Task (higher is better) | {metrics['dev/task_score']:.2f} | {metrics['test/task_score']:.2f} |" in (
        version.description
    )
    assert f"`unirex_ray=={unirex_ray.__version__}` is installed" in version.description
    (output,) = client.get_run(made.run_id).outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert logged.status == LoggedModelStatus.READY
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": 1}]


@pytest.mark.slow
def test_nothing_that_is_stored_is_a_pickle_and_the_requirements_name_this_version(made: Registered) -> None:
    (stored,) = (made.folder.parent / "mlartifacts").rglob("MLmodel")
    assert {file.suffix for file in stored.parent.rglob("*") if file.is_file()} == {
        *("", ".txt", ".yaml", ".py", ".json", ".md", ".safetensors")
    }
    assert (stored.parent / "served.py").read_text() == Path(served.__file__).read_text()
    assert sorted((stored.parent / "requirements.txt").read_text().splitlines()) == [
        f"mlflow=={version('mlflow')}",
        f"unirex_ray=={unirex_ray.__version__}",
    ]


@pytest.mark.slow
def test_without_the_option_nothing_is_logged(output: Path) -> None:
    def stored() -> set[Path]:
        return set((output / "mlartifacts").rglob("*"))

    before = stored()
    export_best(output, output / "again", name=None)
    assert load_model(output / "again").labels == ("negative", "positive")
    assert stored() == before
    assert len(MlflowClient(store_of(output)).search_model_versions(f"name = '{NAME}'")) == 1


@pytest.mark.slow
def test_registering_again_makes_version_2_and_both_move_with_the_output(
    made: Registered, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = export_best(output, output / "again")
    assert f"registered as version 2 of {NAME} at {store_of(output)}\n" in printed
    first, second = (MlflowClient(store_of(output)).get_model_version(NAME, number) for number in "12")
    assert first.source != second.source
    moved = output.rename(output.parent / "moved output")
    MlflowStore(store_of(moved))  # as any job opens it
    monkeypatch.setattr(served, "__file__", "gone")
    for number in (1, 2):
        predicted = loaded(store_of(moved), number, monkeypatch).predict(pd.DataFrame({"text": TEXTS}))
        assert predicted.to_dict("records") == expected(made.folder, TEXTS)


def fails(output: Path, capsys: pytest.CaptureFixture[str], name: str = NAME) -> str:
    """Export to `again` without registering; returns the line that it ends in, where the folder stays."""
    with pytest.raises(SystemExit) as ended:
        export_best(output, output / "again", name=name)
    line = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2
    assert line.startswith(f"error: '{output}/again' is written, but not registered as '{name}': ")
    assert line.endswith("; put that right, and repeat the command with another --folder")
    assert load_model(output / "again").labels == ("negative", "positive")
    return line


@pytest.mark.slow
def test_a_store_that_takes_no_files_leaves_the_folder_and_no_version(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MlflowStore(store_of(output))  # whose artifacts are beside it from now on
    shutil.rmtree(output / "mlartifacts" / "reviews" / "models")
    (output / "mlartifacts" / "reviews" / "models").write_text("a file")
    assert "takes no model (" in fails(output, capsys)
    client = MlflowClient(store_of(output))
    assert [version.version for version in client.search_model_versions(f"name = '{NAME}'")] == [1]
    failed, first = client.search_logged_models(["1"])
    assert (failed.status, first.status) == (LoggedModelStatus.FAILED, LoggedModelStatus.READY)


@pytest.mark.slow
def test_a_store_that_cannot_be_written_leaves_the_folder(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MlflowStore(store_of(output))  # whose artifacts are beside it from now on
    with (output / "mlflow.db").open("r+b") as database:
        database.seek(18)  # SQLite writes to no file whose format for writing is a later one than it knows
        database.write(b"\x03")
    assert "readonly database" in fails(output, capsys)


@pytest.mark.slow
def test_a_name_that_a_prompt_has_is_refused(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MlflowClient(store_of(output)).register_prompt("taken", "a prompt")
    assert "taken by a prompt" in fails(output, capsys, name="taken")


@pytest.mark.slow
def test_a_server_keeps_it_as_well(encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path / "server", os.environ)
    try:
        server.start()
        made = registered(tmp_path / "output", encoders["bert"], server.uri)
        assert f"registered as version 1 of {NAME} at {server.uri}\n" in made.printed
        predicted = loaded(server.uri, 1, monkeypatch).predict(pd.DataFrame({"text": TEXTS}))
        assert predicted.to_dict("records") == expected(made.folder, TEXTS)
        assert MlflowClient(server.uri).get_model_version(NAME, "1").run_id == made.run_id
    finally:
        server.stop()


@pytest.mark.slow
def test_a_store_that_is_away_leaves_the_folder(made: Registered) -> None:
    record = TrialRecord(spec=SPEC, status="completed", metrics=TrialMetrics(), run_id=made.run_id)
    sweep = SweepRecord(sweep_id="s1", status="completed", seeds=(0,), trials=(record,), run_id="run")
    configuration = Configuration(method=SPEC.method, index=3, parameters={}, records=(record,), complete=True)
    selected = Selected(record=record, configuration=configuration, sweep=sweep)
    with pytest.raises(
        UserError, match=r"is written, but .*: cannot use tracking.uri = 'http://127.0.0.1:1'"
    ) as caught:
        register(selected, made.folder, name=NAME, corpus="reviews", uri="http://127.0.0.1:1")
    assert "\n" not in str(caught.value)


@given(st.text(st.sampled_from("aZ9_-.@:/ %é\n"), max_size=6))
def test_a_name_that_is_accepted_is_one_that_an_address_holds(name: str) -> None:
    accepted = False
    with suppress(UserError):
        check_registered(name, Config())
        accepted = True
    if accepted:
        _validate_model_name(name)
        assert _parse_model_uri(f"models:/{name}/1") == (None, name, "1", None, None)


def test_usual_names_are_accepted_and_others_refused() -> None:
    for name in ("reviews", "my-model_2.1", "Bewertungen", "x" * 256):
        check_registered(name, Config())
    for name in ("", "..", ".x", "-x", "a/b", "a:b", "a b", "a@b", "a\n", "x" * 257):
        with pytest.raises(UserError, match=r"a registered model's name must hold up to 256 letters"):
            check_registered(name, Config())


PAIRS = [("good1 w1", "bad1 w2"), ("w3", "good2")]
CHOICES = [["good1 w1", "w2", "bad3"], ["w3", "w4 bad1", "w5"]]


@pytest.mark.parametrize(
    ("segments", "multi_choice", "columns", "texts"),
    [
        (2, False, {"text": [pair[0] for pair in PAIRS], "second": [pair[1] for pair in PAIRS]}, PAIRS),
        *slow(
            (None, False, {"text": ["good1 w1", "w3"], "second": ["bad1 w2", None]}, [PAIRS[0], "w3"]),
            (None, False, {"text": ["good1 w1", "w3"]}, ["good1 w1", "w3"]),
            (1, True, {"choices": CHOICES}, CHOICES),
            (2, True, {"choices": [[["w1", text] for text in row] for row in CHOICES]}, None),
        ),
    ],
)
def test_pairs_and_choices_have_columns_of_their_own(
    encoders: dict[str, str],
    tmp_path: Path,
    segments: int | None,
    multi_choice: bool,
    columns: dict,
    texts: list | None,
) -> None:
    model = make(encoders["bert"], multi_choice=multi_choice)
    card = replace(model.card, segments=segments)
    folder = tmp_path / "50%20 #1?"  # which an address would change
    save_model(folder, model.model, model.tokenizer, model.config, card)
    save_served(folder, tmp_path / "served", card, run_id="run")
    found = mlflow.pyfunc.load_model(str(tmp_path / "served")).predict(pd.DataFrame(columns))
    assert found.to_dict("records") == expected(folder, texts or columns["choices"])
    assert set(found["probabilities"][0]) == set(LABELS)


@pytest.mark.slow
def test_a_lock_file_of_the_working_directory_is_not_stored(
    encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uv.lock", "pyproject.toml"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    model = make(encoders["bert"])
    save_model(tmp_path / "model", model.model, model.tokenizer, model.config, model.card)
    save_served(tmp_path / "model", tmp_path / "served", model.card, run_id="run")
    assert (tmp_path / "served" / "MLmodel").is_file()
    assert not (tmp_path / "served" / "uv.lock").exists()


def test_an_encoder_with_code_of_its_own_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"--register=x: a served model runs no code .* leave --model.trust_remote_code"
    ):
        check_registered("x", Config().changed({"model.trust_remote_code": True}))
