"""Evaluation against an independent evaluator: one instance at a time, tokens taken out of the list of ids."""

import copy
import math
import statistics
from itertools import chain

import pytest
import torch
from captum.attr import IntegratedGradients
from helpers.tiny import FAST_FAMILIES, Group, encode, tiny_config, tiny_corpus
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, auc, f1_score, precision_recall_curve

from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.models.design import Design
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training import evaluate
from unirex_ray.training.evaluate import Evaluator
from unirex_ray.training.explain import highlight_results
from unirex_ray.training.runtime import LocalRuntime

K = (1, 5, 10, 20, 50)


def naive_metrics(model: RationaleModel, split: EncodedSplit, extractor: str, pad_id: int, sep_id: int, task: str):
    backbone, choices = model.task_model.encoder.backbone, split.choices
    has_types = backbone.config.type_vocab_size > 1
    model.eval()

    def types_of(types: list[int]):
        return {"token_type_ids": torch.tensor([types])} if has_types else {}

    def logits_of(ids: list[int], types: list[int]) -> list[float]:
        # Said here, as RoBERTa itself would give no position to a PAD token within a text.
        positions = torch.arange(len(ids))[None] + model.task_model.encoder.first_position
        with torch.no_grad():
            output = backbone(input_ids=torch.tensor([ids]), position_ids=positions, **types_of(types))
            return model.task_model.head(output.pooler_output)[0].tolist()

    def scores_of(ids: list[int], types: list[int], target: int) -> list[float]:
        if extractor == "aa-ig":
            table = backbone.get_input_embeddings()
            blank = [id_ if id_ == sep_id or place == 0 else pad_id for place, id_ in enumerate(ids)]
            inputs, baseline = (table(torch.tensor([row])).detach() for row in (ids, blank))

            def forward(embeds):
                kinds = {name: value.expand(len(embeds), -1) for name, value in types_of(types).items()}
                return model.task_model.head(backbone(inputs_embeds=embeds, **kinds).pooler_output)

            captum = IntegratedGradients(forward)
            return (
                captum.attribute(inputs, baseline, target=target, n_steps=3, method="gausslegendre").sum(-1)[0].tolist()
            )
        reader = backbone if extractor == "slm" else model.extractor.encoder.backbone
        with torch.no_grad():
            states = reader(input_ids=torch.tensor([ids]), **types_of(types)).last_hidden_state
            return model.extractor.head(states)[0].tolist()

    def softmax(values: list[float]) -> list[float]:
        top = max(values)
        return [math.exp(v - top) / sum(math.exp(w - top) for w in values) for v in values]

    def joined(results: list[list[float]]) -> list[float]:
        return results[0] if choices == 1 else [logits[0] for logits in results]

    drops: dict[str, list[list[float]]] = {"comp": [], "suff": []}
    probabilities = []
    comps, suffs, odds, losses, predictions, auprcs, token_f1s = [], [], [], [], [], [], []
    for instance, label in enumerate(split.labels.tolist()):
        rows = []
        for row in range(instance * choices, (instance + 1) * choices):
            part = slice(int(split.offsets[row]), int(split.offsets[row + 1]))
            rows.append((split.input_ids[part].tolist(), split.token_types[part].tolist(), split.gold[part].tolist()))
        full = joined([logits_of(ids, types) for ids, types, _ in rows])
        chances = softmax(full)
        best = max(range(len(full)), key=lambda c: full[c])
        predictions.append(best)
        losses.append(-math.log(chances[label]))
        scored = [scores_of(ids, types, 0 if choices > 1 else best) for ids, types, _ in rows]
        comp, suff, odd = [], [], []
        for percent in K:
            inside, outside, padded = [], [], []
            for (ids, types, _), scores in zip(rows, scored, strict=True):
                order = sorted(range(1, len(ids)), key=lambda place: (-scores[place], place))
                chosen = {0, *order[: max(1, round((len(ids) - 1) * percent / 100))]}
                rest = {0, *(set(range(len(ids))) - chosen)}
                blanked = [pad_id if place in chosen - {0} else id_ for place, id_ in enumerate(ids)]
                padded.append(logits_of(blanked, types))
                for keep, results in ((chosen, inside), (rest, outside)):
                    kept = sorted(keep)
                    results.append(logits_of([ids[place] for place in kept], [types[place] for place in kept]))
            comp.append(chances[best] - softmax(joined(outside))[best])
            suff.append(chances[best] - softmax(joined(inside))[best])
            odd.append(math.log(softmax(joined(padded))[best]) - math.log(chances[best]))
        odds.append(sum(odd) / 5)
        drops["comp"].append(comp)
        drops["suff"].append(suff)
        probabilities.append(chances[best])
        comps.append(sum(comp) / 6)
        suffs.append(sum(suff) / 6)
        of_instance = []
        for (_, _, gold), scores in zip(rows, scored, strict=True):
            if any(gold):
                precision, recall, _ = precision_recall_curve(gold, scores)
                of_instance.append((auc(recall, precision), f1_score(gold, [s > 0 for s in scores], average="macro")))
        if of_instance:
            auprcs.append([area for area, _ in of_instance])
            token_f1s.append([f1 for _, f1 in of_instance])

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def error(values: list[float]) -> float:
        return statistics.stdev(values) / math.sqrt(len(values))

    def error_of_ratio(groups: list[list[float]]) -> float:
        """Of the mean over all values, where a group is drawn as a whole."""
        values = [*chain(*groups)]
        ratio, total = mean(values), len(values)
        residuals = [sum(value - ratio for value in group) for group in groups]
        return math.sqrt(len(groups) / (len(groups) - 1) * sum(r * r for r in residuals)) / total

    labels = split.labels.tolist()
    columns = {f"{name}@{k}": [by_k[i] for by_k in values] for name, values in drops.items() for i, k in enumerate(K)}
    columns |= {"loss": losses, "log_odds": odds, "predicted": predictions, "probability": probabilities}
    metrics = {
        "loss": mean(losses),
        "accuracy": 100 * accuracy_score(labels, predictions),
        "macro_f1": 100 * f1_score(labels, predictions, average="macro"),
        "comprehensiveness": mean(comps),
        "sufficiency": mean(suffs),
        "csd": mean(comps) - mean(suffs),
        "log_odds": mean(odds),
        "comprehensiveness_se": error(comps),
        "sufficiency_se": error(suffs),
    }
    metrics["task_score"] = metrics[task]
    if auprcs:
        metrics |= {"auprc": 100 * mean([*chain(*auprcs)]), "token_f1": 100 * mean([*chain(*token_f1s)])}
    if len(auprcs) > 1:
        metrics |= {"auprc_se": 100 * error_of_ratio(auprcs), "token_f1_se": 100 * error_of_ratio(token_f1s)}
    share, most = metrics["accuracy"] / 100, max(map(labels.count, labels))
    metrics["top_prediction"] = max(map(predictions.count, predictions)) / len(labels)
    if task == "accuracy":
        right = [label == predicted for label, predicted in zip(labels, predictions, strict=True)]
        metrics["majority_score"] = 100 * most / len(labels)
        metrics["majority_p"] = binomtest(sum(right), len(right), most / len(labels), alternative="greater").pvalue
        metrics["task_score_se"] = 100 * math.sqrt(share * (1 - share) / len(labels))
    return metrics, columns


