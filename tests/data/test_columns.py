import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.data.columns import InstanceTable, Strings
from unirex_ray.data.instance import Input, Instance

texts = st.text(max_size=8)
spans = st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 2**40))
inputs = st.builds(
    Input,
    segments=st.lists(texts, max_size=3).map(tuple),
    gold=st.none() | st.lists(spans, max_size=3).map(tuple),
)
instances = st.builds(Instance, id=texts, inputs=st.lists(inputs, max_size=3).map(tuple), label=st.integers(-3, 9))


@pytest.mark.slow
@given(st.lists(instances, max_size=6))
def test_instances_come_back_as_they_were(given_instances):
    table = InstanceTable.from_instances(iter(given_instances))
    assert len(table) == len(given_instances)
    assert list(table) == given_instances
    assert [table[number] for number in range(len(table))] == given_instances
    assert table[1:] == tuple(given_instances[1:])
    assert table.labels.tolist() == [instance.label for instance in given_instances]
    for again in (InstanceTable.from_columns(table.columns()), pickle.loads(pickle.dumps(table))):
        assert list(again) == given_instances
        assert again == table
    assert InstanceTable.from_instances(table) is table


@given(st.lists(texts, max_size=6))
def test_strings_come_back_as_they_were(given_texts):
    strings = Strings.from_texts(given_texts)
    assert list(strings) == given_texts
    assert strings[::2] == tuple(given_texts[::2])


def test_half_a_surrogate_pair_is_kept_for_the_check_to_refuse():
    assert list(Strings.from_texts(["x\ud800"])) == ["x\ud800"]


@pytest.mark.slow
def test_many_instances_are_read_in_chunks_and_by_number():
    def one(number: int) -> Instance:
        gold = None if number % 3 == 0 else ((0, 0, 1),) * (number % 3)
        return Instance(
            id=f"é{number}", inputs=(Input(segments=("ab", "c" * (number % 2)), gold=gold),), label=number % 2
        )

    table = InstanceTable.from_instances(map(one, range(9000)))
    assert all(instance == one(number) for number, instance in enumerate(table))
    assert (table[-1], table[8999], table[4096]) == (one(8999), one(8999), one(4096))
    with pytest.raises(IndexError):
        table[9000]
    assert sum(column.nbytes for column in table.columns().values()) < 9000 * 120


def test_tables_of_other_instances_differ():
    one = Instance(id="a", inputs=(Input(segments=("x",)),), label=0)
    table = InstanceTable.from_instances([one])
    assert table != InstanceTable.from_instances([one, one])
    assert table != InstanceTable.from_instances([Instance(id="a", inputs=(Input(segments=("x",), gold=()),), label=0)])
    assert table != [one]


def test_nobody_can_change_a_column():
    with pytest.raises(ValueError, match="read-only"):
        InstanceTable.from_instances([Instance(id="a", inputs=(), label=0)]).labels[0] = np.int64(1)
