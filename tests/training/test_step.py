"""The losses of a step: against the definitions by loops over instances and passes, and over any split of a batch."""

import math
from itertools import combinations, pairwise

import pytest
import torch
from helpers.marks import slow
from helpers.tiny import (
    FAST_FAMILIES,
    Group,
    encode,
    first_stage,
    make_split,
    relative_difference,
    tiny_config,
    tiny_corpus,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unirex_ray.config import LossConfig, build_config
from unirex_ray.data.batching import collate
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.errors import UserError
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.encoder import Encoder
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.stage import StageTrainer
from unirex_ray.training.step import (
    GlobalCounts,
    global_counts,
    loss_terms,
    reduce_gradients,
    sampled_thresholds,
    trained_parameters,
    warmed_up,
    weighted_sum,
)

CRITERIA = ("task", "comp", "suff", "plaus")


def naive_losses(model: RationaleModel, split: EncodedSplit, instances, config: LossConfig) -> dict[str, float]:
    """SLM's losses by loops: whole rows go through the library's model, with an attention mask where tokens hide."""
    backbone, choices = model.task_model.encoder.backbone, split.choices
    has_types = backbone.config.type_vocab_size > 1

    def run(row: int, hidden: set[int]):
        part = slice(int(split.offsets[row]), int(split.offsets[row + 1]))
        ids = split.input_ids[part][None].long()
        mask = torch.tensor([[int(token not in hidden) for token in range(ids.shape[1])]])
        types = {"token_type_ids": split.token_types[part][None].long()} if has_types else {}
        output = backbone(input_ids=ids, attention_mask=mask, **types)
        logits = model.task_model.head(output.pooler_output)[0].tolist()
        return logits, model.extractor.head(output.last_hidden_state)[0].tolist()

    def entropy(logits: list[float], label: int) -> float:
        return math.log(sum(math.exp(value) for value in logits)) - logits[label]

    def joined(results) -> list[float]:
        return results[0] if choices == 1 else [logits[0] for logits in results]

    sums = dict.fromkeys(CRITERIA, 0.0)
    gold_rows = []
    for instance in instances:
        label = int(split.labels[instance])
        rows = range(instance * choices, (instance + 1) * choices)
        outputs = [run(row, set()) for row in rows]
        full_logits = joined([logits for logits, _ in outputs])
        full = entropy(full_logits, label)
        sums["task"] += full / len(instances)
        for percent in config.top_k_percents:
            rationale, complement = [], []
            for row, (_, scores) in zip(rows, outputs, strict=True):
                order = sorted(range(1, len(scores)), key=lambda token: (-scores[token], token))
                top = set(order[: max(1, round((len(scores) - 1) * percent / 100))])
                complement.append(run(row, top)[0])
                rationale.append(run(row, set(order) - top)[0])
            comp = full - entropy(joined(complement), label)
            suff = entropy(joined(rationale), label) - full
            if config.comp == "margin":
                comp = max(-config.comp_margin, comp) + config.comp_margin
            if config.suff == "kl":
                pairs = zip(softmax(joined(rationale)), softmax(full_logits), strict=True)
                suff = sum(p * math.log(p / q) for p, q in pairs)
            elif config.suff == "mae":
                suff = abs(suff)
            elif config.suff != "diff":
                suff = max(-config.suff_margin, suff) + config.suff_margin
            sums["comp"] += comp / len(config.top_k_percents) / len(instances)
            sums["suff"] += suff / len(config.top_k_percents) / len(instances)
        for row, (_, scores) in zip(rows, outputs, strict=True):
            gold = split.gold[int(split.offsets[row]) : int(split.offsets[row + 1])].tolist()
            if any(gold):
                gold_rows.append((scores, gold))
    tokens = [pair for scores, gold in gold_rows for pair in zip(scores, gold, strict=True)]
    positives = sum(gold for _, gold in tokens)
    if positives:
        weight = (len(tokens) - positives) / positives
        terms = [weight * math.log1p(math.exp(-s)) if gold else math.log1p(math.exp(s)) for s, gold in tokens]
        sums["plaus"] = sum(terms) / len(tokens)
        if config.plaus != "bce":
            sums["plaus"] = sum(naive_plausibility(*pair, config) for pair in gold_rows) / len(gold_rows)
    return sums


def softmax(logits: list[float]) -> list[float]:
    return [math.exp(value) / sum(map(math.exp, logits)) for value in logits]


def naive_plausibility(scores: list[float], gold: list[bool], config: LossConfig) -> float:
    """Of one text, with a gold token at least."""
    if config.plaus == "kl":
        share = 1 / sum(gold)
        pairs = zip(softmax(scores), gold, strict=True)
        return sum(share * math.log(share / chance) for chance, is_gold in pairs if is_gold)
    terms = [-score if is_gold else score for score, is_gold in zip(scores, gold, strict=True)]
    if config.plaus == "linear_margin":
        terms = [max(-config.plaus_margin, term) + config.plaus_margin for term in terms]
    return sum(terms) / len(terms)


@pytest.mark.parametrize(
    "config",
    [
        LossConfig(),
        LossConfig(comp="diff", suff="diff", top_k_percents=(20,)),
        LossConfig(comp_margin=0.2, suff_margin=0.0, top_k_percents=(5, 50)),
        LossConfig(suff="kl", plaus="kl", top_k_percents=(1, 20)),
        LossConfig(suff="mae", plaus="linear", top_k_percents=(30,)),
        LossConfig(suff="margin", plaus="linear_margin", plaus_margin=0.3),
    ],
)
@pytest.mark.parametrize(
    ("family", "choices"),
    [("bert", 1), *slow(("roberta", 1), ("bert", 3))],
)
def test_losses_are_those_of_the_definitions(encoders, trained, family, choices, config):
    model = trained(family, "slm", choices)
    corpus = tiny_corpus((5, 1, 1), choices=choices, gold=0.6, seed=5)
    split, tokens = encode(tiny_config(encoders[family]), corpus.splits["train"])
    counts = global_counts(split, range(5))
    with dropout_off(model), torch.no_grad():
        terms = loss_terms(model, collate(split, range(5), tokens), counts, CRITERIA, config, ForwardPlan())
        expected = naive_losses(model, split, range(5), config)
    assert 0 < int(split.has_gold.sum()) < len(split.has_gold)
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_weighted_sum_by_hand():
    terms = {name: torch.tensor(value) for name, value in zip(CRITERIA, (1.0, 2.0, 3.0, 4.0), strict=True)}
    config = LossConfig(comp_weight=0.5, suff_weight=0.7, plaus_weight=0.1)
    assert float(weighted_sum(terms, config)) == pytest.approx(1 + 0.5 * 2 + 0.7 * 3 + 0.1 * 4)
    assert float(weighted_sum({"plaus": terms["plaus"]}, config)) == pytest.approx(0.4)


def test_counts_by_hand():
    split = make_split(
        [[2, 5, 3], [2, 5, 6, 7, 3], [2, 3], [2, 5, 5, 3]],
        [0, 1, 0, 1],
        gold=[[False, True, False], [False, True, True, False, False], [False] * 2, [False] * 4],
    )
    assert global_counts(split, [0, 1, 2, 3]) == GlobalCounts(4, 14, 2, 8, 5 / 3)
    assert global_counts(split, [3, 0]) == GlobalCounts(2, 7, 1, 3, 2.0)
    assert global_counts(split, [2, 3]) == GlobalCounts(2, 6, 0, 0, 1.0)
    choices = make_split(
        [[2, 5, 3], [2, 5, 6, 7, 3], [2, 3], [2, 5, 5, 3]],
        [0, 1],
        gold=[[False, True, False], [False] * 5, [False] * 2, [False] * 4],
        choices=2,
    )
    assert global_counts(choices, [0]) == GlobalCounts(1, 8, 1, 3, 2.0)


def test_a_batch_without_gold_has_no_plausibility_loss(encoders, trained):
    model = trained("bert", "slm")
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((4, 1, 1), gold=0.0).splits["train"])
    terms = loss_terms(
        model, collate(split, range(4), tokens), global_counts(split, range(4)), CRITERIA, LossConfig(), ForwardPlan()
    )
    assert float(terms["plaus"].detach()) == 0.0
    model.zero_grad()
    terms["plaus"].backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())
    model.zero_grad()


