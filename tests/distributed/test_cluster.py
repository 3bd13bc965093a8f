import re
import socket
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from ray.core.generated import gcs_pb2
from ray.exceptions import AuthenticationError

from unirex_ray.config import Config, build_config
from unirex_ray.distributed.cluster import (
    check_cluster,
    connect,
    free_places_of_the_dead,
    place,
    trials_at_once,
)
from unirex_ray.errors import StoppedError, UserError
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.space import parse_space


def config(**train: object) -> Config:
    sweep = {"concurrency": train.pop("concurrency", None)}
    return build_config({"train": train, "sweep": sweep})


@pytest.mark.parametrize(
    ("train", "nodes", "concurrency"),
    [
        ({}, [{"CPU": 2.0}], 2),
        ({"threads": 2}, [{"CPU": 5.0}], 2),
        ({"threads": 3}, [{"CPU": 5.0}, {"CPU": 4.0}], 2),
        ({"concurrency": 1}, [{"CPU": 2.0}], 1),
        ({"concurrency": 9}, [{"CPU": 2.0}], 2),
        ({"gpu": True}, [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 4.0}], 3),
        ({"workers": 2}, [{"CPU": 2.0}], 1),
        ({"workers": 3}, [{"CPU": 4.0}, {"CPU": 4.0}], 2),
        ({"workers": 4, "gpu": True}, [{"CPU": 16.0, "GPU": 8.0}], 2),
        ({"gpu": 0.5}, [{"CPU": 16.0, "GPU": 2.0}], 4),
        ({"gpu": 0.6}, [{"CPU": 16.0, "GPU": 2.0}], 2),  # what two GPUs leave is no share of one
        ({"gpu": 0.1}, [{"CPU": 16.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 1.0}, {"CPU": 64.0}], 13),
        ({"resources": ["tpu=2"]}, [{"CPU": 8.0, "tpu": 5.0}, {"CPU": 8.0}], 2),
        ({"resources": ["a:b=0.1", "x=1"]}, [{"CPU": 64.0, "a:b": 1.0, "x": 99.0}], 10),
        ({"workers": 2, "resources": ["x=1"]}, [{"CPU": 2.0, "x": 1.0}, {"CPU": 1.0, "x": 3.0}, {"CPU": 9.0}], 1),
    ],
)
def test_concurrency_follows_from_the_nodes(train: dict, nodes: list, concurrency: int) -> None:
    assert place(config(**train), nodes).concurrency == concurrency


