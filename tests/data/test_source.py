import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from unirex_ray.data.source import Source, open_source
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


@pytest.mark.parametrize("make", [make_folder, make_zip, make_tar])
@pytest.mark.parametrize("top", ["", "top/", "./top/"])
def test_every_kind_reads_the_same_files(tmp_path, make, top):
    source = open_source(make(tmp_path, top, FILES), ["a.txt"], REMEDY)
    assert {name: source.text(name) for name in FILES} == FILES
    assert source.find("c.txt") is None
    with pytest.raises(UserError, match=r"has no file 'c\.txt'"):
        source.text("c.txt")


@pytest.mark.parametrize("make", [make_folder, make_zip, make_tar])
def test_a_name_never_leads_out_of_the_source(tmp_path, make):
    (tmp_path / "secret.txt").write_text("secret")
    source = open_source(make(tmp_path, "", FILES), ["a.txt"], REMEDY)
    for name in ("../secret.txt", str(tmp_path / "secret.txt"), "sub/../../secret.txt", "", ".", "\0"):
        assert source.find(name) is None


def test_members_that_point_outside_are_neither_read_nor_written(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    with tarfile.open(inside / "evil.tar.gz", "w:gz") as archive:
        for name in ("train.txt", "../evil.txt", "/tmp/evil_member.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    source = open_source(inside / "evil.tar.gz", ["train.txt"], REMEDY)
    assert source.text("train.txt") == "evil"
    assert source.find("link.txt") is None
    assert source.find("../evil.txt") is None
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["evil.tar.gz", "inside"]


def test_a_byte_order_mark_is_no_text_and_other_encodings_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfalpha")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    source = open_source(tmp_path, ["a.txt"], REMEDY)
    assert source.text("a.txt") == "alpha"
    with pytest.raises(UserError, match=r"b\.txt must be UTF-8 text, but byte 3 is not"):
        source.text("b.txt")


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
