"""What version 0.1.0 left behind is compared, exported, evaluated, read back and gone on with by the code of today.

`record_sweep.py` made the archive, with the code of that version.
"""

import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers.job_module import JOBS, job_module
from helpers.record_sweep import FINISHED, INTERRUPTED, OPTIONS, PlaceTakenError, empty_root

from unirex_ray.analysis.leaderboard import leaderboard
from unirex_ray.analysis.selection import configurations
from unirex_ray.config import Config, DataConfig, build_config
from unirex_ray.data.load import load_corpus
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError, exit_on_user_error
from unirex_ray.files import load_yaml
from unirex_ray.metrics.table import STANDARD_ERRORS, TIES, VERDICT, TrialMetrics
from unirex_ray.report.comparison import leaderboard_table
from unirex_ray.tracking.choose import weights_of
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.protocol import Protocol, protocol_hash, protocol_of
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import SweepRecord, database_uri
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.trial import train_trial

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parent / "recorded" / "sweep-0.1.0.tar.xz"
METHODS = ("aa-ig", "fresh", "l2e", "unirex-slm-fp")
CONFIGURATIONS = {"aa-ig": 1, "fresh": 1, "l2e": 1, "unirex-slm-fp": 2}
TRIALS = {(method, n, seed) for method, count in CONFIGURATIONS.items() for n in range(count) for seed in (0, 1)}
UNFINISHED = ("l2e", 0, 0)

# By the last part of a metric's key; training that is done again may round differently on another machine.
_PARTS = dict.fromkeys(("comprehensiveness", "sufficiency", "csd"), 1e-3)
_PERCENT = dict.fromkeys(("auprc", "token_f1", "task_score", "accuracy", "macro_f1"), 5.0)
TOLERANCES = _PARTS | _PERCENT | dict.fromkeys(("loss", "stage_loss"), 1e-2)

# Metrics that this version did not have.
LATER = {metric.on("dev") for metric in TIES} | {
    metric.on(split) for split in ("dev", "test") for metric in (*STANDARD_ERRORS.values(), *VERDICT)
}

Key = tuple[str, int, int]


