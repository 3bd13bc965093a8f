"""Seeded samples that stay balanced and nested."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate, pairwise


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


def partition(labels: Sequence[int], shares: Sequence[int], *, seed: int) -> tuple[tuple[int, ...], ...]:
    """Share out all of the instances so that every label keeps its share in each part.

    A label's count in the first and in the last part is less than one instance away from its proportional share; in
    any other part, less than two.

    Args:
        labels: label of each instance.
        shares: of the parts; they are the sizes themselves where they sum up to the number of instances, and are scaled
            to it otherwise, with what rounding leaves going to the largest remainders.

    Returns:
        Indices into `labels` for each part, increasing; every index is in exactly one part.
    """
    # Samples are nested: each part is what a larger sample adds to a smaller one. Backwards, as most go to the first.
    ends = accumulate(reversed(_scaled(shares, len(labels))))
    samples = [stratified_sample(labels, end, seed=seed) for end in ends]
    parts = [set(larger).difference(smaller) for smaller, larger in pairwise(((), *samples))]
    return tuple(tuple(sorted(part)) for part in reversed(parts))


def _scaled(shares: Sequence[int], total: int) -> list[int]:
    sizes = [share * total // sum(shares) for share in shares]
    # sorted() is stable: of equal remainders, the first one counts.
    largest = sorted(range(len(shares)), key=lambda part: -(shares[part] * total % sum(shares)))
    for part in largest[: total - sum(sizes)]:
        sizes[part] += 1
    return sizes
