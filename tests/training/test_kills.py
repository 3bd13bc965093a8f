"""A trial of two stages that checkpoints at the end of epochs alone, killed at every single write."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.tiny import Group, first_stage, tiny_config, tiny_corpus

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.training.checkpoint import BEST, CONFIG, LAST, CheckpointStore
from unirex_ray.training.result_file import RESULT
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.stage import StageTrainer
from unirex_ray.training.state import TrialResult
from unirex_ray.training.trial import train_trial

pytestmark = pytest.mark.slow

# By stage. Were the first stage's last epoch its best, it would write its weights again whenever it ends.
DEV_SCORES = ((50.0, 60.0, 55.0), (60.0, 70.0, 65.0))
EPOCHS = len(DEV_SCORES[0])


class Killed(BaseException):
    """Nothing may catch it."""


class Mortal(LocalRuntime):
    """Keeps what is written and reported; may end right after the n-th write, or just before it."""

    def __init__(self, folder: Path, *, after: int | None = None, before: int | None = None) -> None:
        super().__init__(folder)
        self.written: list[tuple[str, int]] = []
        self.reports: list[tuple[str, int, dict[str, float]]] = []
        self._after, self._before = after, before
        self.checkpoints.write = self._mortal(self.checkpoints.write)
        self.checkpoints.save = self._mortal(self.checkpoints.save)

    def _mortal(self, put):
        def call(name, content):
            if len(self.written) + 1 == self._before:
                raise Killed
            put(name, content)
            self.written.append((name, len(self.reports)))
            if len(self.written) == self._after:
                raise Killed

        return call

    def report(self, metrics, *, epoch, stage=""):
        self.reports.append((stage, epoch, metrics.flat()))


@dataclass
class Undisturbed:
    """A trial that nothing disturbs."""

    config: Config
    corpus: Corpus
    runtime: Mortal
    result: TrialResult
    weights: dict[str, torch.Tensor]

    @property
    def between_stages(self) -> int:
        """Number of the write between the stages."""
        return self.runtime.written.index((LAST, EPOCHS)) + 1


def run(config: Config, corpus: Corpus, runtime: LocalRuntime) -> TrialResult:
    # What came before in the process must not matter.
    torch.manual_seed(int(torch.randint(0, 1000, ()).item()) + 17)
    return train_trial(config, corpus, runtime)


def lasting(result: TrialResult) -> dict[str, float]:
    return {key: value for key, value in result.metrics.flat().items() if not key.startswith("time/")}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = CheckpointStore(folder).load(BEST)
    assert state is not None
    return state["model"]


@pytest.fixture(scope="module", params=["fresh", "l2e"])
def undisturbed(request, encoders, tmp_path_factory) -> Iterator[Undisturbed]:
    evaluate = StageTrainer.evaluate

    def scripted(self, split, *rest, **options):
        results = evaluate(self, split, *rest, **options)
        if split == "dev":
            epoch = self.state.best_epoch - 1 if self.has_ended() else self.state.epoch
            results.metrics["task_score"] = DEV_SCORES[self.state.stage][epoch]
        return results

    config = tiny_config(encoders["bert"], method=request.param, train__epochs=EPOCHS, train__batch_size=7)
    assert config.train.checkpoint_steps is None
    corpus, folder = tiny_corpus((14, 7, 5)), tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "evaluate", scripted)
        patch.setattr("unirex_ray.training.stage.CHECKPOINT_SECONDS", 0.0)
        runtime = Mortal(folder)
        result = run(config, corpus, runtime)
        yield Undisturbed(config, corpus, runtime, result, weights(folder))


def assert_goes_on(undisturbed: Undisturbed, folder: Path, **kill: int) -> Mortal:
    """Kill a trial and run it to its end: to the same numbers and weights, and no epoch is missing."""
    killed, resumed = Mortal(folder, **kill), Mortal(folder)
    with pytest.raises(Killed):
        run(undisturbed.config, undisturbed.corpus, killed)
    result = run(undisturbed.config, undisturbed.corpus, resumed)
    assert (kill, lasting(result)) == (kill, lasting(undisturbed.result))
    assert (result.epoch, result.highlights) == (undisturbed.result.epoch, undisturbed.result.highlights)
    found = weights(folder)
    assert found.keys() == undisturbed.weights.keys()
    assert all(torch.equal(found[name], undisturbed.weights[name]) for name in found)
    reports, expected = [*killed.reports, *resumed.reports], undisturbed.runtime.reports
    assert all(report in expected for report in reports)
    assert all(report in reports for report in expected)
    assert len(reports) <= len(expected) + 1
    return killed


def test_an_undisturbed_trial_reports_every_epoch_of_both_stages_once(undisturbed):
    reports = undisturbed.runtime.reports
    epochs = range(1, EPOCHS + 1)
    assert [(bool(stage), epoch) for stage, epoch, _ in reports] == [(one, n) for one in (True, False) for n in epochs]
    assert [metrics["dev/task_score"] for _, _, metrics in reports] == [score for part in DEV_SCORES for score in part]


def test_killed_right_after_any_write_a_trial_goes_on_to_the_same_numbers(undisturbed, tmp_path):
    written = undisturbed.runtime.written
    for number in range(1, len(written) + 1):
        killed = assert_goes_on(undisturbed, tmp_path / str(number), after=number)
        assert killed.written == written[:number]


def test_short_epochs_leave_no_checkpoints_and_a_killed_trial_goes_on_to_the_same_numbers(
    undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr("unirex_ray.training.stage.CHECKPOINT_SECONDS", 60.0)
    between, last = EPOCHS, 2 * EPOCHS
    whole = Mortal(tmp_path / "whole")
    assert lasting(run(undisturbed.config, undisturbed.corpus, whole)) == lasting(undisturbed.result)
    best = f"best-1-{undisturbed.result.epoch}.pt"
    assert whole.written == [(LAST, between), (best, last), (INSTANCES, last), (CONFIG, last), (RESULT, last)]
    assert whole.reports == undisturbed.runtime.reports
    for number in range(1, 6):
        for when in ("before", "after"):
            folder = tmp_path / f"{number} {when}"
            killed, resumed = Mortal(folder, **{when: number}), Mortal(folder)
            with pytest.raises(Killed):
                run(undisturbed.config, undisturbed.corpus, killed)
            assert lasting(run(undisturbed.config, undisturbed.corpus, resumed)) == lasting(undisturbed.result)
            assert all(torch.equal(weights(folder)[name], value) for name, value in undisturbed.weights.items())
            began_anew = (number, when) == (1, "before")
            assert len(resumed.reports) == (last if began_anew else 0 if (number, when) == (5, "after") else EPOCHS)


def test_all_workers_take_the_clock_of_the_first_one(encoders, tmp_path, monkeypatch):
    config, corpus, group = tiny_config(encoders["bert"]), tiny_corpus((6, 4, 2)), Group(2, tmp_path)
    trainers = [first_stage(config, corpus, group.runtime(rank)) for rank in range(2)]
    for seconds, due in ((60.0, False), (0.0, True)):
        monkeypatch.setattr("unirex_ray.training.stage.CHECKPOINT_SECONDS", seconds)
        trainers[1]._saved_at = trainers[0]._saved_at + (100.0 if due else -100.0)
        assert group.run(lambda rank: trainers[rank]._checkpoint_is_due()) == [due, due]


def test_killed_between_two_stages_a_trial_goes_on_to_the_same_numbers(undisturbed, tmp_path):
    killed = assert_goes_on(undisturbed, tmp_path, before=undisturbed.between_stages)
    assert len(killed.reports) == EPOCHS


def test_killed_between_a_report_and_its_checkpoint_a_trial_reports_that_epoch_twice(undisturbed, tmp_path):
    number = undisturbed.runtime.written.index((LAST, 1)) + 1
    killed = assert_goes_on(undisturbed, tmp_path, before=number)
    assert [epoch for _, epoch, _ in killed.reports] == [1]
