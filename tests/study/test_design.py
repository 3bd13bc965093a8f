"""Who judges what."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.study.design import assign

SIZES = {
    "annotators": st.integers(1, 14),
    "instances": st.integers(1, 23),
    "conditions": st.integers(1, 7),
    "raters": st.integers(1, 14),
    "seed": st.integers(0, 5),
}


def spread(counts: list[int]) -> int:
    return max(counts) - min(counts)


@given(**SIZES)
def test_every_annotator_sees_every_instance_once_and_every_condition_as_often(
    annotators: int, instances: int, conditions: int, raters: int, seed: int
) -> None:
    plan = assign(annotators, instances, conditions, raters=min(raters, annotators), seed=str(seed))
    assert len(plan) == annotators
    for pairs in plan:
        assert sorted(instance for instance, _ in pairs) == list(range(instances))
        by_condition = Counter(condition for _, condition in pairs)
        assert spread([by_condition[condition] for condition in range(conditions)]) <= 1


@given(**SIZES)
def test_groups_judge_the_same_and_share_conditions_and_instances_evenly(
    annotators: int, instances: int, conditions: int, raters: int, seed: int
) -> None:
    raters = min(raters, annotators)
    plan = assign(annotators, instances, conditions, raters=raters, seed=str(seed))
    groups = Counter(frozenset(pairs) for pairs in plan)
    judged = Counter(pair for pairs in plan for pair in pairs)
    assert min(judged.values()) >= raters
    if annotators // raters <= conditions:  # otherwise groups that judge the same are not told apart here
        assert len(groups) == annotators // raters
        assert spread(list(groups.values())) <= 1
        in_groups = Counter(condition for pairs in groups for _, condition in pairs)
        assert spread([in_groups[condition] for condition in range(conditions)]) <= 1
        for instance in range(instances):
            of_instance = [sum((instance, condition) in pairs for pairs in groups) for condition in range(conditions)]
            assert spread(of_instance) <= 1


def test_with_as_many_groups_as_conditions_every_item_is_judged_by_its_raters() -> None:
    plan = assign(12, 50, 6, raters=2, seed="0")
    judged = Counter(pair for pairs in plan for pair in pairs)
    assert len(judged) == 300
    assert {*judged.values()} == {2}


def test_a_seed_gives_one_plan_and_annotators_of_a_group_see_it_in_orders_of_their_own() -> None:
    plan = assign(2, 30, 3, raters=2, seed="0")
    assert plan == assign(2, 30, 3, raters=2, seed="0") != assign(2, 30, 3, raters=2, seed="1")
    assert {*plan[0]} == {*plan[1]}
    assert plan[0] != plan[1]
    # Drawn once, so that a release that assigns otherwise is noticed.
    assert assign(1, 4, 2, raters=1, seed="0") == (((3, 1), (1, 0), (2, 0), (0, 1)),)


@pytest.mark.parametrize("raters", [0, 4])
def test_more_raters_than_annotators_are_refused(raters: int) -> None:
    with pytest.raises(ValueError, match="raters must be from 1 to 3, but got"):
        assign(3, 5, 2, raters=raters, seed="0")