@pytest.mark.parametrize(
    ("train", "nodes", "concurrency"),
    [
        ({"workers": 2}, [1.0, 1.0], 1),
        ({"workers": 2}, [1.0] * 8, 4),
        ({"workers": 4, "threads": 8}, [16.0, 16.0], 1),
        ({"workers": 3, "threads": 2}, [6.0], 1),
    ],
)
def test_a_full_node_has_room_for_the_processes_of_all_trials(train: dict, nodes: list, concurrency: int) -> None:
    """Wherever Ray puts these, the workers still fit, as many to a node as it has CPUs for."""
    placement = place(config(**train), [{"CPU": cpus} for cpus in nodes])
    assert placement.concurrency == concurrency
    assert placement.worker is not None
    workers = int(min(nodes) // train.get("threads", 1))
    assert workers * placement.worker["CPU"] + concurrency * placement.trial["CPU"] <= min(nodes)
    assert placement.worker["CPU"] > 0.98


def test_one_worker_takes_whole_cpus() -> None:
    assert place(config(threads=2), [{"CPU": 6.0}]).trial == {"CPU": 2.0}


@pytest.mark.parametrize(
    ("train", "nodes", "message"),
    [
        (
            {"workers": 3},
            [{"CPU": 2.0}],
            "3 workers x 1 CPU = 3 CPUs per trial, but the cluster has 2; lower train.workers",
        ),
        (
            {"threads": 4},
            [{"CPU": 3.0}] * 2,
            r"1 worker x 4 CPUs = 4 CPUs per trial, but the cluster has 6 \(at most 3 on",
        ),
        (
            {"gpu": True},
            [{"CPU": 2.0}],
            "1 worker x 1 GPU = 1 GPU per trial, but the cluster has 0; .*--train.gpu=false",
        ),
        ({"gpu": True, "workers": 2}, [{"CPU": 8.0, "GPU": 1.0}], "2 workers x 1 GPU = 2 GPUs per trial"),
        ({"gpu": 0.5}, [{"CPU": 8.0}], "1 worker x 0.5 GPU = 0.5 GPU per trial, but the cluster has 0; .*--train.gpu="),
        (
            {"workers": 3, "resources": ["tpu=2"]},
            [{"CPU": 8.0, "tpu": 3.0}] * 2,
            r"3 workers x 2 tpu = 6 tpu per trial, but the cluster has 6 \(at most 3 on one node\); .*train.resources",
        ),
        (
            {"gpu": True, "threads": 2},
            [{"CPU": 16.0}, {"CPU": 1.0, "GPU": 4.0}, {"CPU": 1.0, "GPU": 4.0}],
            r"1 worker x \(2 CPUs \+ 1 GPU\) per trial, but the cluster has room for 0 workers: "
            r"2 x \(1 CPU \+ 4 GPUs\), 1 x \(16 CPUs \+ 0 GPUs\); lower train.workers or train.threads",
        ),
        ({}, [], "the cluster has 0"),
    ],
)
def test_an_infeasible_plan_shows_the_arithmetic(train: dict, nodes: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        place(config(**train), nodes)


def test_a_head_that_is_spared_holds_no_trial() -> None:
    head, node = {"CPU": 8.0, "node:__internal_head__": 1.0}, {"CPU": 2.0}
    spared = config().changed({"sweep.spare_head": True})
    assert place(spared, [head, node, node]).concurrency == 4
    assert (place(spared, [head, node]).spare_head, place(config(), [head, node]).spare_head) == (True, False)
    with pytest.raises(
        UserError, match=r"1 worker x 1 CPU = 1 CPU per trial, but the cluster \(its head is spared\) has 0"
    ):
        place(spared, [head])


def test_a_cluster_that_grows_is_asked_for_as_many_trials_as_the_user_wants() -> None:
    asked = config(threads=2, concurrency=3).changed({"sweep.autoscale": True})
    for nodes, room in (([], 0), ([{"CPU": 0.0}], 0), ([{"CPU": 4.0}], 2), ([{"CPU": 9.0}], 4)):
        placement = place(asked, nodes)
        assert (placement.room, placement.concurrency) == (room, 3)
    with pytest.raises(UserError, match=r"sweep\.autoscale = True: set sweep\.concurrency as well"):
        config().changed({"sweep.autoscale": True})


def test_a_cluster_of_this_machine_does_not_grow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    asked = config(concurrency=3).changed({"sweep.autoscale": True, "output": str(tmp_path / "out")})
    with pytest.raises(UserError, match=r"sweep\.autoscale = True, .* does not grow; name another one in RAY_ADDRESS"):
        run_sweep(asked, parse_space({}, "s.yaml"))
    assert not (tmp_path / "out").exists()


def test_a_refusal_on_a_cluster_that_may_grow_says_how_to_ask_for_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unirex_ray.distributed.cluster.connect", lambda: None)
    monkeypatch.setattr("unirex_ray.distributed.cluster.node_resources", lambda: [{"CPU": 0.0}])
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"the cluster has 0; .*if the cluster grows .* --sweep.autoscale=true$"):
        check_cluster(config())
    check_cluster(config(concurrency=3).changed({"sweep.autoscale": True}))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    check_cluster(config(threads=2))
    with pytest.raises(UserError, match=r"the cluster has 2; lower train.workers or train.threads$"):
        check_cluster(config(threads=3))
    with pytest.raises(UserError, match=r"the cluster \(its head is spared\) has 0"):
        check_cluster(config().changed({"sweep.spare_head": True}))


def test_the_plan_is_told_in_words() -> None:
    assert place(config(), [{"CPU": 2.0, "memory": 1e9}]).plan == "1 worker x 1 CPU; nodes: 1 x 2 CPUs"
    nodes = [{"CPU": 4.0}, *[{"CPU": 8.0, "GPU": 1.0, "x": 1.0}] * 2]
    told = place(config(gpu=0.25, threads=2, resources=["x=0.5"]), nodes).plan
    assert told == (
        "1 worker x (2 CPUs + 0.25 GPU + 0.5 x); nodes: 2 x (8 CPUs + 1 GPU + 1 x), 1 x (4 CPUs + 0 GPUs + 0 x)"
    )


def test_a_worker_takes_its_share_and_its_resources() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0, "x": 4.0}]
    assert place(config(gpu=0.25, resources=["x=2"]), nodes).trial == {"CPU": 1.0, "GPU": 0.25, "x": 2.0}
    group = place(config(gpu=True, workers=2, resources=["x=2"]), nodes)
    assert group.worker == {"CPU": 0.99, "GPU": 1.0, "x": 2.0}
    assert group.trial == {"CPU": 0.001}


def by_hand(worker: dict[str, Fraction], nodes: list[dict[str, float]]) -> int:
    """How many workers the nodes hold, one put down after the other, a share of a GPU on the first that has it."""
    number = 0
    for node in nodes:
        free = {kind: Fraction(node.get(kind, 0)) for kind in worker if kind != "GPU"}
        gpus = [Fraction(1)] * int(node.get("GPU", 0))
        while all(free[kind] >= worker[kind] for kind in free):
            if share := worker.get("GPU"):
                on = next((number for number, left in enumerate(gpus) if left >= share), None)
                if on is None:
                    break
                gpus[on] -= share
            for kind in free:
                free[kind] -= worker[kind]
            number += 1
    return number