@pytest.mark.slow
def test_the_task_alone_needs_no_scores(encoders, trained):
    model = trained("bert", "dlm")
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((4, 1, 1)).splits["train"])
    model.zero_grad()
    counts = global_counts(split, range(4))
    terms = loss_terms(model, collate(split, range(4), tokens), counts, ("task",), LossConfig(), ForwardPlan())
    assert set(terms) == {"task"}
    terms["task"].backward()
    assert all(parameter.grad is None for parameter in model.extractor.parameters())
    model.zero_grad()


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(cuts=st.sets(st.integers(1, 7), max_size=5), order=st.permutations(range(8)))
@pytest.mark.parametrize("family", FAST_FAMILIES)
def test_any_split_of_a_batch_sums_to_the_whole(encoders, trained, family, cuts, order):
    model, config = trained(family, "slm"), LossConfig()
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((8, 1, 1), gold=0.5).splits["train"])
    counts = global_counts(split, order)

    def run(parts):
        model.zero_grad()
        sums = dict.fromkeys(CRITERIA, 0.0)
        for part in parts:
            terms = loss_terms(model, collate(split, part, tokens), counts, CRITERIA, config, ForwardPlan())
            weighted_sum(terms, config).backward()
            for name, term in terms.items():
                sums[name] += float(term.detach())
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        return sums, gradients

    with dropout_off(model):
        expected, gradients = run([order])
        edges = [0, *sorted(cuts), 8]
        parts, summed = run([order[start:end] for start, end in pairwise(edges)])
    assert parts == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert relative_difference(summed, gradients) < 5e-6


