import json
import os
import re
import socket
from contextlib import closing
from pathlib import Path

import pytest

from unirex_ray.config import Config
from unirex_ray.errors import UserError
from unirex_ray.sweep.folder import SweepFolder, open_trial
from unirex_ray.sweep.plan import plan_sweep
from unirex_ray.sweep.recording import sync
from unirex_ray.sweep.space import Space, parse_space
from unirex_ray.tracking.store import SWEEP
from unirex_ray.training.checkpoint import CheckpointStore, below

SPACE = parse_space({"parameters": {"train.warmup": {"uniform": [0, 0.5]}}}, "s")


URI = "sqlite:///runs.db"


def settings(digest: str = "d", space: Space = SPACE, **overrides: object) -> dict:
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    return plan_sweep(Config(method="aa-ig").changed(changed), space).settings(digest)


def begin_in(folder: SweepFolder, now: dict, stored: dict | None, uri: str, **options: bool) -> dict:
    return folder.begin(now if stored is None else folder.check(now, stored, **options), stored, uri)


def test_a_folder_holds_one_sweep(tmp_path: Path) -> None:
    folder = SweepFolder(str(tmp_path / "out"))
    assert folder.find(resume=True) is None
    begun = begin_in(folder, settings(), None, URI)
    with pytest.raises(UserError, match=f"already holds the sweep {begun['sweep_id']}; add --resume"):
        folder.find(resume=False)
    free = settings(output="elsewhere", sweep__concurrency=1, data__source="moved", tracking__uri="sqlite:////x")
    assert begin_in(folder, free, folder.find(resume=True), URI) == begun


def test_resuming_with_other_settings_names_them(tmp_path: Path) -> None:
    folder = SweepFolder(str(tmp_path))
    begin_in(folder, settings(), None, URI)
    stored = folder.find(resume=True)
    with pytest.raises(UserError, match=r"train\.epochs was 10, now 3; ") as caught:
        begin_in(folder, settings(train__epochs=3, loss__comp="diff"), stored, URI)
    assert 'loss.comp was "margin", now "diff"' in str(caught.value)
    with pytest.raises(UserError, match=r'data\.digest was "d", now "e"'):
        begin_in(folder, settings(digest="e"), stored, URI)
    with pytest.raises(UserError, match=r"space train.warmup was .*, now null"):
        begin_in(folder, settings(space=parse_space({}, "s")), stored, URI)


def test_only_one_process_works_in_it(tmp_path: Path) -> None:
    folder = SweepFolder(str(tmp_path))
    held = rf"another process \(host {re.escape(socket.gethostname())}, pid {os.getpid()}, since 20\S+\) works in "
    with pytest.raises(UserError, match=held + ".*choose another --output"):
        SweepFolder(str(tmp_path))
    with pytest.raises(UserError, match=held):
        sync(Config(output=str(tmp_path)), print)
    folder.close()
    SweepFolder(str(tmp_path)).close()


@pytest.mark.parametrize(
    "content", [b"", b"h 12", b"\xff\xfe\x00", b"h 1 2026-01-01T00:00:00+0000\n" * 40, b"\x1b[2J 1 2026\n"]
)
def test_a_lock_whose_holder_does_not_name_itself_is_held_all_the_same(tmp_path: Path, content: bytes) -> None:
    with closing(SweepFolder(str(tmp_path))):
        (tmp_path / ".sweep.lock").write_bytes(content)
        with pytest.raises(UserError, match=r"^another process works in "):
            SweepFolder(str(tmp_path))
    with closing(SweepFolder(str(tmp_path))), pytest.raises(UserError, match=f", pid {os.getpid()}, since "):
        SweepFolder(str(tmp_path))


def test_unwritable_or_broken_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write output .*file/out.*choose another --output"):
        SweepFolder(str(tmp_path / "file" / "out"))
    with pytest.raises(UserError, match="must be a folder"):
        SweepFolder("s3://bucket/x")
    (tmp_path / SWEEP).write_text('{"sweep')
    with pytest.raises(UserError, match=r"cannot read .*sweep.json"):
        SweepFolder(str(tmp_path)).find(resume=True)


