"""A cluster of several nodes on this machine, reachable from it alone; a program of its own, as Ray reads it once."""

import os

os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "FAKE_EPOCH_SECONDS": "0.5"}

import signal
import sys
import threading
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

LOOPBACK = {"node_ip_address": "127.0.0.1"}


def main(output: Path) -> None:
    """Sweep with two-worker trials over nodes of one CPU each; then two nodes join, and one of the first leaves."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **LOOPBACK})
    leaving = cluster.add_node(num_cpus=1, **LOOPBACK)
    os.environ["RAY_ADDRESS"] = f"127.0.0.1:{cluster.address.rpartition(':')[2]}"

    from helpers import fake_trainer

    from unirex_ray.config import build_config
    from unirex_ray.sweep.run import run_sweep
    from unirex_ray.sweep.space import parse_space

    def trials_that_began() -> int:
        file = output / "events.txt"
        return file.read_text().count("start") if file.exists() else 0

    def change() -> None:
        wait = threading.Event().wait
        while trials_that_began() < 1:
            wait(0.2)
        print("joining", flush=True)
        # Ray sets a handler for each node, which only a main thread may.
        handler, signal.signal = signal.signal, lambda *_: None  # type: ignore[assignment]
        for _ in range(2):
            cluster.add_node(num_cpus=1, **LOOPBACK)
        signal.signal = handler
        while trials_that_began() < 3:
            wait(0.2)
        cluster.remove_node(leaving, allow_graceful=False)
        print("left", flush=True)
        # The nodes that it started end with this thread.
        wait()

    threading.Thread(target=change, daemon=True).start()
    tree = {
        "config": {
            "data": {"limit": 20},
            "train": {"epochs": 6, "workers": 2},
            "sweep": {"methods": ["unirex-slm-fp"], "searcher": "grid", "seeds": [0, 1], "max_failures": 5},
        },
        "parameters": {"loss.comp_margin": {"choice": [1, 2]}},
    }
    space = parse_space(tree, "nodes")
    config = build_config(space.presets, {"output": str(output)})
    outcome = run_sweep(config, space, train_function=fake_trainer.train_fake)
    print(outcome.status, dict(outcome.statuses), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
