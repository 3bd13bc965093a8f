from functools import cache

import pytest
import torch
from helpers.tiny import make_split, whole_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.data.batching import Batch
from unirex_ray.data.encoded import SpecialTokens
from unirex_ray.models.token_subsets import ForwardPlan, cut_by_length, encode_subsets, full_subsets, perturbed_subsets
from unirex_ray.models.top_k import selection_size

TOKENS = SpecialTokens(pad_id=0, sep_id=3)


def cost(lengths: tuple[int, ...], cuts: tuple[int, ...], pass_cost: int) -> int:
    starts = (0, *cuts[:-1])
    return sum((end - start) * lengths[end - 1] + pass_cost for start, end in zip(starts, cuts, strict=True))


def least_cost(lengths: tuple[int, ...], pass_cost: int, budget: int) -> int:
    """Over every way to cut, by trying all of them."""

    @cache
    def best(start: int) -> int:
        if start == len(lengths):
            return 0
        return min(
            (end - start) * lengths[end - 1] + pass_cost + best(end)
            for end in range(start + 1, len(lengths) + 1)
            if end == start + 1 or (end - start) * lengths[end - 1] <= budget
        )

    return best(0)


def test_cuts_by_hand():
    assert cut_by_length((5, 5, 5), 64, 1000) == (3,)
    assert cut_by_length((5, 5, 500), 64, 10_000) == (2, 3)
    assert cut_by_length((5, 6, 7), 64, 10_000) == (3,)
    assert cut_by_length((5, 6, 7), 0, 10_000) == (1, 2, 3)
    assert cut_by_length((100, 100, 100), 64, 150) == (1, 2, 3)  # any two exceed the budget
    assert cut_by_length((500,), 64, 150) == (1,)  # a single input beyond it
    assert cut_by_length((4, 5, 5, 5), 64, 10) == (2, 4)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=10), st.integers(0, 40), st.integers(1, 60))
def test_cuts_are_the_cheapest_within_the_budget(lengths, pass_cost, budget):
    ordered = tuple(sorted(lengths))
    cuts = cut_by_length(ordered, pass_cost, budget)
    assert cuts[-1] == len(ordered)
    assert list(cuts) == sorted(set(cuts))
    for start, end in zip((0, *cuts[:-1]), cuts, strict=True):
        assert end == start + 1 or (end - start) * ordered[end - 1] <= budget
    assert cost(ordered, cuts, pass_cost) == least_cost(ordered, pass_cost, budget)


def random_batch(lengths: list[int], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rows = [[2, *torch.randint(4, 100, (length - 2,), generator=generator).tolist(), 3] for length in lengths]
    types = [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in rows]
    return whole_batch(make_split(rows, [0] * len(rows), types=types), TOKENS)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(2, 30), min_size=1, max_size=5),
    st.lists(st.integers(1, 100), min_size=1, max_size=6, unique=True),
    st.integers(0, 10_000),
)
def test_subsets_are_both_sides_of_every_threshold_each_once(lengths, percents, seed):
    batch = random_batch(lengths, seed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, batch.input_ids.shape, generator=generator).float()  # many ties
    perturbed = perturbed_subsets(batch, scores, percents)
    subsets = perturbed.subsets
    gated = perturbed_subsets(batch, scores, percents, differentiable=True).subsets
    assert subsets.gates is None
    assert torch.equal(gated.gates, subsets.kept.float())
    assert gated.gates.sum(1).tolist() == gated.lengths.tolist()
    distinct = set()
    for row, length in enumerate(lengths):
        order = sorted(range(1, length), key=lambda token: (-float(scores[row, token]), token))
        for number, percent in enumerate(percents):
            size = selection_size(length - 1, percent)
            rationale = {0, *order[:size]}
            for side, expected in enumerate([{0, *(set(range(length)) - rationale)}, rationale]):
                subset = int(perturbed.index[side, number, row])
                assert int(subsets.rows[subset]) == row
                assert set(subsets.kept[subset].nonzero().flatten().tolist()) == expected
                assert int(subsets.lengths[subset]) == len(expected)
                distinct.add((side, row, size))
    assert len(subsets.rows) == len(distinct)  # none is computed twice


def test_full_subsets_are_the_rows():
    batch = random_batch([5, 2, 9])
    subsets = full_subsets(batch)
    assert subsets.rows.tolist() == [0, 1, 2]
    assert torch.equal(subsets.kept, batch.attended)
    assert subsets.lengths.tolist() == [5, 2, 9]


