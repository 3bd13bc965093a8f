"""Nodes of a cluster that join and leave while a sweep runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import nodes
from helpers.python_path import with_helpers


@pytest.mark.ray
def test_two_workers_on_two_nodes_while_nodes_join_and_leave(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, nodes.__file__, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": with_helpers()},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    printed = done.stdout
    assert done.returncode == 0, done.stderr[-2000:]
    assert "concurrency: 1;" in printed
    assert "completed {'completed': 6}" in printed
    before, _, after = printed.partition("joined")
    running, most = 0, {}
    for part, text in (("before", before), ("after", after)):
        for event in re.findall(r"s\d +(start|completed|lost)", text):
            running += 1 if event == "start" else -1
            most[part] = max(most.get(part, 0), running)
    assert most == {"before": 1, "after": 2}
