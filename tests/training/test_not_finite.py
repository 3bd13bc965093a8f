"""What becomes nan or infinite ends a trial by its name, but on test, which decides nothing."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.recorder import Recorder, run
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.models.rationale_model import build_stage
from unirex_ray.training import learner, stage
from unirex_ray.training.evaluate import Evaluator
from unirex_ray.training.learner import TrainingError


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((20, 10, 10))


@pytest.fixture(scope="module")
def config(encoders) -> Config:
    return tiny_config(
        encoders["bert"], train__epochs=3, train__batch_size=7, train__seed=3, loss__top_k_percents=(10, 50)
    )


def spoilt(results, value: float):
    return replace(results, metrics={**results.metrics, "auprc": value})


def test_a_loss_that_is_not_finite_ends_the_trial_by_name(config, corpus, monkeypatch, tmp_path):
    terms = learner.loss_terms
    calls = []

    def poisoned(*arguments):
        found = terms(*arguments)
        calls.append(1)
        return {**found, "comp": found["comp"] * math.nan} if len(calls) == 2 else found

    monkeypatch.setattr(learner, "loss_terms", poisoned)
    with pytest.raises(TrainingError, match=r"train/loss became nan in epoch 1, .*learning_rate"):
        run(config, corpus, Recorder(tmp_path))
    assert not list(tmp_path.glob("result*"))


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_ends_the_trial_by_name(config, corpus, monkeypatch, tmp_path, value):
    evaluate = Evaluator.__call__
    monkeypatch.setattr(Evaluator, "__call__", lambda self, split, **_: spoilt(evaluate(self, split), value))
    with pytest.raises(TrainingError, match=f"dev/auprc became {value} after epoch 1"):
        run(config, corpus, Recorder(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_test_metric_that_is_not_finite_does_not(config, corpus, monkeypatch, tmp_path, value):
    evaluate, dev = Evaluator.__call__, []

    def spoiled(self, split, **options):
        dev.append(split)
        results = evaluate(self, split, **options)
        return results if split is dev[0] else spoilt(results, value)

    monkeypatch.setattr(Evaluator, "__call__", spoiled)
    result = run(config, corpus, Recorder(tmp_path))
    assert math.isnan(result.metrics.test["auprc"])
    assert math.isfinite(result.metrics.dev["auprc"])
    assert math.isnan(run(config, corpus, Recorder(tmp_path)).metrics.test["auprc"])  # read back


def test_weights_that_are_not_finite_end_the_trial(config, corpus, monkeypatch, tmp_path):
    def broken(*arguments, **options):
        model = build_stage(*arguments, **options)
        torch.nn.init.constant_(model.task_model.head.weight, math.nan)
        return model

    monkeypatch.setattr(stage, "build_stage", broken)
    with pytest.raises(TrainingError, match=r"train/\w+ became nan"):
        run(config, corpus, Recorder(tmp_path))