@pytest.mark.parametrize("config", [LossConfig(), LossConfig(suff="kl"), LossConfig(comp="diff", suff="mae")])
@pytest.mark.parametrize("sampled", [1, 2, 5])
def test_over_all_samples_of_thresholds_the_losses_are_those_on_all_of_them(encoders, trained, config, sampled):
    model, corpus = trained("bert", "slm"), tiny_corpus((5, 1, 1), seed=5)
    split, tokens = encode(tiny_config(encoders["bert"]), corpus.splits["train"])
    batch, counts = collate(split, range(5), tokens), global_counts(split, range(5))

    def losses(percents: tuple[int, ...]) -> dict[str, float]:
        changed = config.model_copy(update={"top_k_percents": percents})
        with dropout_off(model), torch.no_grad():
            terms = loss_terms(model, batch, counts, CRITERIA, changed, ForwardPlan())
        return {name: float(term) for name, term in terms.items()}

    samples = [losses(percents) for percents in combinations(config.top_k_percents, sampled)]
    mean = {name: sum(sample[name] for sample in samples) / len(samples) for name in CRITERIA}
    assert mean == pytest.approx(losses(config.top_k_percents), rel=1e-5, abs=1e-6)


def test_every_sample_of_thresholds_is_as_likely():
    config = LossConfig(sampled_top_k=2)
    drawn = [sampled_thresholds(config, (0, 0, 0, step)).top_k_percents for step in range(4000)]
    pairs = list(combinations((1, 5, 10, 20, 50), 2))
    assert set(drawn) == set(pairs)
    # 400 each are expected; five standard deviations of a binomial count.
    assert all(abs(drawn.count(pair) - 400) < 5 * math.sqrt(4000 * 0.1 * 0.9) for pair in pairs)
    assert drawn[:20] == [sampled_thresholds(config, (0, 0, 0, step)).top_k_percents for step in range(20)]
    assert drawn[:20] != [sampled_thresholds(config, (1, 0, 0, step)).top_k_percents for step in range(20)]
    assert drawn[:20] != [sampled_thresholds(config, (0, 0, 1, step)).top_k_percents for step in range(20)]
    assert sampled_thresholds(LossConfig(sampled_top_k=5), (0, 0, 0, 0)).top_k_percents == (1, 5, 10, 20, 50)
    assert sampled_thresholds(LossConfig(), (0, 0, 0, 0)) == LossConfig()


def test_more_thresholds_than_there_are_cannot_be_drawn():
    with pytest.raises(UserError, match=r"loss\.sampled_top_k = 3: loss\.top_k_percents has 2 to draw from"):
        build_config({"loss": {"sampled_top_k": 3, "top_k_percents": [10, 20]}})


def test_the_weights_of_a_warm_up_by_hand():
    config = LossConfig(comp_weight=0.6, suff_weight=0.9, plaus_weight=0.5, agreement_weight=0.5, warmup=0.3)
    weights = [warmed_up(config, step, 10) for step in range(10)]
    assert [w.comp_weight for w in weights] == pytest.approx([0.2, 0.4, *[0.6] * 8])
    assert [w.suff_weight for w in weights] == pytest.approx([0.3, 0.6, *[0.9] * 8])
    assert {(w.plaus_weight, w.agreement_weight) for w in weights} == {(0.5, 0.5)}
    assert weights[3] == config


