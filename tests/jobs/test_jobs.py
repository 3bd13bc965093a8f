"""What a user types wrong ends a job with one line and exit code 2, before anything starts."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from helpers.job_module import job_module
from helpers.marks import slow_but

from unirex_ray.analysis.leaderboard import leaderboard
from unirex_ray.cli.next_steps import after_sweep
from unirex_ray.config import Config
from unirex_ray.distributed.cluster import connect
from unirex_ray.errors import exit_on_user_error
from unirex_ray.sweep import run
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.tracking.protocol import protocol_hash, protocol_of
from unirex_ray.tracking.records import TrialStatus

TRAINING = ("sweep", "train")
READING = ("compare", "export_best")
SPACE = {"sweep": ("--space=quick",)}
"""What a sweep needs on a corpus that is not the demo's."""
Refused = Callable[..., str]


@pytest.fixture
def local_ray() -> Iterator[None]:
    """A cluster for one test: another file's workers need another PYTHONPATH."""
    connect()
    yield
    ray.shutdown()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """Runs a job that has to end so; returns its line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(job: str, *arguments: str) -> str:
        module = job_module(job)
        monkeypatch.setattr(sys, "argv", [f"{job}.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            exit_on_user_error(module.main)
        captured = capsys.readouterr()
        assert ended.value.code == 2
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert not list(tmp_path.rglob("best.pt"))
        assert not list(tmp_path.rglob("sweep.json"))
        return captured.err

    return run


def eraser(folder: Path, *, rows: int = 4, end: int = 2, label: str = "B") -> str:
    """A tiny corpus; `end` is where each rationale of a text of three words ends."""
    folder.mkdir()
    (folder / "docs.jsonl").write_text(json.dumps({"docid": "d", "document": "one two three"}))
    for split, size in (("train", 4), ("val", rows), ("test", 4)):
        lines = [
            {
                "annotation_id": f"{split}{number}",
                "classification": label if number % 2 else "A",
                "evidences": [[{"docid": "d", "start_token": 0, "end_token": end}]],
            }
            for number in range(size)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(folder)


@pytest.mark.parametrize("job", slow_but(["sweep"], TRAINING))
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--data.name=sst"], ["data.source", "trainDevTestTrees_PTB.zip"]),
        (["--data.name=sst", "--data.source=absent.zip"], ["'absent.zip' does not exist"]),
        (["--data.name=sst", "--data.source=notes.txt"], ["notes.txt'", "neither a folder nor a .zip"]),
        (["--data.name=revews"], ["'revews'", "did you mean 'reviews'", "sst, movies"]),
        (["--method=unirex-slm-pf"], ["'unirex-slm-pf'", "aa-ig, l2e, sgt, fresh"]),
        (["--train.epoch=3"], ["train.epoch", "did you mean 'train.epochs'"]),
        (["--train.epochs=0"], ["train.epochs", "'0'", "greater than or equal to 1"]),
        (["--data.limit=1"], ["positive", "data.limit = 1; raise it"]),
        (["--model.layers=99"], ["model.layers = 99", "has 6 layers"]),
        (["--data.max_length=999"], ["data.max_length = 999", "at most"]),
        (["--model.encoder=./absent"], ["./absent"]),
        (["--output=/dev/null/x"], ["cannot write output '/dev/null/x'", "choose another --output"]),
        (["--output=s3://bucket/x"], ["output must be a folder", "'s3://bucket/x'"]),
        (["--output="], ["output = ''", "at least 1 character"]),
        (["--config=absent.yaml"], ["'absent.yaml'"]),
    ],
)
def test_bad_input_to_a_training_job(
    refused: Refused, tmp_path: Path, job: str, arguments: list[str], parts: list[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no archive")
    line = refused(job, *SPACE.get(job, ()), *arguments)
    assert all(part in line for part in parts), line


@pytest.mark.parametrize("job", slow_but(["sweep"], TRAINING))
@pytest.mark.parametrize(
    ("broken", "parts"),
    [
        ({"rows": 0}, ["dev split", "is empty"]),
        ({"end": 9}, ["evidence span [0, 9)", "within the 3 tokens"]),
        ({"label": "A"}, ["train split", "has no instance of B"]),
        ({"end": 0}, ["unirex-slm-fp learns from gold rationales", "no train instance"]),
    ],
)
def test_a_broken_corpus(refused: Refused, tmp_path: Path, job: str, broken: dict, parts: list[str]) -> None:
    source = eraser(tmp_path / "corpus", **broken)
    corpus = ["--data.name=eraser", "--data.labels=A,B", f"--data.source={source}"]
    line = refused(job, *SPACE.get(job, ()), *corpus, "--method=unirex-slm-fp")
    assert all(part in line for part in parts), line


@pytest.mark.slow
def test_sweeps_that_make_no_sense(refused: Refused, tmp_path: Path) -> None:
    small = "--data.limit=16"
    line = refused("sweep", small, "--train.epochs=2", "--sweep.rungs=1,2")
    assert "sweep.rungs = [1, 2]: a rung at or beyond train.epochs = 2 stops nothing" in line
    space = tmp_path / "space.yaml"
    space.write_text("parameters: {model.layers: {choice: [1, 12]}}")
    assert "model.layers = 12: 'embedded' has 6 layers" in refused("sweep", small, "--space", str(space))
    space.write_text("parameters: {model.pooling: {choice: [sum, mlp]}}")
    line = refused("sweep", small, "--space", str(space), "--method=aa-ig")
    assert "model.pooling = 'mlp' is trained by a plausibility loss, and aa-ig has none where it pools" in line
    space.write_text("parameters: {model.pooling: {choice: [mlp]}}")
    assert "and fresh has none where it pools" in refused("sweep", small, "--space", str(space), "--method=fresh")
    space.write_text("parameters: {data.gold_percent: {choice: [5, 100]}}")
    alone = ("--space", str(space), "--method=unirex-slm-fp", "--train.batch_size=1")
    assert "train.batch_size = 1 leaves no room beside it" in refused("sweep", small, *alone)
    space.write_text("parameters: {data.gold_percent: {choice: [0, 100]}}")
    assert "data.gold_percent = 0: input should be greater than 0" in refused("sweep", small, "--space", str(space))
    space.write_text("parameters: {data.limit: {choice: [10, 100]}}")
    assert "'data.limit' cannot be a parameter of a search" in refused("sweep", small, "--space", str(space))
    source = eraser(tmp_path / "corpus", end=0)
    corpus = ("--data.name=eraser", "--data.labels=A,B", f"--data.source={source}", "--method=aa-ig")
    line = refused("sweep", *SPACE["sweep"], *corpus, "--sweep.nrg_weights=0,1,0")
    assert "there are no gold rationales" in line


def test_a_sweep_on_a_corpus_of_ones_own_needs_a_space(refused: Refused, tmp_path: Path) -> None:
    line = refused("sweep", "--data.name=sst", "--data.source=absent.zip")
    assert "data.name=sst needs a search space: give --space paper, or another of ablation-extractor-f, " in line
    assert "unknown data.name = 'revews'" in refused("sweep", "--data.name=revews")
    assert "--space 'papr' is no file and no space (did you mean 'paper'?)" in refused("sweep", "--space=papr")
    assert not list(tmp_path.iterdir())


def test_a_password_in_the_environment_is_refused_and_not_shown(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unirex_ray.sweep.run.resolve_tracking_uri", lambda config: "http://me:secret@127.0.0.1:9")
    line = refused("sweep", "--data.limit=16")
    assert "tracking.uri must hold no user and no password" in line
    assert "secret" not in line


def test_a_password_in_an_option_is_refused(refused: Refused) -> None:
    line = refused("sweep", "--tracking.uri=http://me:secret@host")
    assert "tracking.uri must hold no user" in line
    assert "MLFLOW_TRACKING_USERNAME" in line


@pytest.mark.parametrize("job", READING)
@pytest.mark.parametrize("output", ["really?", "50%"])
def test_an_output_whose_path_mlflow_misreads(refused: Refused, tmp_path: Path, job: str, output: str) -> None:
    line = refused(job, f"--output={output}")
    assert f"output '{tmp_path}/{output}': MLflow misreads" in line
    assert "choose another --output" in line


@pytest.mark.parametrize(
    ("job", "option"),
    [
        ("sweep", "--train.seed=1"),
        ("train", "--sweep.seeds=1"),
        ("train", "--tracking.uri=http://h"),
        ("compare", "--train.epochs=3"),
        ("compare", "--method=aa-ig"),
        ("export_best", "--sweep.seeds=1"),
        ("prepare_data", "--train.epochs=3"),
        ("prepare_data", "--data.gold_percent=5"),
        ("benchmark", "--data.name=sst"),
        ("evaluate", "--model.layers=1"),
        ("evaluate", "--data.gold_percent=5"),
    ],
)
def test_a_key_that_a_job_does_not_read(refused: Refused, job: str, option: str) -> None:
    needed = {"evaluate": ["--model=m"], "benchmark": ["engine"]}.get(job, [])
    line = refused(job, *needed, option)
    assert line.startswith(f"error: {job}.py does not read {option.partition('=')[0]}; leave it out")


@pytest.mark.parametrize("job", ["sweep", *READING])
def test_an_unreachable_server(refused: Refused, job: str) -> None:
    line = refused(job, "--tracking.uri=http://127.0.0.1:9")
    assert "tracking.uri = 'http://127.0.0.1:9'" in line
    assert "is an MLflow server running there?" in line


@pytest.mark.parametrize("job", READING)
def test_nothing_to_read(refused: Refused, tmp_path: Path, job: str) -> None:
    line = refused(job, "--data.name=sst")
    assert "no finished trials on 'sst'" in line
    assert "run a sweep on 'sst' first, or give the --output of one" in line
    assert "unknown data.name = 'revews'" in refused(job, "--data.name=revews")
    assert not list(tmp_path.iterdir())


def test_an_export_of_no_method(refused: Refused) -> None:
    assert "unknown method 'x'" in refused("export_best", "--method=x")


def test_a_corpus_that_the_paper_does_not_have(refused: Refused, tmp_path: Path) -> None:
    line = refused("compare", "--published", "--data.name=reviews")
    assert "'reviews'; it has sst, movies, cose, multirc, esnli" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_hardware_that_is_not_there(refused: Refused, local_ray: None) -> None:
    small = "--data.limit=16"
    assert "1 worker x 1 GPU = 1 GPU per trial, but the cluster has 0" in refused("sweep", small, "--train.gpu=true")
    for job in (("train", small), ("benchmark", "engine")):
        assert "this machine has no GPU" in refused(*job, "--train.gpu=true")
    for job in TRAINING:
        line = refused(job, small, "--train.workers=99")
        assert "99 workers x 1 CPU = 99 CPUs per trial, but the cluster has" in line


def test_bad_input_to_the_other_jobs(refused: Refused, tmp_path: Path) -> None:
    assert "required: --text" in refused("explain", "--model=m")
    assert "unknown option --txt" in refused("explain", "--model=m", "--text=t", "--txt=t")
    assert "'m' is not an exported model" in refused("explain", "--model=m", "--text=t")
    assert "--text is empty" in refused("explain", "--model=m", "--text= ")
    assert "--top-k-percent must be from 1 to 100" in refused("explain", "--model=m", "--text=t", "--top-k-percent=0")
    assert "'engines'" in refused("benchmark", "engines")
    assert "--runs must be at least 5, --instances 3, but are 1 and 549309" in refused(
        "benchmark", "engine", "--runs=1"
    )
    assert "unknown method 'x'" in refused("benchmark", "engine", "--method=x")


def test_a_home_folder_is_found_in_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    config = Config().changed({"output": "~/out", "data.source": "~/a.zip", "model.encoder": "~/e"})
    assert (config.output, config.data.source, config.model.encoder) == (
        "/home/somebody/out",
        "/home/somebody/a.zip",
        "/home/somebody/e",
    )


def test_the_next_commands_fit_the_outcome() -> None:
    config = Config().changed({"output": "my out"})
    board, settings = leaderboard({}), {"data.digest": "abc"}
    done = SweepOutcome(
        sweep_id="s1", settings=settings, leaderboard=board, best=config, statuses={}, output=Path("my out")
    )
    compare, export, train, view = after_sweep(done, config)
    assert compare == "python jobs/compare.py --data.name=reviews --output='my out'"
    assert export == "python jobs/export_best.py --data.name=reviews --output='my out'"
    assert train == "python jobs/train.py --config 'my out'/best_config.yaml --output='my out-best'"
    assert view.startswith("mlflow ui --backend-store-uri 'sqlite:///")

    # A server may hold other sweeps, on other data.
    shared = config.changed({"tracking.uri": "http://host:5000"})
    compare, export, _, view = after_sweep(done, shared)
    assert compare.endswith(f" --tracking.uri=http://host:5000 --protocol={protocol_hash(protocol_of(settings))}")
    assert export.endswith(" --tracking.uri=http://host:5000 --sweep-id=s1")
    assert view == "open http://host:5000"

    assert after_sweep(replace(done, best=None), shared) == [view]

    # What lacks trials is used on demand alone.
    compare, export, *_ = after_sweep(replace(done, statuses={"completed": 3, "lost": 1}), shared)
    assert compare.endswith(" --unfinished")
    assert export.endswith(" --sweep-id=s1 --unfinished")


@pytest.mark.parametrize(
    ("statuses", "status", "said"),
    [
        ({"completed": 5, "stopped": 4}, "completed", ""),
        ({"completed": 8, "failed": 1}, "completed", "1 of 9 trials failed, and would again"),
        ({"failed": 9}, "failed", "9 of 9 trials failed, and would again"),
        ({"completed": 8, "lost": 1}, "incomplete", "1 of 9 trials were lost with their process, node or disk"),
    ],
)
def test_a_sweep_that_lacks_trials_ends_with_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    statuses: dict[TrialStatus, int],
    status: str,
    said: str,
) -> None:
    protocol = Config().flat() | {"data.digest": "abc"}
    outcome = SweepOutcome(
        sweep_id="s1", settings=protocol, leaderboard=leaderboard({}), best=None, statuses=statuses, output=Path("out")
    )
    assert outcome.status == status
    monkeypatch.setattr(run, "run_sweep", lambda *_, **__: outcome)
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    job = job_module("sweep").main
    if said:
        with pytest.raises(SystemExit) as end:
            job()
        assert end.value.code == 3
    else:
        job()
    printed = capsys.readouterr().err
    assert printed.startswith(f"NOT ALL COMPLETED: {said}") if said else printed == ""
