"""A sample of what `campaign.py` does at length: sweeps that are disturbed end as those that are not."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.chaos import Episode, disturb, plan
from helpers.chaos_kinds import KINDS
from helpers.chaos_place import Place, can_mount, small_disk
from helpers.mlflow_server import Server

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.ray,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

QUICK = [name for name, kind in KINDS.items() if not kind.slow and not kind.needs_disk]
DISKS = [name for name, kind in KINDS.items() if kind.needs_disk]
*LONGER, QUICKEST = plan(1163, 12, QUICK, together=4)
EPISODES = [
    *(pytest.param(episode, marks=pytest.mark.long) for episode in LONGER),
    QUICKEST,
    *plan(2, len(DISKS), DISKS),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="ray-") as ray, small_disk(Path(ray), 256):
        place = Place(tmp_path_factory.mktemp("chaos"), Path(ray))
        yield place
        staying = place.staying(wait=True)
        place.close()
        assert not staying


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Server]:
    server = Server(place.root / "server", place.environment(place.root))
    yield server
    server.stop()


@pytest.mark.parametrize("episode", EPISODES, ids=lambda e: ", ".join(i.kind for i in e.injections))
def test_a_disturbed_sweep_ends_as_an_undisturbed_one(episode: Episode, place: Place, server: Server) -> None:
    if any(KINDS[i.kind].needs_disk for i in episode.injections) and not can_mount(place.root):
        pytest.skip("a full disk needs a file system of its own, which this process may not mount")
    rows, faults = disturb(place, episode, server)
    assert not faults, rows
    # A loaded machine may let some of them come too late.
    assert sum(row["detail"] != "missed" for row in rows) >= (len(rows) + 1) // 2
