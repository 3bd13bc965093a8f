"""Which Ray cluster a sweep runs on, and how many of its trials that cluster holds at once."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.util
import torch
from ray.core.generated import gcs_pb2
from ray.exceptions import AuthenticationError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from unirex_ray.config import Config
from unirex_ray.config.values import custom_resource
from unirex_ray.errors import UserError, one_line

_DRIVER_CPUS, _WORKER_SPARES = 0.001, 0.01
"""CPUs of the process of a trial with several workers, which only waits for them, and what each worker leaves for such
processes: wherever Ray puts them, a node still holds as many workers as it has CPUs for."""
_PARTS = 10_000
"""In which Ray counts a resource."""
_HEAD = "node:__internal_head__"
"""A resource that only the head node has."""
_ASK_SECONDS = 2.0

Resources = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Which resources a trial takes, and how many trials run at once.

    Attributes:
        plan: the packing in words.
        room: trials that the nodes hold; 0 only where the cluster grows.
        concurrency: trials to run at once, at least 1; more than there is room for only where the cluster grows.
        trial: resources of the trial's own process, which trains where there is one worker.
        worker: resources of each Ray Train worker; None where there is one.
        spare_head: whether all of it has to lie on other nodes than the head.
    """

    plan: str
    room: int
    concurrency: int
    trial: Resources
    worker: Resources | None
    spare_head: bool = False


def connect() -> None:
    """Connect to the cluster that this process belongs to, or start one on this machine, reachable from it alone.

    A submitted job and a process with `RAY_ADDRESS` belong to a cluster. An existing connection is kept.

    Raises:
        UserError: if no cluster answers at `RAY_ADDRESS`; if none can be started on this machine, or only one that
            others could reach.
    """
    address = os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        _probe(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, AuthenticationError) as error:
            raise UserError(
                f"no Ray cluster at RAY_ADDRESS={address!r} ({one_line(error, 200)}); for one that asks for a token, "
                "set RAY_AUTH_MODE=token; unset RAY_ADDRESS to start one on this machine"
            ) from None
        return
    _require_loopback()
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    except Exception as error:  # Ray raises all kinds where one of its processes does not come up, or goes at once
        raise UserError(
            f"no Ray cluster could be started on this machine ({one_line(error, 200)}); "
            "repeat the command, or name a cluster in RAY_ADDRESS"
        ) from None