def evaluator_of(model, tokens, runtime, *, choices: int = 1, task: str = "accuracy", plan: ForwardPlan | None = None):
    return Evaluator(
        model=model,
        special_tokens=tokens,
        classes=choices if choices > 1 else 2,
        task_metric=task,
        plan=plan or ForwardPlan(),
        runtime=runtime,
        log_odds=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extractor", "choices", "pair", "task"),
    [
        ("slm", 1, False, "accuracy"),
        ("aa-ig", 3, False, "macro_f1"),
        ("dlm", 1, True, "macro_f1"),
        ("aa-ig", 1, True, "accuracy"),
        ("slm", 3, False, "accuracy"),
    ],
)
@pytest.mark.parametrize("family", FAST_FAMILIES)
def test_an_independent_evaluator_gives_the_same(encoders, trained, tmp_path, family, extractor, choices, pair, task):
    model = trained(family, extractor, choices)
    corpus = tiny_corpus((1, 1, 7), choices=choices, pair=pair, gold=0.6, seed=5)
    split, tokens = encode(tiny_config(encoders[family]), corpus.splits["test"])
    results = evaluator_of(model, tokens, LocalRuntime(tmp_path), choices=choices, task=task)(split)
    found = results.metrics
    expected, columns = naive_metrics(model, split, extractor, tokens.pad_id, tokens.sep_id, task)
    if task != "accuracy":  # see tests/metrics/test_verdict.py and test_task.py
        found = {key: value for key, value in found.items() if key in expected}
    assert found == pytest.approx(expected, rel=1e-5, abs=2e-5)
    instances = results.instances
    by_name = {**instances.measured, "predicted": instances.predicted, "probability": instances.probability}
    for name, values in columns.items():
        assert by_name[name].tolist() == pytest.approx(values, rel=1e-5, abs=2e-5), name
    assert instances.ids == tuple(split.ids)


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["slm", "aa-ig"])
@pytest.mark.parametrize("choices", [1, 3])
def test_neither_chunks_nor_workers_nor_plans_change_metrics(
    encoders, trained, tmp_path, monkeypatch, extractor, choices
):
    model = trained("roberta", extractor, choices).eval()
    corpus = tiny_corpus((1, 1, 11), choices=choices, gold=0.6, seed=2)
    split, tokens = encode(tiny_config(encoders["roberta"]), corpus.splits["test"])
    reference = evaluator_of(model, tokens, LocalRuntime(tmp_path), choices=choices)(split).metrics
    for chunk in (1, 4):
        monkeypatch.setattr(evaluate, "CHUNK", chunk)
        again = evaluator_of(model, tokens, LocalRuntime(tmp_path), choices=choices)(split).metrics
        assert again == pytest.approx(reference, rel=1e-5, abs=1e-5)
    monkeypatch.undo()
    for plan in (
        ForwardPlan(token_budget=64),
        ForwardPlan(pass_cost=0),
        ForwardPlan(drop=False),
        ForwardPlan(activation_checkpointing=True),
    ):
        again = evaluator_of(model, tokens, LocalRuntime(tmp_path), choices=choices, plan=plan)(split).metrics
        assert again == pytest.approx(reference, rel=1e-5, abs=1e-5)
    for world in (2, 3, 12):  # the last of twelve workers has nothing to do
        group = Group(world, tmp_path)
        results = group.run(
            lambda rank: evaluator_of(model, tokens, group.runtime(rank), choices=choices)(split).metrics  # noqa: B023
        )
        assert all(result == results[0] for result in results)
        assert results[0] == pytest.approx(reference, rel=1e-5, abs=1e-5)


