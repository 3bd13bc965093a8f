"""Links' tokens: made once, for the owner's eyes, and kept."""

import json
import stat
from pathlib import Path

import pytest

from unirex_ray.errors import DamagedFileError, UserError
from unirex_ray.study.tokens import TOKENS, tokens_of


def test_each_annotator_has_a_secret_of_their_own_that_stays(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, ["a1", "a2", "a3"])
    assert [*tokens] == ["a1", "a2", "a3"]
    assert len({*tokens.values()}) == 3
    assert all(len(token) == 22 for token in tokens.values())  # 16 bytes in base 64
    assert stat.S_IMODE((tmp_path / TOKENS).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [TOKENS]
    assert tokens_of(tmp_path, ["a1", "a2", "a3"]) == tokens


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100000,
        "[]",
        json.dumps({"a1": "x" * 22}),
        json.dumps({"a1": "x" * 22, "a2": "y" * 22, "a3": "z" * 22}),
        json.dumps({"a1": "x" * 22, "a2": "x" * 22}),
        json.dumps({"a1": "x" * 22, "a2": ""}),
        json.dumps({"a1": "x" * 22, "a2": "../../../../../../../etc"}),
        json.dumps({"a1": "x" * 22, "a2": None}),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / TOKENS).write_text(content)
    with pytest.raises(DamagedFileError, match="or delete it: all links are new then"):
        tokens_of(tmp_path, ["a1", "a2"])
    assert (tmp_path / TOKENS).read_text() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot keep the links' tokens in .*No such file"):
        tokens_of(tmp_path / "missing", ["a1"])
