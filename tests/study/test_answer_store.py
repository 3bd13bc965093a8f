"""The store of answers: what it has taken is there, and what others made of a file does no harm."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.chaos_place import fill, small_disk
from helpers.marks import slow
from helpers.python_path import with_helpers
from helpers.studies import made_study
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.errors import DamagedFileError, UserError
from unirex_ray.study.answer_store import ANSWERS, LOCK, AnswerStore, stored_answers
from unirex_ray.study.answers import RawAnswer, collect

STUDY = made_study()


def answer(item: str, rating: int, second: int | None = None) -> dict[str, Any]:
    time = {} if second is None else {"at": f"2026-01-01T10:00:{second:02}.000Z"}
    return {"item": item, "alignment": rating, "seconds": 1.5, **time}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with closing(AnswerStore(tmp_path, STUDY)) as opened:
        yield opened


def test_the_last_answer_to_an_item_counts_and_all_are_kept(store: AnswerStore, tmp_path: Path) -> None:
    for number, rating in enumerate([1, 5, 2]):
        store.add("a1", answer("x", rating, number))
    store.add("a1", answer("y", 3))
    store.add("a2", answer("x", 4, 9))
    assert store.latest("a1") == [answer("x", 2, 2), answer("y", 3)]
    assert store.latest("a2") == [answer("x", 4, 9)]
    assert store.latest("a3") == []
    raw = RawAnswer(
        annotator="a1",
        item="x",
        values={"alignment": 2},
        seconds=1.5,
        at="2026-01-01T10:00:02.000Z",
        source=ANSWERS,
        study=STUDY.id,
    )
    found = stored_answers(tmp_path / ANSWERS)
    assert (found[0], len(found)) == (raw, 3)
    with closing(sqlite3.connect(tmp_path / ANSWERS)) as file:
        assert file.execute("SELECT count(*) FROM answers").fetchone() == (5,)


def test_an_answer_that_comes_again_counts_once(store: AnswerStore, tmp_path: Path) -> None:
    for one in [answer("x", 1, 1), answer("x", 2, 2), answer("x", 1, 1)]:
        store.add("a1", one)
    assert store.latest("a1") == [answer("x", 2, 2)]
    with closing(sqlite3.connect(tmp_path / ANSWERS)) as file:
        assert file.execute("SELECT count(*) FROM answers").fetchone() == (2,)
    for rating in (1, 2, 1):  # nothing tells a change of mind from a repetition
        store.add("a1", answer("y", rating))
    assert store.latest("a1")[-1] == answer("y", 1)


@pytest.mark.slow
@given(st.permutations(range(4)))
def test_the_last_given_counts_in_whatever_order_they_come(
    tmp_path_factory: pytest.TempPathFactory, order: Any
) -> None:
    with closing(AnswerStore(tmp_path_factory.mktemp("study"), STUDY)) as store:
        for number in order:
            store.add("a1", answer("x", number, number))
        assert store.latest("a1") == [answer("x", 3, 3)]


def test_a_study_is_served_once_and_its_file_is_its_own(store: AnswerStore, tmp_path: Path) -> None:
    store.add("a1", answer("x", 1))
    with pytest.raises(UserError, match=rf"another process \(host .*, pid {os.getpid()}, since .*serves"):
        AnswerStore(tmp_path, STUDY)
    store.close()
    other = made_study(seed=1)
    with pytest.raises(UserError, match=f"holds answers to study {STUDY.id}, and this one is {other.id}"):
        AnswerStore(tmp_path, other)
    with closing(AnswerStore(tmp_path, STUDY)) as again:
        assert again.latest("a1") == [answer("x", 1)]


def test_answers_are_read_while_a_server_writes(store: AnswerStore, tmp_path: Path) -> None:
    for number in range(20):
        store.add("a1", answer(f"x{number}", 1))
        assert len(stored_answers(tmp_path / ANSWERS)) == number + 1
    assert {file.name for file in tmp_path.iterdir()} == {ANSWERS, LOCK}


def test_what_is_stored_goes_into_the_analysis(store: AnswerStore, tmp_path: Path) -> None:
    item = STUDY.sheets["a2"]["rating"][0]
    store.add("a2", answer(item, 4, 1))
    (found,) = collect(STUDY, stored_answers(tmp_path / ANSWERS)).answers
    assert (found.annotator, found.item.id, found.values, found.seconds) == ("a2", item, {"alignment": 4}, 1.5)


@pytest.mark.parametrize("pragma", ["query_only = ON", *slow("max_page_count = 3")])
def test_what_the_disk_does_not_take_is_an_error_and_the_store_lives_on(store: AnswerStore, pragma: str) -> None:
    store.add("a1", answer("x", 1))
    limited = store._connection
    limited.execute(f"PRAGMA {pragma}")
    big = {**answer("y", 2), "seconds": 10**4000}
    with pytest.raises(OSError, match="No space left" if "page" in pragma else "readonly") as refused:
        store.add("a1", big)
    assert (refused.value.errno == 28) == ("page" in pragma)
    limited.execute("PRAGMA max_page_count = 10000")
    limited.execute("PRAGMA query_only = OFF")
    store.add("a1", big)
    assert store.latest("a1") == [answer("x", 1), big]


@pytest.mark.slow
def test_a_full_disk_refuses_answers_until_it_has_room_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as mounted:
        if not mounted:
            pytest.skip("no file system may be mounted")
        with closing(AnswerStore(tmp_path / "disk", STUDY)) as store:
            store.add("a1", answer("x", 1))
            ballast = fill(tmp_path / "disk")
            with pytest.raises(OSError, match=r"No space left|disk I/O error"):
                store.add("a1", answer("y", 1))
            ballast.unlink()
            store.add("a1", answer("z", 1))
            assert [one["item"] for one in store.latest("a1")] == ["x", "z"]


@pytest.mark.parametrize("act", [Path.unlink, lambda file: file.rename(file.with_name("elsewhere"))])
def test_answers_do_not_go_into_a_file_that_was_taken_away(store: AnswerStore, tmp_path: Path, act: Any) -> None:
    store.add("a1", answer("x", 1))
    act(tmp_path / ANSWERS)
    with pytest.raises(OSError, match="readonly"):
        store.add("a1", answer("y", 1))


WRITER = """
import sys
from pathlib import Path
from helpers.studies import made_study
from unirex_ray.study.answer_store import AnswerStore
store = AnswerStore(Path(sys.argv[1]), made_study())
for number in range(100000):
    store.add("a1", {"item": str(number), "alignment": 1})
    print(number, flush=True)
