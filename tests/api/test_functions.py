"""Training, comparing and evaluating as functions: the jobs' files, and their tables as frames."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pandas
import pytest
from helpers.recorded_trials import TRIALS, record
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import trained_sweep

import unirex_ray
from unirex_ray.api.train import cpus_here
from unirex_ray.config import Tree
from unirex_ray.config.given import given_names, given_tree
from unirex_ray.errors import UserError
from unirex_ray.tracking.mlflow_store import MlflowStore


def test_settings_are_a_mapping_or_a_file_below_the_keywords(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("method: aa-ig\ntrain: {epochs: 3, seed: 1}\n")
    from_file = given_tree(tmp_path / "my.yaml", {"train": {"epochs": 4}, "data.limit": 8})
    assert from_file == {"method": "aa-ig", "train": {"epochs": 4, "seed": 1}, "data": {"limit": 8}}
    assert given_tree({"train.epochs": 3}, {"train": {"seed": 0}}) == {"train": {"epochs": 3, "seed": 0}}
    assert given_tree(None, {}) == {}
    (tmp_path / "my.yaml").write_text("model: {trust_remote_code: true}\n")
    with pytest.raises(UserError, match="asks to run Python code"):
        given_tree(str(tmp_path / "my.yaml"), {})
    allowed = given_tree(str(tmp_path / "my.yaml"), {"model": {"trust_remote_code": True}})
    assert allowed == {"model": {"trust_remote_code": True}}
    wrong: Any = ["aa-ig"]
    for function in (unirex_ray.train, unirex_ray.sweep, unirex_ray.compare):
        with pytest.raises(
            UserError, match=r"the settings must be a mapping or the path of a YAML file, but are \['aa-"
        ):
            function(wrong)


def test_a_path_stands_wherever_a_string_does() -> None:
    given = given_tree(
        {"output": Path("a"), "data.source": Path("b")}, {"model": {"encoder": Path("c")}, "x": [Path("d")]}
    )
    assert given == {"output": "a", "data": {"source": "b"}, "model": {"encoder": "c"}, "x": ["d"]}
    for one in ("ev", Path("ev"), ["ev"], (Path("ev"),)):
        assert given_names(one) == ["ev"]
    assert given_names(()) == []


def test_a_sweep_takes_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def start_sweep(space: str | None, tree: Tree, **options: Any) -> None:
        given.extend([space, options["warm_start"]])
        raise UserError("enough is known")

    monkeypatch.setattr("unirex_ray.sweep.start.start_sweep", start_sweep)
    with pytest.raises(UserError, match="enough is known"):
        unirex_ray.sweep(space=Path("my.yaml"), warm_start=Path("before"))
    assert given == ["my.yaml", "before"]


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    wrong: Any = "tst"
    with pytest.raises(
        UserError, match=r"unknown split 'tst' \(did you mean 'test'\?\); choose one of train, dev, test"
    ):
        unirex_ray.evaluate(tmp_path, split=wrong)


@pytest.mark.slow
def test_a_trained_model_is_there_to_be_loaded(
    encoders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    settings = {
        "method": "unirex-slm-fp",
        "output": output,
        "data": {"limit": 12, "cache": tmp_path / "cache"},
        "model": {"encoder": encoders["bert"]},
    }
    frame = unirex_ray.train(settings, train={"epochs": 1, "threads": 1})
    assert isinstance(frame, pandas.DataFrame)
    written = json.loads((output / "metrics.json").read_text())
    assert frame["split"].tolist() == ["dev", "test"]
    assert frame["auprc"].tolist() == [written["dev/auprc"], written["test/auprc"]]
    assert set(frame["method"]) == {"unirex-slm-fp"}
    assert "<html" in (output / "rationales.html").read_text()
    assert unirex_ray.load_model(output).explain(["A good plot."])[0].predicted in ("negative", "positive")
    complete = (
        f"the trial in {str(output)!r} is complete: its results were read back, and nothing was trained; to train"
    )
    assert complete not in capsys.readouterr().out
    assert unirex_ray.train(settings, train={"epochs": 1, "threads": 1}).equals(frame)
    assert f"{complete} again, give another output\n" in capsys.readouterr().out
    (output / "result.json").write_text("{")  # a damaged one is no result: the trial is trained again
    unirex_ray.train(settings, train={"epochs": 1, "threads": 1})
    assert complete not in capsys.readouterr().out
    with pytest.raises(UserError, match="unknown method 'aa-gi'"):
        unirex_ray.train(method="aa-gi", output=str(output))


@pytest.mark.slow
def test_a_comparison_is_the_file_that_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for corpus in ("reviews", "sst"):
        record(MlflowStore(uri), TRIALS, corpus=corpus)
    frame = unirex_ray.compare(output=tmp_path, tracking={"uri": uri})
    assert not (tmp_path / "comparison_published.csv").exists()
    with (tmp_path / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert frame["method"].tolist() == [row["method"] for row in rows]
    nrg = [float(row["nrg/cnrg"] or "nan") for row in rows]
    assert frame["nrg/cnrg"].tolist() == pytest.approx(nrg, nan_ok=True)
    assert "NRG to the runs" in capsys.readouterr().out
    archive = tmp_path / "sst.zip"
    published = unirex_ray.compare(
        output=tmp_path / "paper", tracking={"uri": uri}, data={"name": "sst"}, published=True, write_archive=archive
    )
    assert published.equals(unirex_ray.compare(output=tmp_path / "again", archives=archive))
    assert (tmp_path / "paper" / "comparison_published.csv").is_file()
    both = unirex_ray.compare(output=str(tmp_path), tracking={"uri": uri}, data={"name": "reviews,sst"})
    assert both.groupby("corpus").size().to_dict() == {"reviews": len(rows), "sst": len(rows)}
    assert (tmp_path / "sst" / "comparison.csv").is_file()
    assert (tmp_path / "corpora.csv").is_file()
    with pytest.raises(UserError, match="--baseline=sgt: no complete configuration of it"):
        unirex_ray.compare(output=str(tmp_path), tracking={"uri": uri}, baseline="sgt")
    with pytest.raises(UserError, match="unknown sweep 'x'"):
        unirex_ray.compare(output=str(tmp_path), tracking={"uri": uri}, sweeps=["x"])
    with pytest.raises(UserError, match="unknown sweep 'xy'"):
        unirex_ray.compare(output=str(tmp_path), tracking={"uri": uri}, sweeps="xy")
    for also in ("ev", Path("ev")):
        with pytest.raises(UserError, match="'ev'"):
            unirex_ray.compare(output=str(tmp_path), tracking={"uri": uri}, also=also)


@pytest.mark.slow
def test_an_evaluation_gives_the_models_metrics(
    encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = tiny_config(encoders["bert"], train__epochs=1, train__precision="fp32")
    trained_sweep(tmp_path, config, tiny_corpus((12, 4, 4)), ("unirex-slm-fp",), (0,))
    (tmp_path / "corpus").mkdir()
    for split in ("train", "dev", "test"):
        rows = [f"good{number} w{number},{'yn'[number % 2]}" for number in range(1, 5)]
        (tmp_path / "corpus" / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    table = {"name": "table", "source": str(tmp_path / "corpus"), "labels": ["n", "y"]}
    given = {"data": table, "output": str(tmp_path / "out"), "tracking": {"uri": f"sqlite:///{tmp_path}/my.db"}}
    frame = unirex_ray.evaluate(tmp_path, given, label_map={"negative": "n", "positive": "y"}, split="dev")
    (file,) = (tmp_path / "out").glob("evaluation-*-dev.json")
    (evaluation,) = json.loads(file.read_text())["evaluations"]
    assert len(frame) == 1
    assert frame.loc[0, "method"] == "unirex-slm-fp"
    assert evaluation["metrics"]["dev/task_score"] in frame.loc[0].tolist()
    (recorded,) = MlflowStore(f"sqlite:///{tmp_path}/my.db").evaluations("tiny")
    assert recorded.split == "dev"


def test_without_pandas_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    for function in (unirex_ray.train, unirex_ray.compare, unirex_ray.sweep):
        with pytest.raises(UserError, match="a frame needs pandas: pip install pandas"):
            function(method="no-such-method")
    with pytest.raises(UserError, match="a frame needs pandas: pip install pandas"):
        unirex_ray.evaluate("no such folder")


def test_training_takes_no_more_threads_than_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    may_use = len(os.sched_getaffinity(0))
    for asked, threads in (("1", 1), ("1000", may_use), ("0", may_use), ("2,1", may_use), ("", may_use)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert cpus_here() == threads
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cpus_here() == may_use
