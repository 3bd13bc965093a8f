"""Nodes of a cluster that join and leave while a sweep runs, are asked for, shared, spared and drained."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import autoscaled, nodes, shares
from helpers.python_path import with_helpers


def run(program: ModuleType, *arguments: str) -> str:
    """What a program of the helpers prints."""
    assert program.__file__
    done = subprocess.run(
        [sys.executable, program.__file__, *arguments],
        env={**os.environ, "PYTHONPATH": with_helpers()},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.long
@pytest.mark.ray
def test_two_workers_on_two_nodes_while_nodes_join_and_leave(tmp_path: Path) -> None:
    printed = run(nodes, str(tmp_path / "out"))
    assert "concurrency: 1;" in printed
    assert "completed {'completed': 4}" in printed
    before, _, after = printed.partition("joining")
    running, most = 0, {}
    for part, text in (("before", before), ("after", after)):
        for event in re.findall(r"s\d +(start|completed|lost)", text):
            running += 1 if event == "start" else -1
            most[part] = max(most.get(part, 0), running)
    assert most == {"before": 1, "after": 2}


@pytest.mark.long
@pytest.mark.ray
def test_a_cluster_that_scales_from_zero_is_asked_for_nodes_and_trials_wait_for_them(tmp_path: Path) -> None:
    """Ray's own autoscaler sees trials that wait; it may start two nodes for the three of them."""
    printed = run(autoscaled, str(tmp_path / "out"), "3", "2")
    assert "concurrency: 3 (room for 0 now); a trial: 1 worker x 1 CPU; nodes: none;" in printed
    before, _, _ = printed.partition("epoch 1")
    assert len(re.findall(r"s0 +start", before)) == 3
    assert "completed {'completed': 4} nodes: 2" in printed


@pytest.mark.long
@pytest.mark.ray
def test_trials_share_gpus_and_keep_off_the_head_and_off_a_node_that_is_drained(tmp_path: Path) -> None:
    printed = run(shares, str(tmp_path))
    cluster, *sweeps = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [sweep["completed"] for sweep in sweeps] == [3, 3, 3]
    told = re.findall(r"concurrency: (\d); a trial: (.+); nodes: (.+); trials", printed)
    assert told == [
        ("4", "1 worker x (1 CPU + 0.5 GPU + 0.5 x)", "2 x (2 CPUs + 1 GPU + 1 x)"),
        ("1", "3 workers x 1 CPU", "2 x 2 CPUs"),
        ("2", "1 worker x 1 CPU", "1 x 2 CPUs"),
    ]
    shared, group, drained = sweeps
    assert (shared["nodes"], shared["gpus"]) == (cluster["nodes"], ["0"])
    assert (group["nodes"], drained["nodes"]) == (cluster["nodes"], [cluster["left"]])
