"""Files of a trial that are torn, changed, missing or of another trial: named, never believed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.recorder import Killed, Recorder, lasting, run, weights
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import DamagedFileError
from unirex_ray.training.checkpoint import BEST, CONFIG, LAST, CheckpointStore
from unirex_ray.training.completed import completed_model
from unirex_ray.training.result_file import RESULT
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.state import Checkpoint, TrialFiles, TrialResult, TrialState

EPOCHS = 3


def torn(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path, other: Path) -> None:
    file.write_bytes(b"")


def flipped(file: Path, other: Path) -> None:
    """One bit in the middle: of a weight, or of a digit."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def replaced(file: Path, other: Path) -> None:
    """By that of another seed."""
    shutil.copy(other / file.name, file)


def edited(file: Path, other: Path) -> None:
    """A number that somebody wishes to be another one."""
    content = json.loads(file.read_text())
    content["metrics"]["dev/auprc"] = 99.0
    file.write_text(json.dumps(content))


Damage = Callable[[Path, Path], None]
DAMAGES = (torn, emptied, flipped, replaced)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((14, 7, 5))


@pytest.fixture(scope="module")
def config(encoders: dict[str, str]) -> Config:
    return tiny_config(encoders["bert"], method="unirex-dlm-fp", train__epochs=EPOCHS, train__batch_size=7)