def test_a_sweep_that_was_stored_with_the_former_name_of_a_key_resumes(tmp_path: Path) -> None:
    folder = SweepFolder(str(tmp_path))
    stored = begin_in(folder, settings(), None, URI)
    stored["settings"]["train.stream"] = stored["settings"].pop("train.activation_checkpointing")
    assert begin_in(folder, settings(), stored, URI) == stored
    with pytest.raises(UserError, match=r"train\.activation_checkpointing was false, now true"):
        begin_in(folder, settings(train__activation_checkpointing=True), stored, URI)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"sweep__configurations": 3}, {"sweep__configurations": 5}),
        ({"sweep__configurations": 3}, {}),  # 9
        ({"sweep__seeds": (0,)}, {"sweep__seeds": (0, 4)}),
        ({"sweep__methods": ("aa-ig",)}, {"sweep__methods": ("l2e", "aa-ig")}),
        ({}, {"sweep__seeds": (0, 1, 2, 7), "sweep__configurations": 20}),
    ],
)
def test_a_sweep_may_grow_and_never_shrink(tmp_path: Path, before: dict, after: dict) -> None:
    folder = SweepFolder(str(tmp_path))
    begun = begin_in(folder, settings(**before), None, URI)
    folder.write(SWEEP, json.dumps({**begun, "status": "completed"}))
    grown = begin_in(folder, settings(**after), folder.find(resume=True), URI)
    assert (grown["sweep_id"], grown["status"]) == (begun["sweep_id"], "running")
    assert folder.find(resume=True) == grown  # so that a kill right here leaves the larger sweep
    assert grown["settings"] == json.loads(json.dumps(settings(**after)))
    with pytest.raises(UserError, match=r"\(methods, seeds and configurations can be added, none taken away\)"):
        begin_in(folder, settings(**before), folder.find(resume=True), URI)


def test_a_grown_sweep_changes_nothing_else(tmp_path: Path) -> None:
    folder = SweepFolder(str(tmp_path))
    begin_in(folder, settings(sweep__seeds=(0, 1)), None, URI)
    stored = folder.find(resume=True)
    for changed in (
        {"sweep__seeds": (1, 0, 2)},
        {"sweep__seeds": (0,)},
        {"train__epochs": 3, "sweep__seeds": (0, 1, 2)},
    ):
        with pytest.raises(UserError, match="cannot resume"):
            begin_in(folder, settings(**changed), stored, URI)


def test_a_sweep_that_other_code_began_goes_on_only_when_asked_to_and_both_stay_on_record(tmp_path: Path) -> None:
    folder = SweepFolder(str(tmp_path))

    def begin(code: str | None, *, other_code: bool = False) -> str:
        now = settings()
        code = now["version.code"] if code is None else code
        begun = begin_in(folder, {**now, "version.code": code}, folder.find(resume=True), URI, other_code=other_code)
        return begun["settings"]["version.code"]

    assert begin("aaaa") == "aaaa"
    with pytest.raises(UserError, match=r'version\.code was "aaaa", now "bbbb"; .* add --other-code'):
        begin("bbbb")
    assert begin("bbbb", other_code=True) == "aaaa, bbbb"
    assert begin("bbbb") == "aaaa, bbbb"
    with pytest.raises(UserError, match=r'was "aaaa, bbbb", now "aaaa"'):
        begin("aaaa")
    # Versions before this one did not record it.
    stored = json.loads((tmp_path / SWEEP).read_text())
    del stored["settings"]["version.code"]
    folder.write(SWEEP, json.dumps(stored))
    with pytest.raises(UserError, match=r'version\.code was "not recorded", now "bbbb"'):
        begin("bbbb")
    assert begin("bbbb", other_code=True) == "not recorded, bbbb"


def test_a_sweep_that_other_code_of_a_plugin_began_goes_on_only_when_asked_to_and_both_stay_on_record(
    tmp_path: Path,
) -> None:
    folder = SweepFolder(str(tmp_path))

    def begin(plugins: str, *, other_code: bool = False, **changed: object) -> str:
        now = settings(**changed) | ({"version.plugins": plugins} if plugins else {})
        begun = begin_in(folder, now, folder.find(resume=True), URI, other_code=other_code)
        return begun["settings"].get("version.plugins", "")

    first, other = (
        "corpus c=theirs 1 (aaaa), method m=theirs 1 (aaaa)",
        "corpus c=theirs 1 (aaaa), method m=theirs 1 (bbbb)",
    )
    both = "corpus c=theirs 1 (aaaa), method m=theirs 1 (aaaa) then theirs 1 (bbbb)"
    assert begin(first) == first
    refused = (
        r'plugins was "method m=theirs 1 \(aaaa\)", now "method m=theirs 1 \(bbbb\)"; .* add --other-code to go on'
    )
    with pytest.raises(UserError, match=refused):
        begin(other)
    with pytest.raises(UserError, match="cannot resume") as caught:
        begin(other, train__epochs=3)
    assert "--other-code" not in str(caught.value)
    assert begin(first, other_code=True) == first
    assert begin(other, other_code=True) == both
    assert begin(other) == both
    assert begin(f"{other}, method n=n 1 (cccc)") == f"{both}, method n=n 1 (cccc)"
    with pytest.raises(UserError, match=r'then theirs 1 \(bbbb\).*", now "method m=theirs 1 \(aaaa\)'):
        begin(f"{first}, method n=n 1 (cccc)")
    with pytest.raises(UserError, match=r"was .*add --other-code"):
        begin("")
    assert begin("", other_code=True) == f"{both}, method n=n 1 (cccc)"


