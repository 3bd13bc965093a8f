"""`mlflow models serve` answers with what the exported folder predicts."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

import pytest
from helpers.processes import end, free_ports
from helpers.registered_model import Registered, registered

from unirex_ray.inference.model import load_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Registered:
    return registered(tmp_path_factory.mktemp("my sweeps") / "output", encoders["bert"])


@pytest.fixture(scope="module")
def server(made: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The command that the job has printed, on another port, in a folder of its own."""
    (command,) = (line.strip() for line in made.printed.splitlines() if "mlflow models serve" in line)
    (port,) = free_ports(1)
    assert command.endswith(" --port 5001")
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    folder = tmp_path_factory.mktemp("serving")
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(
            ["bash", "-c", command.replace("5001", str(port))],
            cwd=folder,
            env={**os.environ, "PATH": tools},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and started.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=20):
                break
            time.sleep(0.2)
        else:
            raise RuntimeError(f"no server: {(folder / 'log').read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        end(started)


def post(url: str, body: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def test_a_server_gives_labels_probabilities_and_rationales(made: Registered, server: str) -> None:
    texts = ["good1 w1 w2 bad3 w4", "w7 bad1 w3"]
    frame = {"columns": ["text"], "data": [[text] for text in texts]}
    rows = post(server, {"dataframe_split": frame, "params": {"top_k_percent": 50}})["predictions"]
    explanations = load_model(made.folder).explain(texts, top_k_percent=50)
    assert len(rows) == len(texts)
    for row, explanation in zip(rows, explanations, strict=True):
        assert row == {
            "label": explanation.predicted,
            "probability": pytest.approx(explanation.probability, abs=1e-6),
            "probabilities": pytest.approx(explanation.probabilities, abs=1e-6),
            "rationale": explanation.rationale(),
            "complement_probability": pytest.approx(explanation.complement_probability, abs=1e-6),
            "rationale_probability": pytest.approx(explanation.rationale_probability, abs=1e-6),
        }
    assert post(server, {"dataframe_split": frame})["predictions"] != rows  # top_k_percent is 20 unless it is given


def test_what_it_cannot_read_is_told_by_status_400(server: str) -> None:
    with pytest.raises(HTTPError) as caught:
        post(server, {"dataframe_split": {"columns": ["text"], "data": [["good1"], [" "]]}})
    assert caught.value.code == 400
    assert "texts[1] is empty; give a text to explain" in json.load(caught.value)["message"]
