"""From a finished sweep to a folder that stands alone: what it holds, predicts and explains is the trial's own."""

import contextlib
import io
import json
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from helpers import tiny
from helpers.job_module import job_module
from helpers.rationale_pages import marks, numbers, parse
from mlflow import MlflowClient
from torch import Tensor

from unirex_ray.analysis.compare import compare, write_back
from unirex_ray.analysis.selection import configurations, rank_on_dev, select_variants
from unirex_ray.config import build_config, config_hash
from unirex_ray.data.load import load_corpus
from unirex_ray.distributed.cluster import connect
from unirex_ray.errors import exit_on_user_error
from unirex_ray.files import load_yaml
from unirex_ray.methods import get_method
from unirex_ray.models.store import WEIGHTS, load_model
from unirex_ray.models.task_model import TaskModel
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.space import parse_space
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import CONFIG_HASH, DATA_DIGEST, GIT_VERSION, SweepRecord

pytestmark = pytest.mark.ray

METHODS = ("aa-ig", "fresh", "unirex-slm-fp")
LIMIT = "--data.limit=40"
SPACE = {
    "config": {
        "data": {"limit": 40},
        "train": {"epochs": 3, "batch_size": 8, "learning_rate": 5.0e-3, "precision": "fp32"},
        "sweep": {"methods": list(METHODS), "searcher": "grid", "seeds": [0, 1]},
    },
    "parameters": {"train.learning_rate": {"choice": [2.0e-3, 5.0e-3], "when": {"method": ["unirex-slm-fp"]}}},
}


def run(job: str, *arguments: str) -> str:
    """Run a job that comes through; returns what it prints."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", [f"{job}.py", *arguments])
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        exit_on_user_error(job_module(job).main)
    return out.getvalue()


def refused(job: str, *arguments: str) -> str:
    """Run a job that is refused; returns its one line."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        run(job, *arguments)
    assert ended.value.code == 2
    assert err.getvalue().startswith("error: ")
    assert err.getvalue().count("\n") == 1
    return err.getvalue()


def there(output: Path) -> tuple[str, str]:
    """So few instances teach nothing."""
    return f"--output={output}", "--even-if-not-better"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Swept:
    """A finished sweep, of which only the exported folders, the leaderboard and the runs are left."""

    output: Path
    encoder: str
    sweep: SweepRecord
    uri: str
    printed: dict[str | None, str]

    def folder(self, method: str | None) -> Path:
        return self.output / f"model of {method}" if method else self.output / "model"

    def trial(self, method: str | None) -> TrialRecord:
        """The one to be exported: of the best configuration, the seed with the best dev task score."""
        selected = select_variants(configurations(self.sweep.trials, seeds=(0, 1)))
        zero, one = (selected[method] if method else rank_on_dev(selected).order[0]).records
        return one if one.metrics.dev["task_score"] > zero.metrics.dev["task_score"] else zero


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("export")
    output, encoder, uri = folder / "out", str(folder / "encoder"), f"sqlite:///{folder}/out/mlflow.db"
    space = parse_space(SPACE, "space.yaml")
    own = {"output": str(output), "model": {"encoder": encoder}, "tracking": {"uri": uri}}
    config = build_config(space.presets, own)
    train = load_corpus(config.data).splits["train"]
    words = {word for instance in train for text in instance.inputs for word in text.segments[0].split()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "PLAIN", sorted(words))  # of dev and test, the tokenizer does not know every word
        tiny.save_encoder(Path(encoder), "bert")
    connect()
    try:
        run_sweep(config, space)
    finally:
        ray.shutdown()
    store = MlflowStore(uri)
    write_back(store.log_scores, compare("reviews", store.sweeps("reviews")))
    (sweep,) = store.sweeps("reviews")
    printed: dict[str | None, str] = {None: run("export_best", *there(output))}
    for method in METHODS:
        printed[method] = run(
            "export_best", *there(output), f"--method={method}", f"--folder={output / f'model of {method}'}"
        )
    shutil.rmtree(output / "trials")
    shutil.rmtree(encoder)
    return Swept(output, encoder, sweep, uri, printed)


