"""Seeded samples that stay balanced and nested."""

from __future__ import annotations

import random
from collections.abc import Sequence


def stratified_sample(labels: Sequence[int], size: int, *, seed: int) -> tuple[int, ...]:
    """Draw `size` of the instances so that every label keeps its share.

    Each label's count is less than one instance away from its proportional share, at every size, and a smaller sample
    of the same seed is a subset of a larger one.

    Args:
        labels: label of each instance.
        size: at least 1; everything is drawn where there are no more.

    Returns:
        Indices into `labels`, increasing.
    """
    total = len(labels)
    if size >= total:
        return tuple(range(total))
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    for label, indices in members.items():
        random.Random(f"{seed}/{label}").shuffle(indices)

    taken = dict.fromkeys(sorted(members), 0)
    drawn: list[int] = []
    for step in range(1, size + 1):
        # The quota method of apportionment: among the labels that may grow without leaving their share rounded up, the
        # one whose share rounded down forces its next instance soonest. Integers only, so there is nothing to round.
        may_grow = [label for label in taken if taken[label] * total < step * len(members[label])]
        label = min(may_grow, key=lambda label: -(-(taken[label] + 1) * total // len(members[label])))
        drawn.append(members[label][taken[label]])
        taken[label] += 1
    return tuple(sorted(drawn))