"""


@pytest.mark.parametrize("count", [1, *slow(40, 200)])
def test_what_was_taken_survives_a_kill(tmp_path: Path, count: int) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": with_helpers()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(count)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    with closing(AnswerStore(tmp_path, STUDY)) as store:
        items = [one["item"] for one in store.latest("a1")]
    assert items[: len(acknowledged)] == [line.strip() for line in acknowledged]
    assert len(items) <= len(acknowledged) + 1
    assert len(stored_answers(tmp_path / ANSWERS)) == len(items)


def torn(folder: Path) -> Path:
    """A store and its journal as a kill in the middle of writing leaves them."""
    (folder / "live").mkdir()
    AnswerStore(folder / "live", STUDY).close()
    with closing(sqlite3.connect(folder / "live" / ANSWERS, isolation_level=None)) as file:
        file.execute("PRAGMA cache_size = 1")
        file.execute("BEGIN")
        for number in range(3000):
            file.execute("INSERT INTO answers VALUES (?, 'a1', 'x', '{\"item\": 1}', '')", (number,))
        for one in (folder / "live").glob(f"{ANSWERS}*"):
            (folder / one.name).write_bytes(one.read_bytes())
        file.execute("ROLLBACK")
    return folder / ANSWERS


def test_half_an_answer_is_undone_by_a_server_alone(tmp_path: Path) -> None:
    file = torn(tmp_path)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="a server was killed while it wrote; serve the study once"):
        stored_answers(file)
    assert file.read_bytes() == before
    AnswerStore(tmp_path, STUDY).close()
    assert stored_answers(file) == []


def changed(folder: Path, *statements: str) -> Path:
    with closing(AnswerStore(folder, STUDY)) as store:
        store.add("a1", answer("x", 1))
    with closing(sqlite3.connect(folder / ANSWERS, isolation_level=None)) as file:
        for statement in statements:
            file.execute(statement)
    return folder / ANSWERS


ADD = "INSERT INTO answers (annotator, item, answer) VALUES"
BAD = {
    "a view": ["CREATE VIEW more AS SELECT 1"],
    "a view for a table": ["DROP TABLE answers", "CREATE VIEW answers AS SELECT 1"],
    "a trigger": ["CREATE TRIGGER more AFTER INSERT ON study BEGIN DELETE FROM study; END"],
    "a unique index": ["CREATE TABLE more (id UNIQUE)"],
    "an index": ["CREATE INDEX more ON answers (item)"],
    "other columns": ["ALTER TABLE answers ADD COLUMN more"],
    "no study": ["DELETE FROM study"],
    "two studies": ["INSERT INTO study VALUES ('x')"],
    "bytes for a study": ["UPDATE study SET id = x'00ff'"],
    "no JSON": [f"{ADD} ('a1', 'x', 'nonsense')"],
    "nothing": [f"{ADD} ('a1', 'x', NULL)"],
    "a list": [f"{ADD} ('a1', 'x', '[1]')"],
    "no item": [f"{ADD} ('a1', 'x', '{{}}')"],
    "a list for an item": [f"""{ADD} ('a1', 'x', '{{"item": []}}')"""],
    "deep nesting": [f"{ADD} ('a1', 'x', '{'[' * 100000}')"],
    "no text": [f"{ADD} ('a1', 'x', CAST(x'ff' AS TEXT))"],
}


@pytest.mark.parametrize("statements", BAD.values(), ids=BAD)
def test_a_file_that_is_no_such_store_is_refused(tmp_path: Path, statements: list[str]) -> None:
    file = changed(tmp_path, *statements)
    with pytest.raises(ValueError, match=r"it is no file of answers|damaged|does not say"):
        stored_answers(file)
    with pytest.raises(DamagedFileError, match=r"is damaged .*; move it away"):
        AnswerStore(tmp_path, STUDY)
    file.unlink()
    AnswerStore(tmp_path, STUDY).close()


def test_strange_annotators_and_items_are_left_to_the_check_of_answers(tmp_path: Path) -> None:
    file = changed(tmp_path, f"""{ADD} (x'00', 7, '{{"item": 7, "seconds": 1{"0" * 400}}}')""")
    found = stored_answers(file)
    assert [one.annotator for one in found] == ["a1", b"\x00"]
    assert len(collect(STUDY, found).problems) == 2


def test_nothing_is_made_of_what_is_not_there(tmp_path: Path) -> None:
    for file in (tmp_path / "none.sqlite", tmp_path):
        with pytest.raises(ValueError, match="it is no file"):
            stored_answers(file)
    (tmp_path / "empty.sqlite").touch()
    (tmp_path / "odd ?#%name.sqlite").write_text("<script>\x1b[2J</script>" * 99)
    for name in ("empty.sqlite", "odd ?#%name.sqlite"):
        with pytest.raises(ValueError, match="it is no file of answers"):
            stored_answers(tmp_path / name)
    assert len([*tmp_path.iterdir()]) == 2


def test_a_message_has_no_commands_for_a_terminal(tmp_path: Path) -> None:
    file = changed(tmp_path, 'CREATE TABLE "\x1b[2J" (a)')
    data = file.read_bytes().replace(b'CREATE TABLE "\x1b[2J" (a)', b'CREATE TABLE "\x1b[2J" (((')
    file.write_bytes(data)
    with pytest.raises(ValueError, match="x1b") as refused:
        stored_answers(file)
    assert "\x1b" not in str(refused.value)


@pytest.mark.slow
@given(st.integers(0, 10**9))
def test_damaged_bytes_raise_nothing_but_a_reason(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    draw, folder = random.Random(seed), tmp_path_factory.mktemp("damaged")
    data = bytearray(changed(folder).read_bytes())
    for _ in range(draw.randint(1, 20)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    (folder / ANSWERS).write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])
    with suppress(ValueError):
        stored_answers(folder / ANSWERS)