@pytest.mark.parametrize("method", [None, *METHODS])
def test_the_sweeps_own_test_metrics_come_again(swept: Swept, method: str | None, tmp_path: Path) -> None:
    run("evaluate", f"--model={swept.folder(method)}", "--data.name=reviews", LIMIT, f"--output={tmp_path}")
    (file,) = tmp_path.glob("evaluation-*.json")
    (evaluation,) = json.loads(file.read_text())["evaluations"]
    trial = swept.trial(method)
    recorded, again = (
        {key: value for key, value in metrics.items() if key.startswith("test/")}
        for metrics in (trial.metrics.flat(), evaluation["metrics"])
    )
    assert {"test/task_score", "test/auprc", "test/sufficiency", "test/loss"} < set(recorded)
    assert again == pytest.approx(recorded, rel=0, abs=1e-6)
    assert evaluation["trial_id"] == trial.spec.trial_id
    assert (evaluation["method"], evaluation["seed"]) == (trial.spec.method, trial.spec.seed)
    assert evaluation["digest"] == evaluation["trained_digest"] == swept.sweep.tags[DATA_DIGEST]


@pytest.mark.parametrize("method", [None, *METHODS])
def test_the_folder_tells_what_it_is_and_where_it_comes_from(swept: Swept, method: str | None) -> None:
    folder, trial = swept.folder(method), swept.trial(method)
    assert swept.printed[method].startswith(f"exported trial {trial.spec.trial_id} to {folder}\n")

    data = MlflowClient(swept.uri).get_run(trial.run_id).data
    assert "nrg/cnrg" in data.metrics
    assert json.loads((folder / "metrics.json").read_text()) == {
        key: value for key, value in data.metrics.items() if not key.startswith(("nrg/", "select/", "epoch/", "stage/"))
    }

    provenance = json.loads((folder / "provenance.json").read_text())
    assert {key: provenance[key] for key in ("trial_id", "run_id", "sweep_id", "sweep_run_id", "tracking_uri")} == {
        "trial_id": trial.spec.trial_id,
        "run_id": trial.run_id,
        "sweep_id": swept.sweep.sweep_id,
        "sweep_run_id": swept.sweep.run_id,
        "tracking_uri": swept.uri,
    }
    assert (provenance["data_digest"], provenance["config_hash"], provenance["code"]) == (
        load_corpus(build_config(SPACE["config"]).data).digest(),
        data.tags[CONFIG_HASH],
        data.tags[GIT_VERSION],
    )
    assert {name: provenance["packages"][name] for name in ("torch", "ray")} == {
        "torch": version("torch"),
        "ray": version("ray"),
    }
    assert f"| seed | {trial.spec.seed}, of 0, 1 |" in (folder / "README.md").read_text()


@pytest.mark.parametrize("method", METHODS)
def test_the_configuration_reads_back_as_the_trials(swept: Swept, method: str) -> None:
    trial = swept.trial(method)
    config = build_config(load_yaml(swept.folder(method) / "best_config.yaml"))
    given = {"output": str(swept.output), "model.encoder": swept.encoder, "tracking.uri": swept.uri, "train.threads": 1}
    mine = {**given, **trial.spec.parameters, "method": method, "train.seed": trial.spec.seed}
    assert config == get_method(method).resolve(build_config(SPACE["config"]).changed(mine))
    assert config_hash(config, get_method(method).reads) == trial.tags[CONFIG_HASH]
    assert set(trial.spec.parameters) == ({"train.learning_rate"} if method == "unirex-slm-fp" else set())


def test_without_a_method_the_best_of_the_sweep_is_exported(swept: Swept) -> None:
    exported = load_yaml(swept.folder(None) / "best_config.yaml")
    assert exported["method"] == swept.trial(None).spec.method
    assert exported["train"]["seed"] == swept.trial(None).spec.seed


TEXT = "I thought the zorble plot was <i>bad</i> , but the acting & the music are good and I really liked the ending ."


def task_logits(model: TaskModel, ids: Tensor) -> Tensor:
    return model.head(model.encoder.backbone(input_ids=ids[None]).pooler_output)[0]


def integrated_gradients(model: TaskModel, ids: Tensor, pad: int) -> Tensor:
    """Of the predicted class' logit, from PAD between CLS and SEP, in three Gauss-Legendre steps."""
    table = model.encoder.backbone.embeddings.word_embeddings
    target = int(task_logits(model, ids).argmax())
    start = ids.clone()
    start[1:-1] = pad
    text, baseline = table(ids).detach(), table(start).detach()
    nodes, weights = np.polynomial.legendre.leggauss(3)
    total = torch.zeros_like(text)
    for node, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
        point = (baseline + node * (text - baseline)).float().requires_grad_()
        with torch.enable_grad():
            pooled = model.encoder.backbone(inputs_embeds=point[None]).pooler_output
            (gradient,) = torch.autograd.grad(model.head(pooled)[0, target], point)
        total += weight * gradient
    return (total * (text - baseline)).sum(-1)


def top(scores: Tensor, percent: int) -> list[int]:
    """Places of the top-k% tokens in reading order; CLS does not compete."""
    candidates = sorted(range(1, len(scores)), key=lambda place: -float(scores[place]))
    return sorted(candidates[: max(1, round(len(candidates) * percent / 100))])