@given(warmup=st.integers(0, 100), steps=st.integers(1, 300))
def test_faithfulness_comes_in_linearly_over_a_share_of_the_steps(warmup, steps):
    config = LossConfig(suff_weight=0.5, warmup=warmup / 100)
    last = -(-warmup * steps // 100)  # rounded up
    shares = [warmed_up(config, step, steps) for step in range(steps)]
    expected = [min(1.0, (step + 1) / last) if last else 1.0 for step in range(steps)]
    assert [share.comp_weight for share in shares] == expected
    assert [share.suff_weight for share in shares] == [0.5 * share for share in expected]
    assert expected[0] > 0
    assert shares[-1] == config


@pytest.mark.slow
@pytest.mark.parametrize(("method", "warmup", "rise"), [("unirex-slm-fp", 0.5, 3), ("sgt", 1.0, 6)])
def test_a_warm_up_takes_the_steps_of_a_loop_that_sets_the_weights_itself(encoders, tmp_path, method, warmup, rise):
    changes = {"method": method, "model__dropout": 0.0, "train__epochs": 2, "loss__comp_weight": 0.8}
    corpus = tiny_corpus((24, 3, 3))
    warmed, naive = (
        first_stage(tiny_config(encoders["bert"], **changes, loss__warmup=share), corpus, LocalRuntime(tmp_path / name))
        for name, share in (("warmed", warmup), ("naive", 0.0))
    )
    config, step = naive.setup.config, 0
    for epoch in range(2):
        warmed.learner.run_epoch(lambda: None, lambda: False)
        total, raw = 0.0, 0.0
        for instances in naive.learner.epochs.batches(epoch):
            share = min(1, (step + 1) / rise)
            weights = {"loss.comp_weight": 0.8 * share, "loss.suff_weight": 1.0 * share}
            naive.learner.config = config.changed(weights)
            naive.model.train()
            losses = naive.learner.gradients(instances)
            naive.learner.optimizer.step()
            naive.learner.schedule.step()
            comp = losses.get("comp_loss", 0.0)
            faithfulness = 0.8 * share * comp + share * losses["suff_loss"]
            total += float(losses["task_loss"] + faithfulness + losses.get("plaus_loss", 0.0)) / 3
            raw += float(losses["suff_loss"]) / 3
            step += 1
        assert warmed.state.losses["loss"] == pytest.approx(total, rel=1e-6)  # with the weights of each step
        assert warmed.state.losses["suff_loss"] == pytest.approx(raw, rel=1e-6)  # as it is
        warmed.state.epoch, warmed.state.step, warmed.state.losses = epoch + 1, 0, {}
    assert step == 6
    one, other = (trainer.model.state_dict() for trainer in (warmed, naive))
    assert all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["unirex-slm-fp", "refer-slm-fp"])
@pytest.mark.parametrize("choices", [1, 3])
@pytest.mark.parametrize(
    ("world", "micro", "sampled"), [(3, 2, None), (3, 2, 1), (2, None, None), (3, 1, 2), (5, None, None)]
)
def test_workers_and_micro_batches_give_the_gradients_of_one_process(
    encoders, tmp_path, world, micro, sampled, choices, method
):
    corpus = tiny_corpus((12, 3, 3), choices=choices, gold=0.5)
    instances = [3, 1, 7, 10]  # less than five workers: one of them has nothing to do

    def stage_of(runtime, **overrides) -> StageTrainer:
        overrides |= {"model__dropout": 0.0, "loss__sampled_top_k": sampled}
        config = tiny_config(encoders["roberta"], method=method, **overrides)
        return first_stage(config, corpus, runtime)

    single = stage_of(LocalRuntime(tmp_path / "single"))
    expected = single.learner.gradients(instances)
    group = Group(world, tmp_path / "group")
    trainers = [stage_of(group.runtime(rank), train__micro_batch_size=micro) for rank in range(world)]
    shares = group.run(lambda rank: trainers[rank].learner.gradients(instances))
    for name, value in expected.items():
        total = sum(float(losses.get(name, 0.0)) for losses in shares)
        assert total == pytest.approx(float(value), rel=2e-6, abs=2e-6)
    gradients = [parameter.grad for parameter in single.learner.parameters]
    for worker in trainers:
        assert relative_difference([parameter.grad for parameter in worker.learner.parameters], gradients) < 2e-6
    assert all(
        torch.equal(one.grad, other.grad)
        for one, other in zip(trainers[0].learner.parameters, trainers[-1].learner.parameters, strict=True)
    )


