"""`ray job submit` of a real sweep to a real cluster of its own, which nothing outside this machine can reach."""

import csv
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from helpers.processes import end, family, free_ports

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LISTENING = "0A"
SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")


@dataclass
class Cluster:
    address: str
    process: int
    logs: Path
    environment: dict[str, str] = field(repr=False)


def sockets(process: int) -> set[str]:
    """Inodes of a process' open sockets."""
    inodes = set()
    for link in Path(f"/proc/{process}/fd").glob("*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    return inodes


def listeners(processes: set[int]) -> set[tuple[str, int]]:
    """Addresses and ports that processes listen on."""
    owned = set().union(*map(sockets, processes))
    addresses = set()
    for table, kind in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path("/proc/net", table)
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            columns = line.split()
            if columns[3] == LISTENING and columns[9] in owned:
                host, port = columns[1].split(":")
                words = [bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8)]
                address = socket.inet_ntop(kind, b"".join(words)).removeprefix("::ffff:")  # IPv4 by way of IPv6
                addresses.add((address, int(port, 16)))
    return addresses


def told_in(places: list[Path], secret: list[str]) -> list[Path]:
    """Files that hold a secret."""
    files = [file for place in places for file in (place, *place.rglob("*")) if file.is_file()]
    assert len(files) > 20
    return [file for file in files if any(word.encode() in file.read_bytes() for word in secret)]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A head node that asks for a token, in a process group of its own."""
    scratch = tempfile.mkdtemp(prefix="ray-")  # the paths of its sockets have room for little more
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    dashboard, head, client, agent, metrics = free_ports(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    environment |= {name: secrets.token_hex(16) for name in SECRETS}
    command = [BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={scratch}"]
    command += [f"--port={head}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"]
    command += ["--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={200 * 2**20}"]
    log = tmp_path / "ray-start.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not (answers(dashboard) and answers(agent)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Cluster(f"http://127.0.0.1:{dashboard}", process.pid, Path(scratch), environment)
    finally:
        end(process)
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc to find listeners and descendants")
def test_a_submitted_sweep_succeeds_and_listens_on_loopback_only(cluster: Cluster, tmp_path: Path) -> None:
    output, space = tmp_path / "output", tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump({"parameters": {"train.learning_rate": {"choice": [1.0e-4]}}}))
    job = ["python", "jobs/sweep.py", "--space", str(space), f"--output={output}", f"--data.cache={tmp_path / 'cache'}"]
    job += ["--sweep.methods=[aa-ig,unirex-slm-fp]", "--sweep.configurations=1", "--sweep.seeds=[0]"]
    job += ["--data.limit=16", "--model.layers=1", "--train.epochs=1", "--train.batch_size=8"]
    submit = [BIN / "ray", "job", "submit", f"--address={cluster.address}", "--working-dir", ROOT, "--", *job]
    with pytest.raises(urllib.error.HTTPError, match=r"40[13]"):
        urllib.request.urlopen(f"{cluster.address}/api/jobs/", timeout=30)  # without the token

    heard = listeners(family(cluster.process))
    log = tmp_path / "submit.txt"
    with log.open("w") as written:
        submitted = subprocess.Popen(
            submit, env=cluster.environment, cwd=tmp_path, stdout=written, stderr=written, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 240
        while submitted.poll() is None and time.monotonic() < deadline:
            heard |= listeners(family(cluster.process))
            time.sleep(0.5)
    finally:
        end(submitted)
    printed = log.read_text()
    assert submitted.returncode == 0, printed
    assert "succeeded" in printed
    assert "python jobs/ui.py " in printed

    token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert (
        told_in([tmp_path / "output", log, cluster.logs], [token, *(cluster.environment[name] for name in SECRETS)])
        == []
    )

    assert {host for host, _ in heard} == {"127.0.0.1"}
    assert int(cluster.address.rpartition(":")[2]) in {port for _, port in heard}

    with (output / "leaderboard.csv").open() as board:
        assert {row["method"] for row in csv.DictReader(board)} == {"aa-ig", "unirex-slm-fp"}
    summary = json.loads((output / "sweep.json").read_text())
    assert summary["status"] == "completed"
    assert list(summary["trials"].values()) == ["completed"] * 2
    assert (output / "mlflow.db").stat().st_size > 0
