"""Who judges what: a balanced, seeded assignment of items to annotators.

Shapes: A annotators, N instances, C conditions, G groups of annotators who judge the same items.

In a task an annotator judges every instance once, under one of the conditions, so that nobody sees a text with the
rationales of two methods. An annotator judges each condition on N / C instances, rounded up or down. Groups of at least
`raters` annotators judge the same items, so that their agreement is known; the others judge other ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count

Plan = tuple[tuple[tuple[int, int], ...], ...]
"""By annotator, what to judge in the order in which it is shown: pairs of instance and condition."""


def assign(annotators: int, instances: int, conditions: int, *, raters: int, seed: str) -> Plan:
    """Assign items of one task.

    Args:
        annotators, instances, conditions: numbers of them, each at least 1.
        raters: fewest annotators who judge an item that anybody judges, from 1 to `annotators`.
        seed: the same for the same plan.

    Returns:
        For each annotator N pairs, whose instances are all different. Over annotators of one group the pairs are the
        same, their order is not. The numbers of groups that judge two conditions' items differ by at most 1, and so do
        those that judge two items of one instance.
    """
    if not 1 <= raters <= annotators:
        raise ValueError(f"raters must be from 1 to {annotators}, but got {raters}")
    shuffle = random.Random(f"{seed}/design").shuffle
    of_condition, of_instance, people = list(range(conditions)), list(range(instances)), list(range(annotators))
    for numbers in (of_condition, of_instance, people):
        shuffle(numbers)
    groups = annotators // raters
    group_of = dict(zip(people, (number % groups for number in count()), strict=False))
    shifts = _shifts(groups, conditions)
    plan = []
    for annotator in range(annotators):
        shift = shifts[group_of[annotator]]
        pairs = [(one, of_condition[(column + shift) % conditions]) for column, one in enumerate(of_instance)]
        random.Random(f"{seed}/order/{annotator}").shuffle(pairs)
        plan.append(tuple(pairs))
    return tuple(plan)


def _shifts(groups: int, conditions: int) -> Sequence[int]:
    """How far each group's conditions are shifted against the first one's.

    Every C groups take each shift once. The rest are spread evenly, so that the instances that C does not divide fall
    on all conditions alike.
    """
    full, rest = divmod(groups, conditions)
    return [*range(conditions)] * full + [number * conditions // rest for number in range(rest)]
