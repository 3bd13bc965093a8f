"""The journal on disk: what is written comes back, whatever a kill or a bad disk made of the rest."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unirex_ray.errors import DamagedFileError
from unirex_ray.tracking.journal import JOURNAL, Event, Journal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
EVENTS = st.lists(st.dictionaries(st.text().filter(lambda key: key != "at"), VALUES), max_size=5)


def contents(events: list[Event]) -> list[Event]:
    return [{key: value for key, value in event.items() if key != "at"} for event in events]


@given(EVENTS, EVENTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_what_is_written_comes_back_in_order_also_by_a_second_process(
    tmp_path: Path, first: list[Event], second: list[Event]
) -> None:
    file = tmp_path / JOURNAL
    file.unlink(missing_ok=True)
    for events in (first, second):
        journal = Journal(file)
        written = [journal.append(event) for event in events]
        assert contents(written) == json.loads(json.dumps(events))
    assert contents(Journal(file).events) == json.loads(json.dumps([*first, *second]))
    times = [event["at"] for event in Journal(file).events]
    assert times == sorted(times)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / JOURNAL)
    for number in range(3):
        journal.append({"event": "epoch", "epoch": number})
    return tmp_path / JOURNAL


def numbers(file: Path) -> list[int]:
    return [event["epoch"] for event in Journal(file).events]


def test_a_torn_line_is_left_out_and_overwritten(three: Path) -> None:
    whole = three.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for torn in range(last, len(whole)):
        three.write_bytes(whole[:torn])
        assert numbers(three) == [0, 1]
    Journal(three).append({"event": "epoch", "epoch": 7})
    assert numbers(three) == [0, 1, 7]


def test_a_changed_line_is_named(three: Path) -> None:
    whole = three.read_bytes()
    for place in (0, 3, whole.index(b"epoch"), whole.index(b"\n") + 12):
        three.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        line = 1 + whole[:place].count(b"\n")
        with pytest.raises(DamagedFileError, match=rf"journal.jsonl is damaged: line {line}: .*move it away"):
            Journal(three)


def test_what_a_full_disk_left_of_a_line_does_not_stay(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(three)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("unirex_ray.tracking.journal.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            journal.append({"event": "epoch", "epoch": 3})
    journal.append({"event": "epoch", "epoch": 4})
    assert numbers(three) == [0, 1, 2, 4]
