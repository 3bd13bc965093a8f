"""What jobs make of options, and what they print at their end."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.job_module import job_module

from unirex_ray.analysis.leaderboard import leaderboard
from unirex_ray.cli.next_steps import after_sweep
from unirex_ray.config import Config
from unirex_ray.sweep import start
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.tracking.protocol import protocol_hash, protocol_of
from unirex_ray.tracking.records import TrialStatus


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
    assert view == "python jobs/ui.py 'my out'"

    # A server may hold other sweeps, on other data.
    shared = config.changed({"tracking.uri": "http://host:5000"})
    compare, export, _, view = after_sweep(done, shared)
    assert compare.endswith(f" --tracking.uri=http://host:5000 --protocol={protocol_hash(protocol_of(settings))}")
    assert export.endswith(" --tracking.uri=http://host:5000 --sweep-id=s1")
    assert view == "open http://host:5000"

    assert after_sweep(replace(done, best=None, statuses={"completed": 3}), shared) == [compare, view]
    assert after_sweep(replace(done, best=None, statuses={"failed": 3}), shared) == [view]

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
    monkeypatch.setattr(start, "run_sweep", lambda *_, **__: outcome)
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