def recorded(batch: Batch, plan: ForwardPlan, positions: str) -> tuple[list[dict[str, list[int]]], list[int]]:
    """What the encoder gets for every subset, without padding and masked tokens, and the tokens per pass."""
    scores = torch.arange(batch.input_ids.numel()).view_as(batch.input_ids).float() % 7
    subsets = perturbed_subsets(batch, scores, (5, 20, 50)).subsets
    inputs: list[dict[str, list[int]]] = []
    passes: list[int] = []

    def encode(ids, position_ids, types, mask, rows):
        assert ids.shape == position_ids.shape == types.shape
        passes.append(ids.numel())
        seen = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        if mask is not None:
            assert not bool(mask.all())
        if plan.drop or positions == "fresh":
            assert ids[~seen].eq(batch.pad_id).all()
        for number in range(len(ids)):
            columns = {"ids": ids, "position_ids": position_ids, "types": types}
            inputs.append({name: column[number][seen[number]].tolist() for name, column in columns.items()})
        return torch.arange(len(inputs) - len(ids), len(inputs))[:, None].float()

    order = encode_subsets(batch, subsets, encode, plan, positions=positions).flatten().int().tolist()
    return [{**inputs[index], "row": int(row)} for index, row in zip(order, subsets.rows, strict=True)], passes


PLANS = [
    ForwardPlan(),
    ForwardPlan(pass_cost=0),
    ForwardPlan(pass_cost=100_000),
    ForwardPlan(token_budget=1),
    ForwardPlan(token_budget=40),
    ForwardPlan(activation_checkpointing=True),
]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("positions", ["original", "fresh"])
def test_the_encoder_sees_the_kept_tokens_in_order_whatever_the_plan(plan, positions):
    batch = random_batch([12, 3, 20, 2, 12])
    scores = torch.arange(batch.input_ids.numel()).view_as(batch.input_ids).float() % 7
    subsets = perturbed_subsets(batch, scores, (5, 20, 50)).subsets
    inputs, passes = recorded(batch, plan, positions)
    for number, seen in enumerate(inputs):
        row, kept = int(subsets.rows[number]), subsets.kept[number]
        columns = kept.nonzero().flatten().tolist()
        assert seen["row"] == row
        assert seen["ids"] == batch.input_ids[row, columns].tolist()
        assert seen["types"] == batch.token_types[row, columns].tolist()
        assert seen["position_ids"] == (columns if positions == "original" else list(range(len(columns))))
    assert all(tokens <= max(plan.token_budget, 20) for tokens in passes)


def test_masking_hides_tokens_and_keeps_them_in_place():
    batch = random_batch([12, 3, 20])
    masked, _ = recorded(batch, ForwardPlan(drop=False), "original")
    dropped, _ = recorded(batch, ForwardPlan(), "original")
    assert masked == dropped


def test_what_the_rationale_wins_its_complement_loses():
    batch = random_batch([12, 3, 20])
    scores = torch.randn(batch.input_ids.shape).requires_grad_()
    perturbed = perturbed_subsets(batch, scores, (5, 50), differentiable=True)
    complement, rationale = (
        torch.autograd.grad((perturbed.subsets.gates[side] * torch.arange(20)).sum(), scores, retain_graph=True)[0]
        for side in perturbed.index
    )
    assert rationale.any()
    assert torch.allclose(complement, -rationale)


def test_gates_are_what_the_encoder_gets_as_its_mask_and_nothing_is_dropped():
    batch = random_batch([12, 3, 20])
    subsets = perturbed_subsets(batch, torch.randn(batch.input_ids.shape), (5, 50), differentiable=True).subsets
    for plan in PLANS:
        widths: list[int] = []

        def encode(ids, position_ids, types, mask, rows, widths=widths):
            widths += [ids.shape[1]] * len(ids)
            assert torch.equal(ids, batch.input_ids[rows, : ids.shape[1]])
            return torch.nn.functional.pad(mask, (0, 20 - mask.shape[1]))

        assert torch.equal(encode_subsets(batch, subsets, encode, plan), subsets.gates)
        assert sum(widths) >= batch.host_lengths[subsets.rows].sum()


def test_metrics_always_delete():
    batch = random_batch([12, 3, 20])
    assert recorded(batch, ForwardPlan(drop=False), "fresh") == recorded(batch, ForwardPlan(), "fresh")


def test_dropping_computes_the_kept_tokens_alone():
    batch = random_batch([41, 41])
    _, exact = recorded(batch, ForwardPlan(pass_cost=0), "original")
    subsets = perturbed_subsets(batch, torch.arange(82).view(2, 41).float() % 7, (5, 20, 50)).subsets
    assert sum(exact) == int(subsets.lengths.sum())
    _, masked = recorded(batch, ForwardPlan(pass_cost=0, drop=False), "original")
    assert sum(masked) == len(subsets.rows) * 41
