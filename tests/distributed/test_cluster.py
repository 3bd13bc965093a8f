import socket

import pytest

from unirex_ray.config import Config, build_config
from unirex_ray.distributed.cluster import connect, place, trials_at_once
from unirex_ray.errors import UserError


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
        ({}, [], "the cluster has 0"),
    ],
)
def test_an_infeasible_plan_shows_the_arithmetic(train: dict, nodes: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        place(config(**train), nodes)


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


def test_a_cluster_that_others_could_reach_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "192.0.2.2")
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("started"))
    with pytest.raises(UserError, match=r"would listen on 192\.0\.2\.2.*RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0"):
        connect()
