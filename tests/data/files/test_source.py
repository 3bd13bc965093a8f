import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from unirex_ray.data.files.source import Source, open_source
from unirex_ray.errors import UserError

FILES = {"a.txt": "alpha é", "sub/b.txt": "beta"}
REMEDY = "give the corpus"


def make_folder(place: Path, top: str, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = place / "folder" / top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return place / "folder"


def make_zip(place: Path, top: str, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(place / "corpus.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"{top}{name}", text)
    return place / "corpus.zip"


def make_tar(place: Path, top: str, files: dict[str, str]) -> Path:
    with tarfile.open(place / "corpus.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(f"{top}{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return place / "corpus.tar.gz"


def text(source: Source, name: str) -> str:
    return source.decode(name, source.content(name))


@pytest.mark.parametrize("make", [make_folder, make_zip, make_tar])
@pytest.mark.parametrize("top", ["", "top/", "./top/"])
def test_every_kind_reads_the_same_files(tmp_path, make, top):
    source = open_source(make(tmp_path, top, FILES), ["a.txt"], REMEDY)
    assert {name: text(source, name) for name in FILES} == FILES
    assert source.find("c.txt") is None
    with pytest.raises(UserError, match=r"has no file 'c\.txt'"):
        text(source, "c.txt")


@pytest.mark.parametrize("make", [make_folder, make_zip, make_tar])
def test_a_name_never_leads_out_of_the_source(tmp_path, make):
    (tmp_path / "secret.txt").write_text("secret")
    source = open_source(make(tmp_path, "", FILES), ["a.txt"], REMEDY)
    for name in ("../secret.txt", str(tmp_path / "secret.txt"), "sub/../../secret.txt", "", ".", "\0"):
        assert source.find(name) is None


def member(name: str, **options: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for key, value in options.items():
        setattr(entry, key, value)
    return entry


@pytest.mark.parametrize(
    "evil",
    [
        member("../evil.txt", size=4),
        member("a/../../evil.txt", size=4),
        member("/tmp/evil_member.txt", size=4),
        member("../evil", type=tarfile.DIRTYPE),
        member("link.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("sub/link.txt", type=tarfile.SYMTYPE, linkname="../../secret.txt"),
        member("link.txt", type=tarfile.LNKTYPE, linkname="../secret.txt"),
    ],
    ids=lambda entry: f"{entry.name} {entry.linkname}",
)
def test_an_archive_with_a_member_that_points_outside_is_refused_and_nothing_is_written(tmp_path, evil):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    with tarfile.open(inside / "evil.tar.gz", "w:gz") as archive:
        archive.addfile(member("train.txt", size=4), io.BytesIO(b"good"))
        archive.addfile(evil, io.BytesIO(b"evil"))
    with pytest.raises(UserError, match=r"cannot be read \(its member '.*' points outside of it, and nothing"):
        open_source(inside / "evil.tar.gz", ["train.txt"], REMEDY)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["evil.tar.gz", "inside", "secret.txt"]


def test_a_zip_with_a_member_that_points_outside_is_refused(tmp_path):
    source = make_zip(tmp_path, "", {"a.txt": "", "../evil.txt": "evil"})
    with pytest.raises(UserError, match=r"its member '\.\./evil\.txt' points outside of it"):
        open_source(source, ["a.txt"], REMEDY)
    assert [path.name for path in tmp_path.rglob("*")] == ["corpus.zip"]


def test_a_link_within_an_archive_is_harmless_and_not_followed(tmp_path):
    with tarfile.open(tmp_path / "corpus.tar.gz", "w:gz") as archive:
        archive.addfile(member("sub/a.txt", size=4), io.BytesIO(b"good"))
        archive.addfile(member("sub/link.txt", type=tarfile.SYMTYPE, linkname="../sub/a.txt"))
    source = open_source(tmp_path / "corpus.tar.gz", ["a.txt"], REMEDY)
    assert text(source, "a.txt") == "good"
    assert source.find("link.txt") is None


def bomb_tar(place: Path) -> Path:
    with tarfile.open(place / "bomb.tar.gz", "w:gz") as archive:
        for number in range(40):
            archive.addfile(member(f"{number}.txt", size=1 << 20), io.BytesIO(bytes(1 << 20)))
    return place / "bomb.tar.gz"


def claiming_tar(place: Path) -> Path:
    """A member that claims 4 GiB in a file of a few bytes."""
    with gzip.open(place / "claims.tar.gz", "wb") as stream:
        stream.write(member("a.txt", size=4 << 30).tobuf() + b"few")
    return place / "claims.tar.gz"


def bomb_zip(place: Path) -> Path:
    return make_zip(place, "", {"a.txt": "0" * (40 << 20)})


def lying_zip(place: Path) -> Path:
    """A member that unfolds to more than its header claims."""
    file = make_zip(place, "", {"a.txt": "0" * (1 << 20)})
    size = (1 << 20).to_bytes(4, "little")
    file.write_bytes(file.read_bytes().replace(size, (10).to_bytes(4, "little")))
    return file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bomb_tar, "it unfolds to more than 16 MiB, which no archive of a corpus does"),
        (claiming_tar, "it unfolds to more than 16 MiB"),
        (bomb_zip, "it unfolds to more than 16 MiB"),
        (lying_zip, "Bad CRC-32 for file 'a.txt'"),
    ],
)
def test_an_archive_that_is_far_larger_than_it_claims_is_refused(tmp_path, make, message):
    file = make(tmp_path)
    tracemalloc.start()
    with pytest.raises(UserError, match=re.escape(message)):
        open_source(file, ["a.txt"], REMEDY)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40 << 20


def test_a_byte_order_mark_is_no_text_and_other_encodings_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfalpha")
    (tmp_path / "b.txt").write_bytes(b"tea\ncaf\xe9")
    source = open_source(tmp_path, ["a.txt"], REMEDY)
    assert text(source, "a.txt") == "alpha"
    with pytest.raises(UserError, match=r"b\.txt, line 2: must be UTF-8 text, but byte 3 of the line is not"):
        text(source, "b.txt")


def broken_zip(place: Path) -> Path:
    file = make_zip(place, "", {"a.txt": "alpha" * 100})
    data = bytearray(file.read_bytes())
    data[45] ^= 0xFF
    file.write_bytes(data)
    return file


def cut_tar(place: Path) -> Path:
    file = make_tar(place, "", {"a.txt": "".join(chr(33 + i * i % 90) for i in range(20000))})
    file.write_bytes(file.read_bytes()[:-40])
    return file


def text_file(place: Path) -> Path:
    (place / "notes.txt").write_text("no archive")
    return place / "notes.txt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: place / "nowhere", "does not exist; give the corpus"),
        (text_file, r"neither a folder nor a \.zip or \.tar\.gz archive"),
        (broken_zip, "cannot be read"),
        (cut_tar, "cannot be read"),
        (
            lambda place: make_zip(place, "x/", {"b.txt": ""}),
            r"must hold a\.txt .* but holds x/b\.txt; give the corpus",
        ),
        (lambda place: make_zip(place, "", {}), "but holds no files"),
    ],
)
def test_wrong_sources_are_refused(tmp_path, make, message):
    place = make(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        open_source(place, ["a.txt"], REMEDY)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_fitting_folders_are_ambiguous(tmp_path):
    source = make_zip(tmp_path, "", {"x/a.txt": "", "y/a.txt": ""})
    with pytest.raises(UserError, match="several folders: x, y; name one"):
        open_source(source, ["a.txt"], REMEDY)


def test_source_is_a_plain_value():
    source = Source("here", {"a": b"1"}.get)
    assert source.find("a") == b"1"


REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs."""

    files: ClassVar[dict[str, bytes]] = {"data/a.txt": b"alpha", "data/sub/b.txt": b"beta", "README.md": b"read me"}

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, *, send: bool) -> None:
        place = f"/datasets/owner/name/resolve/{REVISION}/"
        if self.path.startswith(f"/api/datasets/owner/name/revision/{REVISION}"):
            siblings = [{"rfilename": name} for name in self.files]
            body = json.dumps({"id": "owner/name", "sha": REVISION, "siblings": siblings, "tags": []}).encode()
        elif self.path.startswith(f"/api/datasets/owner/name/tree/{REVISION}"):
            entries = [
                {"type": "file", "path": n, "size": len(b), "oid": f"{len(b):040}"} for n, b in self.files.items()
            ]
            body = json.dumps(entries).encode()
        elif self.path.removeprefix(place) in self.files:
            body = self.files[self.path.removeprefix(place)]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_a_pinned_revision_comes_from_the_hub_once(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = f"""
import sys
from unirex_ray.data.files.source import fingerprint, open_source
from unirex_ray.errors import UserError
for address in ("owner/name@{REVISION}/data", "owner/other@{REVISION}", "owner/name@{REVISION}/nowhere"):
    try:
        source = open_source("hf://datasets/" + address, ["a.txt"], "give it")
        print(source.content("a.txt"), source.content("sub/b.txt"), source.find("README.md"), source.names)
        print(fingerprint("hf://datasets/" + address, ["a.txt"], "give it")[:8])
    except UserError as error:
        print(error)
"""
    address = f"http://127.0.0.1:{server.server_port}"
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    run = [sys.executable, "-c", program]
    first = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout
    server.shutdown()
    server.server_close()
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    again = subprocess.run(run, env=offline, capture_output=True, text=True, timeout=120, check=True).stdout
    read, stamp, unknown, nowhere = first.splitlines()
    assert read == "b'alpha' b'beta' None ('a.txt', 'sub/b.txt')"
    assert unknown.startswith(f"data.source = 'hf://datasets/owner/other@{REVISION}' cannot be downloaded (")
    assert (
        nowhere
        == f"data.source = 'hf://datasets/owner/name@{REVISION}/nowhere': owner/name has no 'nowhere' in this revision"
    )
    assert again.splitlines()[:2] == [read, stamp]


@pytest.mark.parametrize(
    "address", ["owner/name", "owner/name@main", "name@" + REVISION, f"owner/name@{REVISION[:12]}"]
)
def test_a_revision_that_is_not_pinned_is_refused(address):
    with pytest.raises(UserError, match=r"must be hf://datasets/OWNER/NAME@COMMIT, with all 40 digits"):
        open_source(f"hf://datasets/{address}", [], REMEDY)
