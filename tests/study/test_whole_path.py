"""A study of four exported models on SST as a researcher runs it: made, filled in by five annotators, analysed."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import chromium
from helpers.forms import drawn_values, export, press_answers, task_values
from helpers.job_module import job_module
from helpers.trained_sweep import export_trial, trained_sweep
from mlflow import MlflowClient

from unirex_ray.config import build_config
from unirex_ray.data.load import load_corpus
from unirex_ray.study.manifest import Study, read_study

METHODS = ("sgt-p", "a2r-p", "unirex-aa-fp", "unirex-dlm-fp")
TESTS = 12
Job = Callable[..., str]

FOLDER = os.environ.get("UNIREX_DATA")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="UNIREX_DATA does not name a folder of corpora"),
]


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return {"name": "sst", "source": f"{FOLDER}/trainDevTestTrees_PTB.zip", "limit": 40}


@pytest.fixture(scope="module")
def models(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four exported models of one layer."""
    folder = tmp_path_factory.mktemp("sst")
    train = {"epochs": 1, "batch_size": 8, "learning_rate": 3e-4, "precision": "fp32", "threads": 1}
    config = build_config({"data": {**data, "max_length": 40}, "model": {"layers": 1}, "train": train})
    trained_sweep(folder / "swept", config, load_corpus(config.data), METHODS, seeds=(0,))
    for method in METHODS:
        export_trial(folder / "swept", folder / method, method)
    return [folder / method for method in METHODS]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Job:
    """Runs the job in a folder of its own; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["study.py", *arguments])
        job_module("study").main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def kind() -> Iterator[Any]:
    with chromium() as found:
        yield found


def fill_in(kind: Any, study: Study, annotator: str, form: Path, folder: Path, *, interrupted: bool) -> None:
    """Answer a form in a browser with a home of its own, and keep the file that it exports.

    Args:
        interrupted: whether the browser is closed in the middle of the first task, and opened again.
    """
    launched, options = kind
    home = str(folder / f"home-{annotator}")
    tasks = [task_values(study, annotator, task.name) for task in study.tasks]
    done = 5 if interrupted else 0
    if interrupted:
        context = launched.launch_persistent_context(home, **options)
        page = context.pages[0]
        page.goto(form.as_uri())
        page.get_by_role("button", name="Start", exact=True).click()
        press_answers(page, dict(list(tasks[0].items())[:done]))
        context.close()
    context = launched.launch_persistent_context(home, accept_downloads=True, **options)
    page = context.pages[0]
    page.goto(form.as_uri())
    if not interrupted:
        page.get_by_role("button", name="Start", exact=True).click()
    for number, values in enumerate(tasks):
        if number:
            page.get_by_role("button", name="Begin part 2", exact=True).click()
        press_answers(page, dict(list(values.items())[0 if number else done :]))
    content = export(page)
    context.close()
    (folder / content.pop("name")).write_text(json.dumps(content), encoding="utf-8")


def table_3(study: Study) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation over annotators by question and condition, from what they meant to answer."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for task in study.tasks:
        for question in task.questions:
            for number in study.shown_in(task.name):
                of_annotators = []
                for annotator in study.sheets:
                    values = []
                    for name, given in drawn_values(study, annotator).items():
                        item = study.by_id[name]
                        if item.condition == number and item.task == task.name:
                            value = given[question.name]
                            right = study.rationales[item.instance][number].label
                            values.append(100.0 * (value == right) if question.name == "label" else value)
                    of_annotators.append(np.mean(values))
                mean_and_std = (float(np.mean(of_annotators)), float(np.std(of_annotators, ddof=1)))
                found.setdefault(question.name, {})[study.conditions[number].name] = mean_and_std
    return found


def test_five_annotators_fill_in_forms_of_four_exported_models(
    job: Job, kind: Any, models: list[Path], data: dict[str, Any], tmp_path: Path
) -> None:
    options = [f"--data.{key}={value}" for key, value in data.items()]
    told = job("make", *(f"--model={model}" for model in models), *options, f"--instances={TESTS}", "--simulate=20")
    assert "python jobs/study.py serve --output=study" in told
    study = read_study("study")
    assert [condition.model.get("method") for condition in study.conditions] == [*METHODS, None, None]

    returned = tmp_path / "returned"
    returned.mkdir()
    for number, annotator in enumerate(study.sheets):
        form = tmp_path / "study" / "forms" / f"{annotator}.html"
        fill_in(kind, study, annotator, form, returned, interrupted=number == 1)
    files = sorted(file.name for file in returned.glob("*.json"))
    assert files == [f"answers-a{number}.json" for number in range(1, 6)]

    told = job("analyse", f"--answers={returned}")
    assert "SIMULATED ANNOTATORS" not in told
    with open("study/report/table3.csv", encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    words = {"label": "accuracy", "confidence": "confidence", "alignment": "alignment"}
    for question, by_condition in table_3(study).items():
        for name, (mean, std) in by_condition.items():
            assert float(rows[name][words[question]]) == pytest.approx(mean)
            assert float(rows[name][f"{words[question]}_std"]) == pytest.approx(std)

    client = MlflowClient(f"sqlite:///{tmp_path}/study/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("sst").experiment_id])
    accuracy, _ = table_3(study)["label"]["UNIREX (DLM-FP)"]
    assert run.data.metrics["study/accuracy/unirex-dlm-fp"] == pytest.approx(accuracy)

    dry = job("analyse", "--answers=study/simulated")
    assert "SIMULATED ANNOTATORS, NO PEOPLE" in dry
    assert (tmp_path / "study" / "report-simulated" / "report.html").exists()
