"""Sweeps over the nodes of a cluster, on which one may share a GPU and others may not be used; a program of its own."""

import os

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ.setdefault("FAKE_EPOCH_SECONDS", "0.5")

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ray
from helpers.fake_trainer import train_fake
from helpers.nodes import LOOPBACK
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from unirex_ray.config import Config, build_config
from unirex_ray.data.schema import Corpus
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.space import parse_space
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.state import TrialResult


def train_where(config: Config, corpus: Corpus, runtime: Runtime) -> TrialResult:
    """Says on which node it is, and which GPUs it sees."""
    where = {"node": ray.get_runtime_context().get_node_id(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
    with (Path(config.output) / "where.txt").open("a") as file:
        file.write(json.dumps(where) + "\n")
    return train_fake(config, corpus, runtime)


@ray.remote(num_cpus=1)
class Busy:
    """Work on a node."""


def sweep(output: Path, **train: Any) -> None:
    """Three trials off the head; prints the nodes and GPUs that they saw."""
    tree = {
        "config": {
            "data": {"limit": 20},
            "train": {"epochs": 2, **train},
            "sweep": {"methods": ["unirex-slm-fp"], "searcher": "grid", "seeds": [0], "spare_head": True},
        },
        "parameters": {"loss.comp_margin": {"choice": [1, 2, 3]}},
    }
    space = parse_space(tree, "shares")
    outcome = run_sweep(build_config(space.presets, {"output": str(output)}), space, train_function=train_where)
    seen = [json.loads(line) for line in (output / "where.txt").read_text().splitlines()]
    nodes, gpus = (sorted({str(where[kind]) for where in seen}) for kind in ("node", "gpu"))
    print(json.dumps({"completed": outcome.statuses["completed"], "nodes": nodes, "gpus": gpus}), flush=True)


def main(output: Path) -> None:
    """Sweeps on a cluster whose head has the most; one of its nodes is drained before the last of them."""
    head = {"num_cpus": 9, "num_gpus": 9, "resources": {"x": 9}, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, **LOOPBACK})
    one, other = (cluster.add_node(num_cpus=2, num_gpus=1, resources={"x": 1}, **LOOPBACK) for _ in range(2))
    address = f"127.0.0.1:{cluster.address.rpartition(':')[2]}"
    os.environ["RAY_ADDRESS"] = address
    print(json.dumps({"nodes": sorted([one.node_id, other.node_id]), "left": one.node_id}), flush=True)
    sweep(output / "shares", gpu=0.5, resources=["x=0.5"])
    sweep(output / "group", workers=3)
    # Ray ends a node that is drained when nothing is left on it.
    there = NodeAffinitySchedulingStrategy(other.node_id, soft=False)
    busy = Busy.options(scheduling_strategy=there).remote()  # type: ignore[attr-defined]
    ray.get(busy.__ray_ready__.remote())
    drain = ["ray", "drain-node", f"--address={address}", f"--node-id={other.node_id}"]
    reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=test", "--deadline-remaining-seconds=600"]
    subprocess.run([str(Path(sys.executable).parent / drain[0]), *drain[1:], *reason], check=True)
    sweep(output / "drained")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
