"""A cluster on this machine that scales from zero, by Ray's own autoscaler with pretended nodes."""

import json
import os

os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled", "FAKE_EPOCH_SECONDS": "0.5"}

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.processes import end, free_ports

_HEAD = "f" * 51 + "00000"
_LISTS = ("rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands", "head_setup_commands")
_MORE_LISTS = ("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files")


def _config(address: str, most: int) -> dict[str, object]:
    """A head without CPUs, and at most so many nodes of one CPU."""
    memory = {"object_store_memory": 10**8}
    return {
        "cluster_name": "pretended",
        "max_workers": most,
        "provider": {
            "type": "fake_multinode",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "gcs_address": address,
            "head_node_id": _HEAD,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": 1, **memory}, "node_config": {}, "min_workers": 0, "max_workers": most},
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "file_mounts_sync_continuously": False,
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in (*_LISTS, *_MORE_LISTS)},
    }


@contextmanager
def autoscaled(most: int) -> Iterator[str]:
    """The address of a cluster whose autoscaler starts at most so many nodes of one CPU."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # the paths of its sockets have room for little more
    port, client, agent, metrics = free_ports(4)
    (folder / "config.json").write_text(json.dumps(_config(f"127.0.0.1:{port}", most)))
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=0", f"--port={port}"]
    command += ["--disable-usage-stats", "--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    command += [f"--temp-dir={folder}", f"--autoscaling-config={folder / 'config.json'}"]
    command += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    command += [f"--metrics-export-port={metrics}", "--min-worker-port=0", "--max-worker-port=0"]
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}
    environment |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    environment |= dict.fromkeys(("RAY_CLOUD_INSTANCE_ID", "RAY_OVERRIDE_NODE_ID_FOR_TESTING"), _HEAD)
    log = folder / "log.txt"
    with log.open("w") as output:
        head = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while "runtime started" not in log.read_text():
            if head.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        end(head)
        shutil.rmtree(folder, ignore_errors=True)


def main(output: Path, trials: int, most: int, workers: int = 1) -> None:
    """A sweep that asks for so many trials at once."""
    with autoscaled(most) as address:
        os.environ["RAY_ADDRESS"] = address

        from helpers import fake_trainer

        from unirex_ray.config import build_config
        from unirex_ray.sweep.run import run_sweep
        from unirex_ray.sweep.space import parse_space

        tree = {
            "config": {
                "data": {"limit": 20},
                "train": {"epochs": 4, "workers": workers},
                "sweep": {"methods": ["unirex-slm-fp"], "searcher": "grid", "seeds": [0]},
            },
            "parameters": {"loss.comp_margin": {"choice": [1, 2, 3, 4]}},
        }
        space = parse_space(tree, "autoscaled")
        asked = {"output": str(output), "sweep": {"autoscale": True, "concurrency": trials, "spare_head": True}}
        outcome = run_sweep(build_config(space.presets, asked), space, train_function=fake_trainer.train_fake)
        import ray

        nodes = sum(node["Resources"].get("CPU") == 1 for node in ray.nodes())
        print(outcome.status, dict(outcome.statuses), f"nodes: {nodes}", flush=True)
        ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