def check_cluster(config: Config) -> None:
    """Refuse trials that there is no place for, before a cluster is started for them on this machine.

    Raises:
        UserError: as `connect`, where there is a cluster already, and as `place`; where a cluster that would be started
            here is to grow.
    """
    if os.environ.get("RAY_ADDRESS") or ray.is_initialized():
        connect()
        try:
            place(config, node_resources())
        except UserError as error:
            remedy = "if the cluster grows on demand, set sweep.concurrency and --sweep.autoscale=true"
            raise UserError(f"{error}; {remedy}") from None
    elif config.sweep.autoscale:
        raise UserError(
            "sweep.autoscale = True, but a cluster that is started on this machine does not grow; "
            "name another one in RAY_ADDRESS, or set --sweep.autoscale=false"
        )
    else:
        place(config, [{"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count(), _HEAD: 1.0}])


def _require_loopback() -> None:
    """Ray also listens on the address that it finds for this machine, whatever address it is told."""
    own = ray.util.get_node_ip_address()
    if not ipaddress.ip_address(own).is_loopback:
        raise UserError(
            f"Ray would listen on {own}, as it was imported before unirex_ray.distributed; import that first, "
            "or set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0"
        )


def _probe(address: str) -> None:
    """Fail in seconds: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()) or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster at RAY_ADDRESS={address!r} ({error}); unset it to start one on this machine"
        ) from None


def node_resources() -> list[dict[str, float]]:
    """Resources of every node of the connected cluster that is alive, and takes work: one that is drained does not."""
    # Not public: without it, a node that is drained counts until it has left.
    drained: Collection[str] = getattr(ray._private.state.state, "get_draining_nodes", dict)()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in drained]


def selector_of(placement: Placement) -> dict[str, str]:
    """Which nodes of the connected cluster a trial may lie on, as labels that Ray compares; empty for all."""
    if not placement.spare_head:
        return {}
    head = next(node for node in ray.nodes() if node["Alive"] and _HEAD in node["Resources"])
    return {"ray.io/node-id": f"!{head['NodeID']}"}


def free_places_of_the_dead() -> None:
    """Remove this job's placement groups whose creator is dead: the controller of a Ray Train group, with its node.

    Ray Train leaves that to an actor that asks Ray's dashboard, which not every cluster has; Ray itself waits for the
    end of the job, and a trial that goes on elsewhere would wait for these places for ever.
    """
    job = ray.get_runtime_context().get_job_id()
    table = ray._private.state.state._connect_and_get_accessor().get_placement_group_table()
    for group in map(gcs_pb2.PlacementGroupTableData.FromString, table):
        of_actor = group.creator_job_id.hex() == job and not ray.ActorID(group.creator_actor_id).is_nil()
        if of_actor and group.creator_actor_dead and group.state != gcs_pb2.PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))


def cluster_answers() -> bool:
    """Whether the connected cluster and its part on this machine take connections."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    raylet = getattr(getattr(ray._private.worker, "_global_node", None), "raylet_socket_name", None)
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
        if raylet:
            with socket.socket(socket.AF_UNIX) as local:
                local.settimeout(2)
                local.connect(raylet)
    except OSError:
        return False
    return True


PATIENCE_SECONDS = 60.0
"""For which a trial may wait for a place before it says so."""


def place_waited_for(place: str, resources: Resources) -> str:
    """What a trial waits for, and what nobody uses of it on the connected cluster.

    Args:
        resources: of each place.
    """
    free = {kind: amount for kind, amount in ray.available_resources().items() if kind in resources}
    return f"for {place} with {_amounts(resources)} to spare; the cluster's nodes have {_amounts(free)} free in all"


def _amounts(resources: Resources) -> str:
    return ", ".join(f"{amount:g} {kind}" for kind, amount in sorted(resources.items())) or "nothing"


def place(config: Config, nodes: Sequence[Resources]) -> Placement:
    """How many trials the nodes hold, and what each takes.

    A worker takes `train.threads` CPUs (1 by default) of one node and, with `train.gpu`, one GPU or a share of one, and
    its `train.resources`; a trial's workers may lie on several nodes. Of their CPUs the trial's own process takes a
    thousandth.

    Raises:
        UserError: if not even one trial fits, with the arithmetic, unless the cluster grows (`sweep.autoscale`).
    """
    workers, amounts, spare_head = config.train.workers, _worker_amounts(config), config.sweep.spare_head
    if spare_head:
        nodes = [node for node in nodes if _HEAD not in node]
    slots = sum(_slots(node, amounts) for node in nodes)
    if slots < workers and not config.sweep.autoscale:
        spared = " (its head is spared)" if spare_head else ""
        raise UserError(_arithmetic(workers, amounts, nodes, f"the cluster{spared}"))
    room, wanted = slots // workers, config.sweep.concurrency
    # Ray's autoscaler sees a trial that waits as a demand.
    concurrency = wanted if wanted and config.sweep.autoscale else min(room, wanted or room)
    plan = f"{_workers_in_words(workers, amounts)}; nodes: {_nodes_in_words(nodes, amounts)}"
    of_all = Placement(plan=plan, room=room, concurrency=concurrency, trial=amounts, worker=None, spare_head=spare_head)
    if workers == 1:
        return of_all
    return replace(of_all, trial={"CPU": _DRIVER_CPUS}, worker={**amounts, "CPU": amounts["CPU"] - _WORKER_SPARES})


def _worker_amounts(config: Config) -> dict[str, float]:
    """What one worker takes of a node."""
    train = config.train
    gpu = {"GPU": float(train.gpu)} if train.gpu else {}
    return {"CPU": float(train.threads or 1), **gpu, **dict(map(custom_resource, train.resources))}


def _slots(node: Resources, amounts: Resources) -> int:
    """How many times the amounts are in a node; a share of a GPU lies on one of its GPUs."""

    def times(kind: str, amount: float) -> int:
        part, whole = round(amount * _PARTS), round(node.get(kind, 0) * _PARTS)
        return whole // _PARTS * (_PARTS // part) if kind == "GPU" and part < _PARTS else whole // part

    return min(times(kind, amount) for kind, amount in amounts.items())


def _arithmetic(workers: int, amounts: Resources, nodes: Sequence[Resources], cluster: str) -> str:
    """Why a trial does not fit: for a kind that even alone is too little, else for all of them together."""
    kinds = sorted(amounts, key=lambda kind: (kind == "CPU", kind != "GPU"))
    for kind in kinds:
        if sum(_slots(node, {kind: amounts[kind]}) for node in nodes) < workers:
            has = [node.get(kind, 0) for node in nodes]
            largest = f" (at most {max(has):g} on one node)" if len(nodes) > 1 else ""
            return (
                f"{_workers_in_words(workers, {kind: amounts[kind]})} = {_count(workers * amounts[kind], kind)} "
                f"per trial, but {cluster} has {sum(has):g}{largest}; lower train.workers{_remedy(kind)}"
            )
    room = sum(_slots(node, amounts) for node in nodes)
    return (
        f"{_workers_in_words(workers, amounts)} per trial, but {cluster} has room for "
        f"{_count(room, 'worker')}: {_nodes_in_words(nodes, amounts)}; lower train.workers{_remedy('CPU')}"
    )


def _remedy(kind: str) -> str:
    return {"CPU": " or train.threads", "GPU": ", or set --train.gpu=false"}.get(kind, " or train.resources")


def trials_at_once(config: Config, nodes: Callable[[], Sequence[Resources]]) -> Callable[[], int]:
    """How many trials the cluster holds by now, at least 1.

    Args:
        nodes: resources of those that are alive, which join and leave; asked every other second at most.
    """
    asked_at, known = -math.inf, 1

    def ask() -> int:
        nonlocal asked_at, known
        if time.monotonic() - asked_at >= _ASK_SECONDS:
            asked_at = time.monotonic()
            try:
                known = place(config, nodes()).concurrency
            except UserError:
                known = 1  # it waits until there is a place again
        return known

    return ask


def _count(number: float, unit: str) -> str:
    several = unit in ("worker", "CPU", "GPU") and not 0 < number <= 1
    return f"{number:g} {unit}s" if several else f"{number:g} {unit}"


def _in_words(amounts: Resources) -> str:
    words = " + ".join(_count(amount, kind) for kind, amount in amounts.items())
    return f"({words})" if len(amounts) > 1 else words


def _workers_in_words(workers: int, amounts: Resources) -> str:
    return f"{_count(workers, 'worker')} x {_in_words(amounts)}"


def _nodes_in_words(nodes: Sequence[Resources], kinds: Iterable[str]) -> str:
    """Which nodes there are, as far as these kinds of resources go."""
    alike = Counter(_in_words({kind: node.get(kind, 0) for kind in kinds}) for node in nodes)
    return ", ".join(f"{number} x {node}" for node, number in alike.most_common()) or "none"
