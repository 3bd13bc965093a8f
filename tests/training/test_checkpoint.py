import errno
import io
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pyarrow import fs

from unirex_ray.training.checkpoint import BEST, CheckpointStore


def test_states_come_back_exactly(tmp_path):
    store = CheckpointStore(tmp_path / "new" / "folder")
    state = {
        "model": {"w": torch.tensor([1.0, math.nan, 1e-45]), "n": torch.tensor([2**40])},
        "progress": {"best_score": -math.inf, "losses": {"train/loss": 0.1 + 0.2}, "epoch": 3},
    }
    assert store.load(BEST) is None
    store.save(BEST, state)
    loaded = store.load(BEST)
    assert loaded is not None
    assert loaded["progress"] == state["progress"]
    assert torch.equal(loaded["model"]["n"], state["model"]["n"])
    assert loaded["model"]["w"].numpy().tobytes() == state["model"]["w"].numpy().tobytes()
    assert CheckpointStore(tmp_path / "new" / "folder").load(BEST) is not None


class FullDisk(io.RawIOBase):
    """Takes a thousand bytes."""

    written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written += len(data)
        if self.written > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)


def test_a_full_disk_is_told_as_such_and_leaves_the_file(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(BEST, {"epoch": 1})
    full = SimpleNamespace(create_dir=store._fs.create_dir, open_output_stream=lambda *_, **__: FullDisk())
    monkeypatch.setattr(store, "_fs", full)
    with pytest.raises(OSError, match="No space left on device"):
        store.save(BEST, {"w": torch.zeros(10_000)})
    monkeypatch.undo()
    assert store.load(BEST) == {"epoch": 1}


def test_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(BEST, {"epoch": 1})
    monkeypatch.setattr(torch, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        store.load(BEST)


def test_writing_replaces_and_deleting_removes(tmp_path):
    store = CheckpointStore(tmp_path)
    store.write("x", b"old")
    store.write("x", b"new")
    assert store.read("x") == b"new"
    store.delete("x")
    store.delete("x")
    assert store.read("x") is None
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.write("x", b"old")

    class Broken:
        def __init__(self, inner: fs.FileSystem) -> None:
            self._inner = inner

        def __getattr__(self, name: str):
            return getattr(self._inner, name)

        def move(self, source: str, target: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "_fs", Broken(store._fs))
    with pytest.raises(KeyboardInterrupt):
        store.write("x", b"half")
    assert store.read("x") == b"old"
    assert CheckpointStore(tmp_path).read("x") == b"old"


def test_an_object_is_written_at_its_place_and_only_as_a_whole(tmp_path, monkeypatch):
    def break_off() -> None:
        with store._replacing(BEST) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    store = CheckpointStore(tmp_path)
    monkeypatch.setattr(store, "_uploads", True)
    store.save(BEST, {"epoch": 1})
    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert store.load(BEST) == {"epoch": 1}
    store.write(BEST, b"new")
    assert (store.read(BEST), store.names()) == (b"new", [BEST])
    # Nothing is opened before all is written.
    monkeypatch.setattr(store, "_fs", SimpleNamespace(create_dir=lambda *_, **__: None, open_output_stream=None))
    with pytest.raises(KeyboardInterrupt):
        break_off()


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path(tmp_path / "run").touch, ()

    store = CheckpointStore(tmp_path)
    store.save("evil.pt", {"model": Evil()})
    with pytest.raises(Exception, match="Weights only load failed"):
        store.load("evil.pt")
    assert not (tmp_path / "run").exists()


def test_any_file_system_that_pyarrow_knows(tmp_path, monkeypatch):
    store = CheckpointStore((tmp_path / "a folder").as_uri())
    store.write("x", b"1")
    assert (tmp_path / "a folder" / "x").read_bytes() == b"1"
    monkeypatch.chdir(tmp_path)
    relative = CheckpointStore("a folder")
    monkeypatch.chdir("/")
    assert relative.read("x") == b"1"


@pytest.mark.parametrize("can_link", [True, False])
def test_a_file_of_another_folder_is_linked_where_that_can_be(tmp_path, monkeypatch, can_link):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not can_link:
        monkeypatch.setattr("os.link", refuse)
    shared, own = CheckpointStore(tmp_path / "shared"), CheckpointStore(tmp_path / "new")
    shared.save(BEST, {"epoch": 1})
    own.save("best-0-1.pt", {"epoch": 0})
    for name in ("best-0-1.pt", "other.pt"):
        own.link(name, shared, BEST)
        assert own.load(name) == {"epoch": 1}
        assert (tmp_path / "new" / name).samefile(tmp_path / "shared" / BEST) is can_link
    own.save("other.pt", {"epoch": 2})
    assert shared.load(BEST) == {"epoch": 1}
    assert own.names() == ["best-0-1.pt", "other.pt"]
    with pytest.raises(FileNotFoundError, match="missing"):
        own.link("a.pt", shared, "missing")