@pytest.mark.parametrize("without_gold", [0, 1])
def test_a_pooling_head_takes_the_same_steps_on_several_workers_whichever_batch_has_no_gold(
    encoders, tmp_path, without_gold
):
    corpus = tiny_corpus((12, 3, 3), gold=0.5)
    settings = {"method": "unirex-aa-fp", "model__pooling": "mlp", "model__dropout": 0.0}
    config = tiny_config(encoders["bert"], **settings)
    has_gold = encode(config, corpus.splits["train"])[0].has_gold
    gold, none = (has_gold == flag for flag in (True, False))
    batches = [gold.nonzero().flatten().tolist()[:4] for _ in "abc"]
    batches[without_gold] = none.nonzero().flatten().tolist()[:4]

    def steps(trainer: StageTrainer) -> list[torch.Tensor]:
        for instances in batches:
            trainer.learner.gradients(instances)
            trainer.learner.optimizer.step()
        return [parameter.detach() for parameter in trainer.model.extractor.parameters()]

    expected = steps(first_stage(config, corpus, LocalRuntime(tmp_path / "single")))
    group = Group(2, tmp_path / "group")
    trainers = [first_stage(config, corpus, group.runtime(rank)) for rank in range(2)]
    one, other = group.run(lambda rank: steps(trainers[rank]))
    assert len(expected) > 2
    assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    assert relative_difference(one, expected) < 1e-4


@pytest.mark.parametrize("bucket", [1, 3, 4, 100])
def test_workers_sum_gradients_in_buckets_and_leave_alone_what_none_trains(tmp_path, monkeypatch, bucket):
    monkeypatch.setattr("unirex_ray.training.step.BUCKET", bucket)
    group = Group(2, tmp_path)
    workers = [[nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))] for _ in "ab"]
    workers[0][0].grad = torch.tensor([1.0, 2.0])
    workers[1][0].grad = torch.tensor([10.0, 20.0])
    workers[1][1].grad = torch.tensor([1.0, 1.0, 1.0])
    sizes: list[int] = []

    def work(rank: int) -> None:
        runtime = group.runtime(rank)
        trained = trained_parameters(workers[rank], runtime)
        assert trained == workers[rank][:2]
        add = runtime.all_reduce
        runtime.all_reduce = lambda tensor: (sizes.append(tensor.numel()), add(tensor))
        reduce_gradients(trained, runtime)

    group.run(work)
    for first, second, third in workers:
        assert first.grad.tolist() == [11.0, 22.0]
        assert second.grad.tolist() == [1.0, 1.0, 1.0]
        assert third.grad is None
    assert sorted(sizes) == ([2, 2, 3, 3] if bucket < 5 else [5, 5])


@pytest.mark.parametrize(
    ("family", "method"), [("bert", "unirex-slm-fp"), ("roberta", "unirex-aa-fp"), *slow(("roberta", "unirex-dlm-fp"))]
)
def test_sparse_gradients_of_the_word_embeddings_are_the_dense_ones(encoders, tmp_path, monkeypatch, family, method):
    """Of one step in several passes and micro-batches, second-order gradients among them."""
    config = tiny_config(encoders[family], method=method, model__dropout=0.0, train__micro_batch_size=3)
    trainer = first_stage(config, tiny_corpus((12, 3, 3)), LocalRuntime(tmp_path))
    tables = [module.word_embeddings for module in trainer.model.modules() if isinstance(module, Encoder)]
    assert all(table.sparse for table in tables)
    instances = [3, 1, 7, 10]
    left_sparse = []

    def watched_collate(*arguments):
        grads = [table.weight.grad for table in tables]
        left_sparse.append(any(grad is not None and grad.is_sparse for grad in grads))
        return collate(*arguments)

    monkeypatch.setattr("unirex_ray.training.learner.collate", watched_collate)
    sparse_losses = trainer.learner.gradients(instances)
    assert left_sparse == [False, False]  # what two micro-batches leave does not pile up
    sparse = [parameter.grad.clone() for parameter in trainer.learner.parameters]
    assert all(grad.layout == torch.strided for grad in sparse)
    for table in tables:
        table.sparse = False
    losses = trainer.learner.gradients(instances)
    assert sparse_losses == losses
    assert relative_difference(sparse, [parameter.grad for parameter in trainer.learner.parameters]) < 1e-6
    (table,) = tables if method != "unirex-dlm-fp" else tables[:1]
    assert table.weight.grad.abs().sum() > 0
    if table.padding_idx is not None:
        assert table.weight.grad[table.padding_idx].abs().sum() == 0
