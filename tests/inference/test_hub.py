"""An exported folder is one that a hub takes and gives back as it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import export_trial, trained_sweep
from huggingface_hub import ModelCard as HubCard
from huggingface_hub.repocard_data import EvalResult

from unirex_ray.config import Config
from unirex_ray.inference.hub import base_model, front_matter
from unirex_ray.inference.model import load_model
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.models.card import ModelCard
from unirex_ray.tracking.records import TrialRecord, TrialSpec

SPEC = TrialSpec(trial_id="t", method="aa-ig", configuration=0, seed=0, parameters={})
CARD = ModelCard(
    method="aa-ig",
    designs=(),
    labels=("a: b", "c"),
    task_metric="accuracy",
    multi_choice=False,
    max_length=8,
    truncation="head",
)


def read(test: dict[str, float], encoder: str = "embedded", corpus: str = "reviews", **card: object) -> HubCard:
    record = TrialRecord(spec=SPEC, status="completed", metrics=TrialMetrics(test=test))
    config = Config().changed({"method": "aa-ig", "model.encoder": encoder, "data.name": corpus})
    return HubCard(f"{front_matter(record, config, replace(CARD, **card))}# Title\n\n---\n\ntext\n")


def test_a_hub_reads_what_the_model_is_and_how_good() -> None:
    card = read({"task_score": 70.0, "accuracy": 70.0, "comprehensiveness": 0.25, "majority_p": 0.5}, corpus="sst")
    assert card.text == "\n# Title\n\n---\n\ntext\n"
    values = card.data.to_dict()
    results = values.pop("model-index")
    assert values == {
        "library_name": "unirex_ray",
        "pipeline_tag": "text-classification",
        "tags": ["rationale-extraction", "explainability", "unirex", "aa-ig"],
        "metrics": ["accuracy"],
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
    }
    assert results[0]["name"] == "aa-ig on sst"
    about = {"task_type": "text-classification", "dataset_type": "sst", "dataset_name": "sst", "dataset_split": "test"}
    assert card.data.eval_results == [
        EvalResult(**about, metric_type="comprehensiveness", metric_name="Comp", metric_value=0.25),
        EvalResult(**about, metric_type="task_score", metric_name="Task", metric_value=70.0),
        EvalResult(**about, metric_type="accuracy", metric_name="Accuracy", metric_value=70.0),
    ]


def test_what_was_not_measured_or_is_of_another_task_is_told_so() -> None:
    card = read({}, task_metric="binary_f1", multi_choice=True)
    assert card.data.eval_results is None
    assert (card.data.pipeline_tag, card.data.metrics) == ("multiple-choice", ["f1"])


def test_an_encoder_in_a_folder_is_no_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def base(encoder: str) -> str | None:
        return base_model(Config().changed({"model.encoder": encoder}).model)

    monkeypatch.chdir(tmp_path)
    assert base("distilbert/distilroberta-base") == "distilbert/distilroberta-base"
    assert base("roberta-base") == "roberta-base"
    (tmp_path / "roberta-base").mkdir()
    assert base("roberta-base") is None
    for folder in (str(tmp_path), "./encoder", "a/b/c", "../e"):
        assert base(folder) is None
    assert "base_model" not in read({}, encoder=str(tmp_path)).data.to_dict()


@pytest.mark.slow
def test_a_folder_comes_back_from_a_hubs_cache(encoders: dict[str, str], tmp_path: Path) -> None:
    trained_sweep(
        tmp_path / "swept",
        tiny_config(encoders["bert"], train__epochs=1),
        tiny_corpus((20, 8, 12)),
        ("unirex-slm-fp",),
        (0,),
    )
    folder = tmp_path / "model"
    export_trial(tmp_path / "swept", folder)
    card = HubCard.load(folder / "README.md")
    assert card.data.library_name == "unirex_ray"
    assert "# UNIREX (SLM-FP) on " in card.text
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {
        "task_score": metrics["test/task_score"]
    }
    before = load_model(folder).explain("good1 w1 bad2")[0].to_dict()

    # The hub adds a file, and its cache has links to files that are named after their content.
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1a2b"
    for number, file in enumerate(file for file in sorted(folder.rglob("*")) if file.is_file()):
        blobs.mkdir(exist_ok=True)
        shutil.copy(file, blobs / str(number))
        place = snapshot / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(blobs / str(number))
    (snapshot / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    shutil.rmtree(folder)
    assert load_model(snapshot).explain("good1 w1 bad2")[0].to_dict() == before