@pytest.fixture(scope="module")
def finished(config: Config, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Completed trials by seed."""
    folders = {seed: tmp_path_factory.mktemp(f"seed{seed}") for seed in (0, 1)}
    for seed, folder in folders.items():
        run(config.changed({"train.seed": seed}), corpus, Recorder(folder))
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"), [*((name, damage) for name in (BEST, CONFIG, RESULT) for damage in DAMAGES), (RESULT, edited)]
)
def test_a_completed_trial_is_read_whole_or_refused(
    finished: dict[int, Path], tmp_path: Path, name: str, damage: Damage
) -> None:
    folder = tmp_path / "trial"
    shutil.copytree(finished[0], folder)
    assert completed_model(CheckpointStore(folder)) is not None
    damage(folder / name, finished[1])
    reason = "its checksum is another one" if damage is edited else ".*"
    with pytest.raises(DamagedFileError, match=rf"is damaged: {reason}; it has to be trained again"):
        completed_model(CheckpointStore(folder))


@pytest.mark.slow
def test_results_without_checksums_are_read_as_before(finished: dict[int, Path], tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    shutil.copytree(finished[0], folder)
    content = json.loads((folder / RESULT).read_text())
    del content["digest"], content["files"]
    (folder / RESULT).write_text(json.dumps(content))
    assert completed_model(CheckpointStore(folder)) is not None


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unirex_ray.training.stage.CHECKPOINT_SECONDS", 0.0)


def killed_at_the_second_checkpoint(config: Config, corpus: Corpus, folder: Path) -> None:
    for writes in range(2, 9):
        shutil.rmtree(folder, ignore_errors=True)
        recorder = Recorder(folder, kill_at=writes)
        with pytest.raises(Killed):
            run(config, corpus, recorder)
        if recorder.written.count(LAST) == 2:
            return
    raise AssertionError("no second checkpoint")


@pytest.mark.slow
@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("what", ["last", "best"])
@pytest.mark.parametrize("damage", [torn, emptied, flipped])
def test_a_damaged_checkpoint_costs_epochs_and_never_a_number(
    config: Config, corpus: Corpus, finished: dict[int, Path], tmp_path: Path, what: str, damage: Damage
) -> None:
    folder = tmp_path / "trial"
    killed_at_the_second_checkpoint(config, corpus, folder)
    (file,) = folder.glob(f"{what}*.pt")
    damage(file, finished[1])
    resumed = Recorder(folder)
    result = run(config, corpus, resumed)
    whole = Recorder(tmp_path / "whole")
    assert lasting(result.metrics) == lasting(run(config, corpus, whole).metrics)
    assert [epoch for epoch, _ in resumed.reports] == [epoch for epoch, _ in whole.reports]  # from the start
    assert all(torch.equal(weights(folder)[name], value) for name, value in weights(finished[0]).items())


@pytest.mark.slow
@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("damage", [torn, emptied, flipped, edited])
def test_a_damaged_result_is_made_again(
    config: Config, corpus: Corpus, finished: dict[int, Path], tmp_path: Path, damage: Damage
) -> None:
    folder = tmp_path / "trial"
    shutil.copytree(finished[0], folder)
    damage(folder / RESULT, finished[1])
    result: TrialResult = run(config, corpus, Recorder(folder))
    assert lasting(result.metrics) == lasting(run(config, corpus, Recorder(finished[0])).metrics)
    assert completed_model(CheckpointStore(folder)) is not None


@pytest.mark.slow
def test_a_finished_trial_leaves_one_file_of_weights(
    config: Config, corpus: Corpus, finished: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copy(finished[0] / BEST, tmp_path / "best-0-9.pt")  # of an epoch before a kill
    run(config, corpus, Recorder(tmp_path))
    assert [path.name for path in tmp_path.glob("*.pt")] == [BEST]


def state(epoch: int, best: int) -> TrialState:
    return TrialState(epoch=epoch, best_epoch=best, best_score=float(best))


def checkpoint(of: TrialState) -> Checkpoint:
    return Checkpoint(state=of, model={}, learner={"optimizer": {}, "schedule": {}}, teacher_scores={})


class Loaded:
    """Instead of a model."""

    def load_state_dict(self, weights: dict[str, torch.Tensor]) -> None:
        self.weight = float(weights["w"])


def test_a_checkpoint_and_its_best_weights_are_a_pair_wherever_a_kill_comes(tmp_path: Path) -> None:
    files = TrialFiles(LocalRuntime(tmp_path), "id")
    files.save_best({"w": torch.tensor(1.0)}, state(1, 1))
    files.save_last(checkpoint(state(1, 1)))
    files.save_best({"w": torch.tensor(2.0)}, state(2, 2))  # killed here
    again, model = files.last_checkpoint(), Loaded()
    assert again is not None
    assert again.state.best_epoch == 1
    files.load_best(model, again.state)  # type: ignore[arg-type]
    assert model.weight == 1.0
    # The second epoch, repeated, is not the best one any more on other hardware.
    files.save_last(checkpoint(state(2, 1)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-0-1.pt", LAST]


def test_a_damaged_shared_stage_is_trained_again(tmp_path: Path) -> None:
    files, stage = TrialFiles(LocalRuntime(tmp_path / "trial"), "id"), CheckpointStore(tmp_path / "stage")
    stage.save(BEST, {"model": {}, "epoch": 2, "tied": 1})
    assert files.take_shared(stage) == ({}, 2, 1)
    flipped(tmp_path / "stage" / BEST, tmp_path)
    torn(tmp_path / "stage" / BEST, tmp_path)
    assert files.take_shared(stage) is None


def test_best_weights_of_another_trial_are_no_pair(tmp_path: Path) -> None:
    files = TrialFiles(LocalRuntime(tmp_path), "id")
    files.save_last(checkpoint(state(1, 1)))
    TrialFiles(LocalRuntime(tmp_path), "other").save_best({}, state(1, 1))
    assert files.last_checkpoint() is None


def test_best_weights_that_are_gone_or_of_another_epoch_are_no_pair(tmp_path: Path) -> None:
    files = TrialFiles(LocalRuntime(tmp_path), "id")
    files.save_best({"w": torch.tensor(1.0)}, state(1, 1))
    files.save_last(checkpoint(state(1, 1)))
    (tmp_path / "best-0-1.pt").rename(tmp_path / BEST)  # as a finished trial leaves it
    assert files.last_checkpoint() is not None
    files.save_best({"w": torch.tensor(2.0)}, state(2, 2))
    (tmp_path / "best-0-2.pt").rename(tmp_path / BEST)
    assert files.last_checkpoint() is None
    (tmp_path / BEST).unlink()
    assert files.last_checkpoint() is None
