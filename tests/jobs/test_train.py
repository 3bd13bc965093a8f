"""The training job says what it goes by before it trains."""

import sys
from pathlib import Path

import pytest
from helpers.job_module import job_module

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.training.learner import TrainingError


def test_the_precision_is_told_first_and_is_what_the_trial_gets(
    encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Config] = []

    def train_anywhere(config: Config, corpus: Corpus) -> None:
        given.append(config)
        raise TrainingError("enough is known")

    monkeypatch.setattr("unirex_ray.api.train.train_anywhere", train_anywhere)
    options = [f"--output={tmp_path}", f"--data.cache={tmp_path / 'cache'}", f"--model.encoder={encoders['bert']}"]
    monkeypatch.setattr(sys, "argv", ["train.py", "--data.limit=6", *options])
    with pytest.raises(SystemExit, match="training failed: enough is known"):
        job_module("train").main()
    precision, encoder, *_ = capsys.readouterr().out.splitlines()
    assert precision.startswith(f"train.precision=auto: {given[0].train.precision}, as ")
    assert given[0].train.precision in ("fp32", "bf16")
    assert encoder.startswith("encoder ")
