"""An output that is moved or copied keeps its artifacts."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from unirex_ray.sweep.folder import SweepFolder
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.mlflow_sweep import MlflowSweep
from unirex_ray.tracking.records import TrialSpec

CORPUS = "my corpus"
PAGE = "rationales.html"


def spec(configuration: int = 0) -> TrialSpec:
    return TrialSpec(
        trial_id=f"trial-{configuration}", method="aa-ig", configuration=configuration, seed=0, parameters={}
    )


def recorded(output: Path) -> str:
    """An output with a sweep of one trial, whose page says where it was made; returns the trial's run."""
    sweep = open_sweep(output)
    run_id = sweep.open_trial(spec(), params={}, tags={})
    sweep.log_text(spec().trial_id, PAGE, "first")
    return run_id


def open_sweep(output: Path) -> MlflowSweep:
    return store(output).open_sweep(experiment=CORPUS, sweep_id="s1", seeds=(0,), params={}, tags={})


def store(output: Path) -> MlflowStore:
    return MlflowStore(f"sqlite:///{output}/mlflow.db")


def page(output: Path, run_id: str) -> str | None:
    found = store(output).artifact(run_id, PAGE)
    return found and found.decode()


def addresses(output: Path) -> set[str]:
    with closing(sqlite3.connect(output / "mlflow.db")) as connection:
        rows = connection.execute("SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM experiments")
        return {row[0] for row in rows if "mlartifacts" in row[0]}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("template") / "first place"
    return folder, recorded(folder)


@pytest.fixture
def output(template: tuple[Path, str], tmp_path: Path) -> Path:
    """An output of its own at a place that is its own as well."""
    shutil.copytree(template[0], tmp_path / "output")
    store(tmp_path / "output")
    return tmp_path / "output"


@pytest.fixture
def run_id(template: tuple[Path, str]) -> str:
    return template[1]


def test_what_was_moved_is_read_and_added_to_at_its_new_place(output: Path, run_id: str, tmp_path: Path) -> None:
    moved = output.rename(tmp_path / "moved #1")
    assert page(moved, run_id) == "first"
    sweep = open_sweep(moved)
    sweep.log_text(spec().trial_id, "more.txt", "more")
    second = sweep.open_trial(spec(1), params={}, tags={})
    sweep.log_text(spec(1).trial_id, "more.txt", "more")
    assert {file.parent.parent.name for file in moved.rglob("more.txt")} == {run_id, second}
    assert not output.exists()


def test_a_copy_and_its_original_keep_apart(output: Path, run_id: str, tmp_path: Path) -> None:
    copy = shutil.copytree(output, tmp_path / "copy")
    open_sweep(copy).log_text(spec().trial_id, PAGE, "second")
    assert (page(copy, run_id), page(output, run_id)) == ("second", "first")


def test_a_link_is_no_move(output: Path, tmp_path: Path) -> None:
    before = addresses(output)
    (tmp_path / "link").symlink_to(output)
    store(tmp_path / "link")
    assert addresses(output) == before


def test_a_database_that_left_its_artifacts_behind_still_finds_them(output: Path, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.move(output / "mlflow.db", tmp_path / "other" / "mlflow.db")
    assert page(tmp_path / "other", run_id) == "first"


def test_a_copy_of_the_database_alone_writes_nothing_to_the_originals_artifacts(
    output: Path, run_id: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(output / "mlflow.db", tmp_path / "other" / "mlflow.db")
    assert page(tmp_path / "other", run_id) is None
    open_sweep(tmp_path / "other").log_text(spec().trial_id, PAGE, "second")
    assert (page(output, run_id), page(tmp_path / "other", run_id)) == ("first", "second")


def test_an_output_in_which_another_process_works_stays_as_it_is(output: Path, tmp_path: Path) -> None:
    moved = output.rename(tmp_path / "moved")
    before = addresses(moved)
    code = "import fcntl, sys; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX); "
    code += "lock.write(sys.argv[2]); lock.flush(); print(flush=True); sys.stdin.read()"
    holder = "another-host 1 2026-01-01T00:00:00+0000\n"
    command = [sys.executable, "-c", code, str(moved / ".sweep.lock"), holder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as working:
        assert working.stdout is not None
        working.stdout.readline()
        store(moved)
        assert addresses(moved) == before
        working.communicate()
    with closing(SweepFolder(str(moved))):  # this process works there itself
        store(moved)
        assert addresses(moved) != before


def test_artifacts_that_never_were_are_written_beside_the_moved_database(
    output: Path, run_id: str, tmp_path: Path
) -> None:
    shutil.rmtree(output / "mlartifacts")
    moved = output.rename(tmp_path / "moved")
    open_sweep(moved).log_text(spec().trial_id, PAGE, "new")
    assert page(moved, run_id) == "new"
    assert not output.exists()


def test_addresses_of_another_making_stay(output: Path, tmp_path: Path) -> None:
    others = {"s3://bucket/mlartifacts/my%20corpus", (tmp_path / "elsewhere" / CORPUS).as_uri()}
    with closing(sqlite3.connect(output / "mlflow.db")) as connection, connection:
        for number, address in enumerate(others):
            connection.execute("UPDATE runs SET artifact_uri = ? WHERE rowid = ?", (address, number + 1))
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", (next(iter(others)), CORPUS))
    moved = output.rename(tmp_path / "moved")
    store(moved)
    with closing(sqlite3.connect(moved / "mlflow.db")) as connection:
        kept = {row[0] for row in connection.execute("SELECT artifact_uri FROM runs")}
    assert kept == others