def unpack(folder: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The place where the sweeps were recorded, with what they left there."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(empty_root(wait_s=300))
        except PlaceTakenError as error:
            pytest.skip(str(error))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        unpack(folder)
        yield folder


@pytest.fixture(scope="module")
def finished(root: Path) -> Path:
    return root / FINISHED


@pytest.fixture(scope="module")
def interrupted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, as the one in `root` is gone on with."""
    unpack(folder := tmp_path_factory.mktemp("copy"))
    return folder / INTERRUPTED


def given(root: Path, what: str) -> list[str]:
    """Options that the sweeps were recorded with: all (`sweep`), or those that say which corpus."""
    options: list[str] = json.loads((root / OPTIONS).read_text())[what]
    return [*options, "--train.warmup_from_zero=true"] if what == "sweep" else options


def recorded_config(folder: Path) -> Config:
    """A trial's configuration, with what that version went by unsaid."""
    return build_config({"train": {"warmup_from_zero": True}}, load_yaml(folder / "config.yaml"))


def run(job: str, *arguments: str) -> str:
    """Run a job that comes through; returns what it prints."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", [f"{job}.py", *arguments])
        exit_on_user_error(job_module(job).main)
    return out.getvalue()


def sweep_in(output: Path) -> SweepRecord:
    (sweep,) = MlflowStore(database_uri(output / "mlflow.db")).sweeps("reviews")
    return sweep


def trials_in(output: Path) -> dict[Key, TrialRecord]:
    """The trials of a sweep, each of which is there once."""
    records = sweep_in(output).trials
    found = {(record.spec.method, record.spec.configuration, record.spec.seed): record for record in records}
    assert len(found) == len(records)
    return found


def completed_in(output: Path) -> dict[Key, TrialRecord]:
    return {key: record for key, record in trials_in(output).items() if record.status == "completed"}


def folder_of(output: Path, record: TrialRecord) -> Path:
    return output / "trials" / record.spec.trial_id


def raw(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without what depends on the other methods of a comparison."""
    return {key: value for key, value in metrics.items() if not key.startswith("nrg/")}


def assert_like(found: Mapping[str, float], wanted: Mapping[str, float]) -> None:
    """Metrics of the same training, done again."""
    found, wanted = (
        {key: value for key, value in raw(metrics).items() if not key.startswith("time/") and key not in LATER}
        for metrics in (found, wanted)
    )
    assert found.keys() == wanted.keys()
    far = {k: (found[k], v) for k, v in wanted.items() if abs(found[k] - v) > TOLERANCES[k.partition("/")[2]]}
    assert not far


@cache
def corpus(data: DataConfig) -> Corpus:
    return load_corpus(data)


def selected_in(output: Path) -> dict[str, int]:
    """By method, the number of the configuration that the recorded leaderboard has first."""
    rows = csv.DictReader((output / "leaderboard.csv").read_text().splitlines())
    return {row["method"]: int(row["configuration"]) for row in rows if row["rank"] == "1"}


def evaluated(root: Path, model: Path, output: Path) -> dict[str, dict[str, float]]:
    """What jobs/evaluate.py finds on the corpus of training: the test metrics by trial."""
    run("evaluate", f"--model={model}", *given(root, "corpus"), f"--output={output}")
    (file,) = output.glob(f"evaluation-{model.name}-reviews-*-test.json")
    evaluations = json.loads(file.read_text())["evaluations"]
    return {each["trial_id"]: only_test(each["metrics"]) for each in evaluations}


def only_test(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if key.startswith("test/") and key not in LATER}


def read_table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def recorded_protocol(output: Path) -> Protocol:
    """From sweep.json, which that version wrote with fewer settings."""
    return protocol_of(json.loads((output / "sweep.json").read_text())["settings"])


def test_the_protocol_of_a_recorded_sweep_is_read_alike_from_its_folder_and_its_store(
    finished: Path, interrupted: Path
) -> None:
    protocol = recorded_protocol(finished)
    assert protocol == recorded_protocol(interrupted) == protocol_of(sweep_in(finished).settings)
    assert (protocol["train.warmup_from_zero"], protocol["train.epochs"]) == ("true", "3")
    assert protocol_hash(protocol) == "98bef99fdaba"  # what was published goes by it
    assert "loss.plaus_weight" not in protocol
    assert protocol["space loss.plaus_weight"] == "loss.plaus_weight: choice 0.5, 4.0"


def test_every_trial_of_the_plan_was_recorded_and_their_scores_differ(finished: Path, interrupted: Path) -> None:
    assert completed_in(finished).keys() == TRIALS
    values = [record.metrics.test["comprehensiveness"] for record in completed_in(finished).values()]
    assert len(set(values)) == len(values)
    assert max(values) - min(values) > 0.05
    assert {key: record.status for key, record in trials_in(interrupted).items()} == {
        **{(method, 0, seed): "completed" for method in ("aa-ig", "fresh") for seed in (0, 1)},
        UNFINISHED: "running",
    }


def test_a_comparison_writes_the_recorded_tables_again(finished: Path) -> None:
    tables = [finished / name for name in ("comparison.csv", "configurations.csv")]
    recorded = [read_table(table) for table in tables]
    for table in tables:
        table.unlink()
    run("compare", "--data.name=reviews", f"--output={finished}")
    comparison, every = (read_table(table) for table in tables)
    assert {row.pop("protocols") for row in comparison} == {json.dumps([protocol_hash(recorded_protocol(finished))])}
    assert [comparison, every] == recorded


def test_the_leaderboard_follows_from_the_recorded_runs(finished: Path) -> None:
    sweep = sweep_in(finished)
    assert [record.spec.method for record in sweep.trials] == sorted(record.spec.method for record in sweep.trials)
    places = leaderboard(configurations(sweep.trials, seeds=sweep.seeds), weights_of([sweep], None))
    assert leaderboard_table(places).csv().encode() == (finished / "leaderboard.csv").read_bytes()


@pytest.mark.parametrize("method", [None, *METHODS])
def test_an_exported_model_is_the_selected_trial(
    root: Path, finished: Path, tmp_path: Path, method: str | None
) -> None:
    rows = csv.DictReader((finished / "leaderboard.csv").read_text().splitlines())
    (best,) = (row["method"] for row in rows if row["best"] == "true")
    wanted, model = method or best, tmp_path / "model"
    only = [f"--method={method}"] if method else []
    run("export_best", "--data.name=reviews", f"--output={finished}", f"--folder={model}", *only)

    provenance = json.loads((model / "provenance.json").read_text())
    trials = [completed_in(finished)[wanted, selected_in(finished)[wanted], seed] for seed in (0, 1)]
    (record,) = (record for record in trials if record.spec.trial_id == provenance["trial_id"])
    assert record.metrics.dev["task_score"] == max(each.metrics.dev["task_score"] for each in trials)
    assert provenance["run_id"] == record.run_id
    assert json.loads((model / "metrics.json").read_text()) == raw(record.metrics.flat())
    assert build_config(load_yaml(model / "best_config.yaml")).method == wanted
    assert evaluated(root, model, tmp_path) == {
        provenance["trial_id"]: pytest.approx(only_test(record.metrics.flat()), abs=1e-4)
    }


def test_an_evaluation_of_the_sweep_finds_the_recorded_test_metrics(root: Path, finished: Path, tmp_path: Path) -> None:
    selected = selected_in(finished).items()
    records = [completed_in(finished)[method, index, seed] for method, index in selected for seed in (0, 1)]
    assert evaluated(root, finished, tmp_path) == {
        record.spec.trial_id: pytest.approx(only_test(record.metrics.flat()), abs=1e-4) for record in records
    }


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file with its bytes and when it was written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


class TrainedError(Exception):
    pass


def test_a_completed_trial_is_read_back_without_training(
    finished: Path, interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise TrainedError

    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    for output in (finished, interrupted):
        for (method, _, seed), record in completed_in(output).items():
            folder = folder_of(output, record)
            config, before = recorded_config(folder), contents(folder)
            assert (config.method, config.train.seed) == (method, seed)
            result = train_trial(config, corpus(config.data), LocalRuntime(folder))
            assert result.metrics.flat() == raw(record.metrics.flat())
            assert result.highlights == ()  # that version did not store them
            assert contents(folder) == before
            with pytest.raises(TrainedError):
                train_trial(config, corpus(config.data), LocalRuntime(tmp_path / record.spec.trial_id))


def test_an_unfinished_trial_goes_on_to_the_metrics_of_the_undisturbed_one(
    finished: Path, interrupted: Path, tmp_path: Path
) -> None:
    whole, part = trials_in(finished)[UNFINISHED], trials_in(interrupted)[UNFINISHED]
    config = recorded_config(folder_of(finished, whole))
    shutil.copytree(folder_of(interrupted, part), tmp_path, dirs_exist_ok=True)
    epochs: list[int] = []

    class Listening(LocalRuntime):
        def report(self, metrics: TrialMetrics, *, epoch: int, stage: str = "") -> None:
            assert not stage
            epochs.append(epoch)

    result = train_trial(config, corpus(config.data), Listening(tmp_path))
    assert_like(result.metrics.flat(), whole.metrics.flat())
    assert epochs == [2, 3]


def test_a_trial_of_another_configuration_is_refused_in_a_recorded_folder(
    finished: Path, interrupted: Path, tmp_path: Path
) -> None:
    whole, part = trials_in(finished)[UNFINISHED], trials_in(interrupted)[UNFINISHED]
    config = recorded_config(folder_of(finished, whole))
    for place, record in ((finished, whole), (interrupted, part)):
        folder = tmp_path / place.name
        shutil.copytree(folder_of(place, record), folder)
        before = contents(folder)
        for other in ({"train.learning_rate": 0.04}, {"train.seed": 1}, {"data.limit": 13}):
            changed = config.changed(other)
            with pytest.raises(UserError, match="holds a trial of another configuration or other data"):
                train_trial(changed, corpus(changed.data), LocalRuntime(folder))
        assert contents(folder) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume", "--train.epochs=4"], "train.epochs was 3, now 4"),
        (["--resume", "--model.encoder=embedded"], "model.encoder was "),
        (["--resume", "--data.limit=13"], "data.digest was "),
        (["--resume", "--loss.plaus_weight=1"], "space loss.plaus_weight was "),
        (["--resume"], "add --other-code to go on with this code"),
        ([], "add --resume to continue it"),
    ],
)
def test_another_sweep_is_refused_in_a_recorded_folder(
    root: Path,
    interrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("unirex_ray.sweep.run.connect", lambda: None)
    monkeypatch.setattr("unirex_ray.sweep.run.node_resources", lambda: [{"CPU": 2.0}])
    before = (interrupted / "sweep.json").read_bytes()
    with pytest.raises(SystemExit) as ended:
        run("sweep", *given(root, "sweep"), f"--output={interrupted}", *options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert (interrupted / "sweep.json").read_bytes() == before


@pytest.mark.ray
def test_a_resumed_sweep_completes_every_trial_once_and_as_undisturbed(root: Path, finished: Path) -> None:
    interrupted = root / INTERRUPTED
    before, run_id = trials_in(interrupted), sweep_in(interrupted).run_id
    done = completed_in(interrupted)
    kept = {key: contents(folder_of(interrupted, record)) for key, record in done.items()}
    command = [sys.executable, str(JOBS / "sweep.py"), *given(root, "sweep"), f"--output={interrupted}", "--resume"]
    command.append("--other-code")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    resumed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr

    after, whole = trials_in(interrupted), trials_in(finished)
    assert (sweep_in(interrupted).run_id, sweep_in(interrupted).status) == (run_id, "completed")
    assert {key: r.reason or r.status for key, r in after.items()} == dict.fromkeys(TRIALS, "completed")
    assert {key: after[key].run_id for key in before} == {key: record.run_id for key, record in before.items()}
    assert {path.name for path in (interrupted / "trials").iterdir()} == {r.spec.trial_id for r in after.values()}
    for key, record in done.items():
        assert after[key].metrics == record.metrics
        assert contents(folder_of(interrupted, record)) == kept[key]
    for key, record in whole.items():
        assert after[key].spec.parameters == record.spec.parameters
        assert_like(after[key].metrics.flat(), record.metrics.flat())
    assert selected_in(interrupted) == selected_in(finished)