def test_encoders_whose_files_have_changed_are_refused(tmp_path: Path) -> None:
    def begin(**versions: str) -> None:
        with closing(SweepFolder(str(tmp_path))) as folder:
            begin_in(folder, {**settings(), **versions}, folder.find(resume=True), URI)

    begin()
    begin()
    begin(**{"version.encoders": "embedded=1110a243fdf4706b3f48f1d95db1a4f5529b4d41"})
    with pytest.raises(UserError, match=r'version\.encoders was "embedded=1110.*", now "embedded=abc"'):
        begin(**{"version.encoders": "embedded=abc"})


def test_trials_lie_on_a_storage_of_their_own(tmp_path: Path) -> None:
    storage = f"file://{tmp_path}/bucket"
    folder = SweepFolder(str(tmp_path / "out"), storage)
    begun = begin_in(folder, settings(sweep__storage=storage), None, URI)
    own = f"{storage}/{begun['sweep_id']}"
    assert begun["storage"] == own
    assert (folder.trial("t"), folder.shared, folder.scratch) == (f"{own}/trials/t", f"{own}/stages", f"{own}/.ray")
    assert folder.results("t") == str(tmp_path / "out" / "trials" / "t")
    CheckpointStore(folder.trial("t")).write("best.pt", b"weights")
    CheckpointStore(below(folder.shared, "s")).write("best.pt", b"weights")
    assert open_trial(tmp_path / "out", "t").read("best.pt") == b"weights"
    folder.delete_scratch()
    assert [str(path.relative_to(tmp_path / "bucket")) for path in (tmp_path / "bucket").rglob("*.pt")] == [
        f"{begun['sweep_id']}/trials/t/best.pt"
    ]
    folder.close()
    again = SweepFolder(str(tmp_path / "out"), storage)
    again.find(resume=True)
    assert again.trial("t") == folder.trial("t")
    assert begin_in(again, settings(sweep__storage=storage), again.find(resume=True), URI) == begun
    assert again.trial("t") == folder.trial("t")
    with pytest.raises(UserError, match=r"sweep\.storage was .*, now null"):
        begin_in(again, settings(), again.find(resume=True), URI)
    again.write(SWEEP, json.dumps({**begun, "storage": "nonsense://bucket"}))
    with pytest.raises(UserError, match=r"cannot read 'nonsense://bucket/trials/t', where the sweep left its weights"):
        open_trial(tmp_path / "out", "t")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense://bucket/folder", r"cannot write sweep.storage = 'nonsense://bucket/folder': .*s3://bucket/folder"),
        ("file://{tmp}/file/below", r"cannot write sweep.storage = .*give a folder that all nodes share"),
        ("{tmp}/file/below", r"cannot write sweep.storage"),
    ],
)
def test_a_storage_that_cannot_be_written_is_refused_before_anything_else(
    tmp_path: Path, storage: str, message: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=message):
        SweepFolder(str(tmp_path / "out"), storage.format(tmp=tmp_path))
    with pytest.raises(UserError, match="must hold no keys; set AWS_ACCESS_KEY_ID"):
        Config().changed({"sweep.storage": "s3://key:secret@bucket/folder"})


def test_a_uri_keeps_its_options_behind_the_folder() -> None:
    assert below("s3://bucket/a/?region=x&scheme=http", "t") == "s3://bucket/a/t?region=x&scheme=http"
    assert below("/a/b", "t") == "/a/b/t"
    assert below("/what now?/b", "t") == "/what now?/b/t"