def test_without_gold_there_is_no_plausibility_and_modes_come_back(encoders, trained, tmp_path):
    model = trained("bert", "slm").train()
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((1, 1, 5), gold=0.0).splits["test"])
    found = evaluator_of(model, tokens, LocalRuntime(tmp_path))(split).metrics
    explained = {"comprehensiveness", "sufficiency", "csd", "log_odds", "comprehensiveness_se", "sufficiency_se"}
    verdict = {"majority_score", "majority_p", "top_prediction"}
    assert set(found) == {"loss", "task_score", "accuracy", "macro_f1", "task_score_se"} | explained | verdict
    assert all(part.training for part in model.modules())


@pytest.mark.slow
def test_evaluation_is_the_same_twice_although_dropout_is_configured(encoders, trained, tmp_path):
    model = trained("bert", "dlm").train()
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((1, 1, 5)).splits["test"])
    evaluator = evaluator_of(model, tokens, LocalRuntime(tmp_path))
    assert evaluator(split).metrics == evaluator(split).metrics


@pytest.mark.slow
@pytest.mark.parametrize("choices", [1, 3])
def test_highlights_show_scores_gold_and_selection(encoders, trained, tmp_path, choices):
    model = trained("bert", "slm", choices)
    corpus = tiny_corpus((1, 1, 5), choices=choices, pair=choices == 1, gold=0.6, seed=4)
    instances = corpus.splits["test"]
    split, tokens = encode(tiny_config(encoders["bert"]), instances)
    results = evaluator_of(model, tokens, LocalRuntime(tmp_path), choices=choices)(
        split, explain=False, keep_scores=True
    )
    shown = highlight_results(model, split, instances, corpus.labels, results, top_k_percent=20)
    assert [item.id for item in shown] == [item.id for item in instances]
    expected, _ = naive_metrics(model, split, "slm", tokens.pad_id, tokens.sep_id, "accuracy")
    hits = [item.predicted == item.label for item in shown]
    assert 100 * sum(hits) / len(hits) == pytest.approx(expected["accuracy"])
    for item, instance in zip(shown, instances, strict=True):
        assert 1 / max(2, choices) <= item.probability <= 1
        for seen, source in zip(item.inputs, instance.inputs, strict=True):
            words = [seen.segments[token.segment][token.start : token.end] for token in seen.tokens]
            assert words == " ".join(source.segments).split()
            if source.gold is None:
                assert {token.gold for token in seen.tokens} == {None}
            else:
                gold = {(token.segment, token.start, token.end) for token in seen.tokens if token.gold}
                assert gold == set(source.gold)
            # Separators compete as well, so that some of the selected tokens may not be shown.
            size = max(1, round((len(words) + 1 + len(source.segments) - 1) * 0.2))
            chosen = [token for token in seen.tokens if token.selected]
            assert len(chosen) <= size
            rest = [token.score for token in seen.tokens if not token.selected]
            assert not chosen or not rest or min(token.score for token in chosen) >= max(rest)
    hidden = highlight_results(model, split, instances, corpus.labels, results, known_label=False)
    assert {item.label for item in hidden} == {None}


def test_a_rationale_with_a_size_of_its_own_is_shown_as_it_is(encoders, trained, tmp_path):
    design = Design(extractor="selection", predicts_from="rationale", top_k_percent=30)
    config = tiny_config(encoders["bert"])
    model = RationaleModel(config.model, design, 2, earlier=copy.deepcopy(trained("bert", "slm")))
    corpus = tiny_corpus((1, 1, 5))
    split, tokens = encode(config, corpus.splits["test"])
    instances = corpus.splits["test"]
    results = evaluator_of(model, tokens, LocalRuntime(tmp_path))(split, keep_scores=True)
    shown = highlight_results(model, split, instances, corpus.labels, results, top_k_percent=90)
    assert {item.top_k_percent for item in shown} == {30}
    assert all(token.selected == (token.score == 1.0) for item in shown for token in item.inputs[0].tokens)