SHARES = st.one_of(st.booleans(), st.integers(1, 99).map(lambda percent: percent / 100))
AMOUNTS = st.one_of(st.integers(1, 3).map(float), st.integers(1, 99).map(lambda percent: percent / 100))
NODES = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 9).map(float)}, optional={"GPU": st.just(2.0), "x": st.just(3.0)}),
    max_size=4,
)


@given(share=SHARES, amount=AMOUNTS | st.none(), threads=st.integers(1, 3), workers=st.integers(1, 4), nodes=NODES)
def test_packing_is_what_comes_of_placing_one_worker_after_the_other(
    share: bool | float, amount: float | None, threads: int, workers: int, nodes: list[dict[str, float]]
) -> None:
    workers = 1 if type(share) is float else workers
    worker = {"CPU": Fraction(threads)}
    worker |= {"GPU": Fraction(str(float(share)))} if share else {}
    worker |= {"x": Fraction(str(amount))} if amount else {}
    trials = by_hand(worker, nodes) // workers
    wanted = config(gpu=share, threads=threads, workers=workers, resources=[f"x={amount}"] if amount else [])
    if trials:
        assert place(wanted, nodes).concurrency == trials
    else:
        with pytest.raises(UserError, match=re.escape(f"{workers} worker")):
            place(wanted, nodes)


def test_trials_at_once_follow_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, nodes, asked = [100.0], [{"CPU": 1.0}], []
    monkeypatch.setattr("unirex_ray.distributed.cluster.time.monotonic", lambda: clock[0])

    def ask() -> list[dict[str, float]]:
        asked.append(clock[0])
        return nodes

    now = trials_at_once(config(), ask)
    assert (now(), now(), asked) == (1, 1, [100.0])
    nodes.append({"CPU": 2.0})
    assert now() == 1  # every other second
    clock[0] += 2
    assert now() == 3
    nodes.clear()
    clock[0] += 2
    assert now() == 1  # a trial that waits for a node


def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(UserError, match=f"no Ray cluster at RAY_ADDRESS='{address}'"):
        connect()


@pytest.mark.parametrize("error", [ConnectionError("Failed to connect"), AuthenticationError("no token\nwas found")])
def test_a_cluster_that_asks_for_a_token_is_told_apart(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise error

    with socket.socket() as cluster:
        cluster.bind(("127.0.0.1", 0))
        cluster.listen()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{cluster.getsockname()[1]}")
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setattr("ray.init", refuse)
        with pytest.raises(UserError, match="for one that asks for a token, set RAY_AUTH_MODE=token") as caught:
            connect()
    assert "\n" not in str(caught.value)


def test_a_cluster_that_others_could_reach_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "192.0.2.2")
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("started"))
    with pytest.raises(UserError, match=r"would listen on 192\.0\.2\.2.*RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0"):
        connect()


def test_a_cluster_of_ones_own_that_does_not_come_up_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: BaseException) -> None:
        def init(**_: object) -> None:
            raise error

        monkeypatch.setattr("ray.init", init)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("unirex_ray.distributed.cluster._require_loopback", lambda: None)
    fail(Exception("Timed out waiting for file\n gcs_server_port"))
    with pytest.raises(UserError, match=r"no Ray cluster could be started .*for file gcs_server_port\); repeat"):
        connect()
    fail(StoppedError("stopped by SIGTERM", exit_code=143))
    with pytest.raises(StoppedError):
        connect()


def test_only_places_whose_creator_is_dead_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of trials have no actor for a creator, and count as dead in Ray's table."""
    own, other, actor = ray.JobID.from_int(1), ray.JobID.from_int(2), b"\x07" * ray.ActorID.size()
    table = {"CREATED": gcs_pb2.PlacementGroupTableData.CREATED, "REMOVED": gcs_pb2.PlacementGroupTableData.REMOVED}
    nil = ray.ActorID.nil().binary()
    rows = {
        "lost": (own, actor, True, "CREATED"),
        "in use": (own, actor, False, "CREATED"),
        "of a trial": (own, nil, True, "CREATED"),
        "gone": (own, actor, True, "REMOVED"),
        "of another job": (other, actor, True, "CREATED"),
    }
    groups = {
        name: gcs_pb2.PlacementGroupTableData(
            placement_group_id=bytes([number]) * ray.PlacementGroupID.size(),
            creator_job_id=job.binary(),
            creator_actor_id=creator,
            creator_actor_dead=dead,
            state=table[state],
        )
        for number, (name, (job, creator, dead, state)) in enumerate(rows.items(), start=1)
    }
    accessor = SimpleNamespace(get_placement_group_table=lambda: [g.SerializeToString() for g in groups.values()])
    monkeypatch.setattr(ray._private.state.state, "_connect_and_get_accessor", lambda: accessor)
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_job_id=own.hex))
    removed: list[bytes] = []
    monkeypatch.setattr(
        "unirex_ray.distributed.cluster.remove_placement_group", lambda group: removed.append(group.id.binary())
    )
    free_places_of_the_dead()
    assert removed == [groups["lost"].placement_group_id]