@torch.no_grad()
def by_hand(folder: Path, method: str, percent: int) -> tuple[str, float, list[int]]:
    """Predicted label, its probability, and the numbers of TEXT's words that are the rationale."""
    model, tokenizer, card = load_model(folder)
    ids = torch.tensor(tokenizer(TEXT)["input_ids"])
    assert len(ids) == len(TEXT.split()) + 2
    read = ids
    if method == "unirex-slm-fp":
        scores = model.extractor.head(model.task_model.encoder.backbone(input_ids=ids[None]).last_hidden_state)[0]
        chosen = top(scores.flatten(), percent)
    elif method == "aa-ig":
        chosen = top(integrated_gradients(model.task_model, ids, tokenizer.pad_token_id), percent)
    else:
        scores = integrated_gradients(model.extractor.source.task_model, ids, tokenizer.pad_token_id)
        chosen = top(scores, 10)
        read = ids[[0, *chosen]]
    probabilities = task_logits(model.task_model, read).softmax(-1)
    label = int(probabilities.argmax())
    return card.labels[label], float(probabilities[label]), [place - 1 for place in chosen if place <= len(ids) - 2]


@pytest.mark.parametrize("percent", [20, 50])
@pytest.mark.parametrize("method", METHODS)
def test_a_text_is_predicted_and_explained_as_by_hand(swept: Swept, method: str, percent: int, tmp_path: Path) -> None:
    folder, page = swept.folder(method), tmp_path / "page.html"
    label, probability, rationale = by_hand(folder, method, percent)
    size = 10 if method == "fresh" else percent
    given = ("--model", str(folder), "--text", TEXT, f"--top-k-percent={percent}")

    first, second, shown, told = run("explain", *given).rstrip("\n").splitlines()
    assert first == f"prediction: {label} ({probability:.1%})"
    assert told.startswith(f"{label}: {probability:.1%}; without the rationale ")
    assert second == f"rationale (top {size}%): [in brackets]"
    assert shown.replace("[", "").replace("]", "") == TEXT
    inside, marked = False, []
    for number, word in enumerate(shown.split()):
        inside |= word.startswith("[")
        marked += [number] * inside
        inside &= not word.endswith("]")
    assert marked == rationale

    assert run("explain", *given, "--html", str(page)) == f"written to {page}\n"
    html = parse(page.read_text())
    assert f"prediction {label}" in html.text
    shown_numbers = numbers(html)
    assert shown_numbers["p(x)"] == [f"{probability:.3f}"]
    assert all(0 <= float(shown_numbers[name][0]) <= 1 for name in ("p(x \\ r)", "p(r)"))
    assert method != "fresh" or shown_numbers["p(r)"] == shown_numbers["p(x)"]
    assert [shown_numbers[name] for name in ("AUPRC", "Comp", "Suff")] == [
        ["n/a"]
    ] * 3  # of gold, and of five thresholds
    assert [(kind, word.strip()) for kind, word in marks(html)] == [
        ("chosen", TEXT.split()[number]) for number in rationale
    ]
    assert html.all("title")[0].text == f"Rationale by {folder}"
    assert not html.all("i")


def test_a_folder_that_holds_something_is_left_alone(swept: Swept) -> None:
    folder = swept.folder("fresh")
    before = contents(folder)
    line = refused("export_best", *there(swept.output), "--method=aa-ig", f"--folder={folder}")
    assert f"{str(folder)!r} is not empty; choose another --folder" in line
    assert contents(folder) == before


def test_weights_that_are_gone_are_named_and_nothing_is_written(swept: Swept, tmp_path: Path) -> None:
    folder, trial = tmp_path / "model", swept.trial("aa-ig")
    line = refused("export_best", *there(swept.output), "--method=aa-ig", f"--folder={folder}")
    assert f"the weights of trial {trial.spec.trial_id} are not in {swept.output}/trials/" in line
    assert trial.run_id in line
    assert not list(tmp_path.iterdir())


def test_texts_and_folders_that_cannot_be_read_are_refused(swept: Swept, tmp_path: Path) -> None:
    folder = swept.folder("aa-ig")
    assert "the text is empty; give a text to explain" in refused("explain", f"--model={folder}", "--text= \n")
    given = (f"--model={folder}", "--text=good", f"--html={tmp_path}/absent/page.html")
    assert f"cannot write --html '{tmp_path}/absent/page.html'" in refused("explain", *given)
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / WEIGHTS).unlink()
    assert f"{str(broken)!r} is damaged" in refused("explain", f"--model={broken}", "--text=good")
