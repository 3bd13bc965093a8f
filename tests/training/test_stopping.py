"""When a stage stops, which epoch is taken, and when dev is explained."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from helpers.recorder import Killed, Recorder, assert_equal_weights, lasting, run, weights
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.methods import METHODS
from unirex_ray.training.checkpoint import LAST
from unirex_ray.training.evaluate import Evaluator
from unirex_ray.training.learner import Learner
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.setup import prepare_trial
from unirex_ray.training.stage import stages_from
from unirex_ray.training.state import TrialFiles


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((20, 10, 10))


@pytest.fixture(scope="module")
def config(encoders) -> Config:
    return tiny_config(
        encoders["bert"], train__epochs=3, train__batch_size=7, train__seed=3, loss__top_k_percents=(10, 50)
    )


TEST_SIZE = 7


class Seen(NamedTuple):
    """An evaluation: its split's size, whether it explained, and the weights that it saw."""

    size: int
    explained: bool
    weights: dict[str, torch.Tensor]


def scripted(monkeypatch, scores: list[float], **further: list[float]) -> list[Seen]:
    """Scores of dev, and where it is explained further metrics, by epoch, are the script's; returns what was seen."""
    seen: list[Seen] = []
    epochs: list[torch.Tensor] = []
    evaluate = Evaluator.__call__

    def call(self, split, *, explain=True, keep_scores=False):
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        seen.append(Seen(len(split), explain, weights))
        results = evaluate(self, split, explain=explain, keep_scores=keep_scores)
        if len(split) == TEST_SIZE:
            return results
        head = weights["task_model.head.weight"]
        epoch = next((index for index, other in enumerate(epochs) if torch.equal(other, head)), len(epochs))
        epochs[epoch:] = [head]
        by_script = {"task_score": scores, **(further if explain else {})}
        metrics = {**results.metrics, **{key: values[epoch] for key, values in by_script.items()}}
        return replace(results, metrics=metrics)

    monkeypatch.setattr(Evaluator, "__call__", call)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scores", "epochs", "best"),
    [
        ([50.0, 60.0, 60.0, 55.0, 99.0], 4, 2),  # equal is not better; two epochs of patience
        ([0.0, 0.0, 0.0], 3, 1),  # a score of 0 is a score
        ([50.0, 40.0, 51.0, 40.0, 52.0], 5, 5),
        ([50.0, 40.0, 30.0], 3, 1),
    ],
)
def test_early_stopping_and_test_once_with_the_best_weights(config, monkeypatch, tmp_path, scores, epochs, best):
    seen = scripted(monkeypatch, scores)
    config = config.changed({"train.epochs": 5, "train.patience": 2})
    runtime = Recorder(tmp_path)
    result = run(config, tiny_corpus((9, 5, TEST_SIZE)), runtime)
    by_epoch = [evaluation for evaluation in seen if not evaluation.explained]
    assert [evaluation.size for evaluation in by_epoch] == [5] * epochs
    # Epochs that tie with the best so far, then the best checkpoint on dev and on test.
    ties = sum(score == max(scores[:number]) for number, score in enumerate(scores[:epochs]) if number)
    assert [evaluation.size for evaluation in seen if evaluation.explained] == [5] * ties + [5, TEST_SIZE]
    assert [epoch for epoch, _ in runtime.reports] == list(range(1, epochs + 1))
    assert result.epoch == best
    assert result.metrics.flat()["dev/task_score"] == scores[best - 1]
    for final in seen[-2:]:
        assert_equal_weights(final.weights, by_epoch[best - 1].weights)
        assert_equal_weights(final.weights, weights(tmp_path))
        if epochs != best:
            last = by_epoch[-1].weights
            assert not torch.equal(final.weights["task_model.head.weight"], last["task_model.head.weight"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    sorted(METHODS),
)
def test_explaining_dev_after_every_epoch_changes_no_final_metric(config, corpus, tmp_path, method):
    config = config.changed({"method": method, "train.epochs": 4, "train.learning_rate": 1e-3})
    seldom, always = Recorder(tmp_path / "seldom"), Recorder(tmp_path / "always")
    one, other = run(config, corpus, seldom), run(config.changed({"train.explain_every": 1}), corpus, always)
    assert (lasting(one.metrics), one.epoch) == (lasting(other.metrics), other.epoch)
    assert one.highlights == other.highlights
    assert_equal_weights(weights(tmp_path / "seldom"), weights(tmp_path / "always"))
    explained = [sum("dev/comprehensiveness" in metrics for _, metrics in r.reports) for r in (seldom, always)]
    assert explained[0] < explained[1] == 4
    # Either goes on where the other was.
    assert run(config, corpus, Recorder(tmp_path / "always")) == other


@pytest.mark.slow
def test_dev_is_explained_at_rungs_and_where_the_user_asks(config, tmp_path, monkeypatch):
    def explained(**changes: Any) -> list[int]:
        runtime = Recorder(tmp_path / str(len(list(tmp_path.iterdir()))))
        scripted(monkeypatch, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        run(config.changed({"train.epochs": 6, **changes}), tiny_corpus((9, 5, TEST_SIZE)), runtime)
        monkeypatch.undo()
        return [epoch for epoch, metrics in runtime.reports if "dev/comprehensiveness" in metrics]

    assert explained() == []
    first, later = [config.train.seed, 0], [0, config.train.seed]
    assert explained(sweep__rungs=[2, 5], sweep__seeds=first) == [2, 5]
    assert explained(sweep__rungs=[2, 5], sweep__seeds=later) == []  # rungs compare first seeds alone
    assert explained(train__explain_every=2) == [2, 4, 6]
    assert explained(train__explain_every=4, sweep__rungs=[3], sweep__seeds=first) == [3, 4]


@pytest.mark.slow
def test_a_trial_that_a_rung_stops_goes_on_from_that_epoch_and_reports_it_again(config, monkeypatch, tmp_path):
    monkeypatch.setattr("unirex_ray.training.stage.CHECKPOINT_SECONDS", 60.0)
    changes = {"train.epochs": 4, "sweep.rungs": [2], "sweep.seeds": [config.train.seed]}
    config, corpus = config.changed(changes), tiny_corpus((20, 10, TEST_SIZE))
    whole = Recorder(tmp_path / "whole")
    expected = lasting(run(config, corpus, whole).metrics)
    trained = []
    run_epoch = Learner.run_epoch
    monkeypatch.setattr(
        Learner, "run_epoch", lambda self, *save: (trained.append(self.state.epoch + 1), run_epoch(self, *save))
    )
    stopped = Recorder(tmp_path / "stopped")
    report = stopped.report

    def stop(metrics, *, epoch, stage=""):
        report(metrics, epoch=epoch, stage=stage)
        if epoch == 2:
            raise Killed

    stopped.report = stop
    with pytest.raises(Killed):
        run(config, corpus, stopped)
    assert trained == [1, 2]
    promoted = Recorder(tmp_path / "stopped")
    assert lasting(run(config, corpus, promoted).metrics) == expected
    assert trained == [1, 2, 3, 4]
    assert [*stopped.reports, *promoted.reports[1:]] == whole.reports
    assert promoted.reports[0] == stopped.reports[-1]


def test_epochs_that_tie_with_the_best_are_counted_with_what_they_would_have_given(config, monkeypatch, tmp_path):
    comp, suff = [0.2, 0.3, 0.25, 0.9, 0.5], [0.1, 0.4, 0.1, 0.9, 0.2]
    scripted(monkeypatch, [70.0, 80.0, 80.0, 75.0, 80.0], comprehensiveness=comp, sufficiency=suff)
    runtime = Recorder(tmp_path, kill_at=6)  # within the epochs that tie
    config, corpus = config.changed({"train.epochs": 5}), tiny_corpus((20, 10, TEST_SIZE))
    with pytest.raises(Killed):
        run(config, corpus, runtime)
    dev = run(config, corpus, Recorder(tmp_path)).metrics.dev
    assert (dev["tied_epochs"], dev["comprehensiveness"]) == (3, 0.3)
    assert dev["tied_comp_range"] == pytest.approx(0.25)
    assert dev["tied_suff_range"] == pytest.approx(0.3)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [1, 3])
def test_a_long_epoch_leaves_checkpoints_by_the_clock_and_a_kill_within_costs_no_number(
    config, corpus, monkeypatch, tmp_path, kill_at
):
    """Of six steps an epoch, which is longer than the clock's pause, looked at after two of them."""
    config = config.changed({"train.epochs": 2, "train.batch_size": 4})
    corpus = tiny_corpus((24, 10, TEST_SIZE))
    monkeypatch.setattr("unirex_ray.training.learner.CHECK_EVERY", 2)
    whole = Recorder(tmp_path / "whole")
    expected = run(config, corpus, whole)
    assert whole.written[:2] == [LAST, LAST]  # before any epoch has ended, which brings best weights

    killed = Recorder(tmp_path / "killed", kill_at=kill_at)
    with pytest.raises(Killed):
        run(config, corpus, killed)
    state = killed.checkpoints.load(LAST)["progress"]
    assert (state["epoch"], state["step"]) == {1: (0, 2), 3: (0, 4)}[kill_at]
    monkeypatch.setattr("unirex_ray.training.stage.CHECKPOINT_SECONDS", 60.0)
    resumed = Recorder(tmp_path / "killed")
    assert lasting(run(config, corpus, resumed).metrics) == lasting(expected.metrics)
    assert resumed.written[0] != LAST
    assert_equal_weights(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_checkpoints_become_rarer_where_they_take_long(config, corpus, monkeypatch, tmp_path):
    """A save of six seconds doubles the pause of a minute."""
    now = [0.0]
    monkeypatch.setattr("unirex_ray.training.stage.CHECKPOINT_SECONDS", 60.0)
    monkeypatch.setattr("unirex_ray.training.stage.time", SimpleNamespace(monotonic=lambda: now[0]))
    runtime = LocalRuntime(tmp_path)
    setup = prepare_trial(config, corpus, runtime.device)
    (trainer,) = stages_from(None, setup, TrialFiles(runtime, "identity"), runtime)

    def due_after(seconds: float) -> bool:
        now[0] = trainer._saved_at + seconds
        return trainer._checkpoint_is_due()

    assert [due_after(59), due_after(60)] == [False, True]
    save = trainer.files.save_last

    def slow(checkpoint):
        save(checkpoint)
        now[0] += 6

    monkeypatch.setattr(trainer.files, "save_last", slow)
    trainer.save()
    assert [due_after(119), due_after(120)] == [False, True]
