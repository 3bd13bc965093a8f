"""`prepare_data` and `evaluate`, as a user runs them."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.job_module import job_module
from helpers.rationale_pages import marks, parse
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import trained_sweep

from unirex_ray.errors import exit_on_user_error
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST

Job = Callable[..., str]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Job:
    """Runs a job; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(name: str, *arguments: str) -> str:
        module = job_module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        exit_on_user_error(module.main)
        return capsys.readouterr().out

    return run


def table(folder: Path, *, text: str = "a good film") -> list[str]:
    folder.mkdir(exist_ok=True)
    for split, rows in (("train", 6), ("dev", 2), ("test", 4)):
        lines = [f"{text} {split} {number},{'yn'[number % 2]}" for number in range(rows)]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]))
    return ["--data.name=table", f"--data.source={folder}", "--data.labels=n,y"]


def eraser(folder: Path) -> list[str]:
    folder.mkdir()
    docs = [{"docid": str(number), "document": f"w1 good{number} <b> w2"} for number in range(4)]
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, docs)))
    for split in ("train", "val", "test"):
        rows = [
            {
                "annotation_id": f"{split}{number}",
                "classification": "AB"[number % 2],
                "evidences": [[{"docid": str(number), "start_token": 1, "end_token": 3}]],
            }
            for number in range(4)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return ["--data.name=eraser", f"--data.source={folder}", "--data.labels=A,B"]


@pytest.mark.slow
def test_prepare_data_counts_a_corpus_and_shows_its_rationales(job: Job, tmp_path: Path) -> None:
    corpus = eraser(tmp_path / "corpus")
    told = job("prepare_data", *corpus, "--show=2", "--output=out")
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "instances 4 4 4" in lines
    assert "A 2 (50%) 2 (50%) 2 (50%)" in lines
    assert "with a gold rationale 4 (100%) 4 (100%) 4 (100%)" in lines
    assert "texts that are in train as well 4 4" in lines
    assert told.count("w1 [good") == 2
    given = f"--data.name=eraser --data.source={tmp_path}/corpus --data.labels=A,B"
    assert lines[-1] == f"python jobs/sweep.py --space=all-methods {given}"
    page = parse((tmp_path / "out" / "data-eraser.html").read_text())
    assert len(page.all("article")) == 4
    texts = page.all("p", class_="text")
    assert any("<" in text.text for text in texts)
    assert not any(text.all("b") for text in texts)
    assert {kind for kind, _ in marks(page)} == {"gold"}
    assert "prediction" not in page.text

    found = json.loads(job("prepare_data", *corpus, "--json", "--output=out"))
    assert (found["name"], found["labels"], found["task_metric"]) == ("eraser", ["A", "B"], "macro_f1")
    assert found["splits"]["test"]["seen_in"] == {"train": 4, "dev": 4}
    assert 0.2 < found["splits"]["train"]["rationale_share"] < 0.9
    assert len(found["digest"]) == 16


@pytest.mark.slow
def test_prepare_data_tells_what_was_cut_from_whom(job: Job, tmp_path: Path) -> None:
    corpus = table(tmp_path / "corpus", text="a very " + "long " * 20 + "film")
    told = job("prepare_data", *corpus, "--data.max_length=12", "--show=1", "--output=out")
    assert "train: 6 of 6 inputs are cut to 12 tokens" in told
    assert "tokens are cut; the first ones are kept" in told
    assert "gold rationale: none" in told
    assert "python jobs/train.py --method=unirex-aa-f --data.name=table" in told
    assert "tokens are cut; the first" in (tmp_path / "out" / "data-table.html").read_text()


@pytest.fixture(scope="module")
def sweep(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a sweep of two methods leaves behind, recorded."""
    folder = tmp_path_factory.mktemp("sweep")
    corpus = replace(tiny_corpus((12, 4, 4)), name="reviews")
    recorded = trained_sweep(folder, tiny_config(encoders["bert"], train__epochs=1), corpus, ("aa-ig", "fresh"))
    store = MlflowStore(f"sqlite:///{folder}/mlflow.db")
    tags = {DATA_DIGEST: corpus.digest()}
    opened = store.open_sweep(experiment="reviews", sweep_id="s1", seeds=(0, 1), params={}, tags=tags)
    for trial_id, metrics in recorded.items():
        method, seed = trial_id[3:].rsplit("-", 2)[0], int(trial_id[-1])
        spec = TrialSpec(trial_id=trial_id, method=method, configuration=3, seed=seed, parameters={})
        opened.open_trial(spec, params={}, tags=tags)
        opened.finish_trial(trial_id, "completed", metrics=TrialMetrics.from_flat(metrics))
    opened.finish()
    return folder


@pytest.mark.slow
def test_evaluate_scores_every_selected_model_and_records_it(job: Job, tmp_path: Path, sweep: Path) -> None:
    told = job("evaluate", f"--model={sweep}", *table(tmp_path / "corpus"), "--map", "negative=y,positive=n")
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "4 of 4: fresh, seed 1" in lines
    assert any("AA (IG)" in line and "±" in line for line in lines)
    assert lines[-1] == f"python jobs/compare.py --data.name=reviews --output={sweep}"
    (file,) = sweep.glob(f"evaluation-{sweep.name}-table-*-test.json")
    written = json.loads(file.read_text())
    assert written["config"]["data"]["labels"] == ["n", "y"]
    found = written["evaluations"]
    assert [each["trial_id"][3:] for each in found] == [f"{m}-0003-s{s}" for m in ("aa-ig", "fresh") for s in (0, 1)]
    assert {each["labels"] for each in found} == {"negative for y, positive for n"}
    recorded = MlflowStore(f"sqlite:///{sweep}/mlflow.db").evaluations("reviews")
    assert {e.trial_id: e.metrics.flat() for e in recorded} == {e["trial_id"]: e["metrics"] for e in found}
    assert {each.corpus for each in recorded} == {"table"}
    kept = {file.name for file in (sweep / "mlartifacts" / "table").rglob("*.*")}
    assert kept == {"rationales.html", "config.yaml", "instances.parquet"}

    compared = job("compare", "--data.name=reviews", f"--output={sweep}")
    rows = [line.split() for line in compared.splitlines() if "±" in line]
    at_home, elsewhere = ([row for row in rows if dataset in row] for dataset in ("reviews", "table"))
    assert len(at_home) == len(elsewhere) == 1  # a corpus is named in the first of its rows
    assert "negative for y, positive for n" in compared
    assert "table" in (sweep / "transfer.csv").read_text()


@pytest.mark.slow
def test_evaluate_takes_one_method_and_a_store_of_the_users(job: Job, tmp_path: Path, sweep: Path) -> None:
    own = f"--tracking.uri=sqlite:///{tmp_path}/own.db"
    told = job("evaluate", f"--model={sweep}", *table(tmp_path / "corpus"), "--method=fresh", "--split=dev", own)
    assert "2 of 2: fresh, seed 1" in told
    assert "next:" not in told  # that store does not know the sweep
    (one, two) = MlflowStore(f"sqlite:///{tmp_path}/own.db").evaluations("reviews")
    assert (one.split, {one.method, two.method}) == ("dev", {"fresh"})
    assert "comprehensiveness" in one.metrics.dev


@pytest.mark.slow
def test_an_evaluation_goes_to_the_output_that_is_named(job: Job, tmp_path: Path, sweep: Path) -> None:
    before = (sweep / "mlflow.db").read_bytes()
    told = job("evaluate", f"--model={sweep}", *table(tmp_path / "corpus"), "--output=elsewhere", "--method=fresh")
    assert told.splitlines()[-1] == "  python jobs/compare.py --data.name=reviews --output=... --also=elsewhere"
    assert (sweep / "mlflow.db").read_bytes() == before
    assert len(MlflowStore(f"sqlite:///{tmp_path}/elsewhere/mlflow.db").evaluations("reviews")) == 2
    both = ("--data.name=reviews", f"--output={sweep}", "--also=elsewhere")
    assert any("table" in line and "FRESH" in line for line in job("compare", *both).splitlines())
