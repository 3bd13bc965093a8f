"""What is shown of a model's rationales: which instances, which tokens at each threshold, and the recorded numbers."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.tiny import encode, make_split, tiny_config, tiny_corpus

from unirex_ray.data.encoded import EncodedSplit, SpecialTokens
from unirex_ray.data.highlight import highlights_from_json, highlights_to_json
from unirex_ray.metrics.instance_file import from_parquet, to_parquet
from unirex_ray.metrics.instances import COMP, PLAUSIBILITY, PREDICTED_AT, PROBABILITY_AT, SUFF
from unirex_ray.models.design import Design
from unirex_ray.models.rationale_model import RationaleModel, build_stage
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.evaluate import Evaluator, SplitResults
from unirex_ray.training.explain import highlight_results, shown_instances
from unirex_ray.training.runtime import LocalRuntime


def evaluated(model: RationaleModel, split: EncodedSplit, tokens: SpecialTokens, folder, classes: int) -> SplitResults:
    evaluator = Evaluator(
        model=model,
        special_tokens=tokens,
        classes=classes,
        task_metric="accuracy",
        plan=ForwardPlan(),
        runtime=LocalRuntime(folder),
    )
    return evaluator(split, keep_scores=True)


@pytest.mark.slow
@pytest.mark.parametrize("choices", [1, 3])
def test_every_threshold_marks_what_the_definition_selects_ties_included(encoders, tmp_path, choices):
    config, corpus = tiny_config(encoders["bert"]), tiny_corpus((1, 1, 5), choices=choices, seed=4)
    model = build_stage(config.model, Design(extractor="slm"), 1 if choices > 1 else 2, seed=0)
    instances = corpus.splits["test"]
    split, tokens = encode(config, instances)
    results = evaluated(model, split, tokens, tmp_path, max(2, choices))
    coarse = replace(results, scores=(8 * results.scores).round())
    assert any(len(set(row.tolist())) < len(row) for row in coarse.scores.split(split.lengths.tolist()))
    shown = highlight_results(model, split, instances, corpus.labels, coarse, top_k_percent=30, numbers=(3, 1))
    assert [item.id for item in shown] == [instances[3].id, instances[1].id]
    for item, number in zip(shown, (3, 1), strict=True):
        assert item.thresholds == (1, 5, 10, 20, 30, 50)
        for choice, text in enumerate(item.inputs):
            row = number * choices + choice
            span = slice(int(split.offsets[row]), int(split.offsets[row + 1]))
            scores, spans = coarse.scores[span].tolist(), split.spans[span].tolist()
            order = sorted(range(1, len(scores)), key=lambda index: (-scores[index], index))
            for percent in item.thresholds:
                chosen = order[: max(1, round((len(scores) - 1) * percent / 100))]
                wanted = {tuple(spans[index]) for index in chosen if spans[index][0] >= 0}
                entered = [token for token in text.tokens if 0 < token.enters <= percent]
                assert {(token.segment, token.start, token.end) for token in entered} == wanted
            assert all(token.selected == (0 < token.enters <= 30) for token in text.tokens)


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", [False, True])
def test_what_is_shown_of_an_instance_is_what_is_recorded(encoders, tmp_path, pipeline):
    corpus = tiny_corpus((1, 1, 6), gold=0.6, seed=4)
    config = tiny_config(encoders["bert"])
    design = Design(extractor="dlm", predicts_from="rationale" if pipeline else "text")
    model = build_stage(config.model, design, 2, seed=0)
    split, tokens = encode(config, corpus.splits["test"])
    results = evaluated(model, split, tokens, tmp_path, 2)
    shown = highlight_results(model, split, corpus.splits["test"], corpus.labels, results)
    recorded = from_parquet(to_parquet({"test": results.instances}, corpus.labels, {}))["test"]
    without_gold = 0
    for number, item in enumerate(shown):
        assert item.probability == pytest.approx(recorded.probability[number], rel=1e-6)
        for name, value in item.measured.items():
            column = recorded.measured[name] if name in recorded.measured else recorded.metric(name)[0]
            assert value == pytest.approx(column[number], rel=1e-5, abs=1e-6)
        assert set(recorded.measured) - {"loss", *PREDICTED_AT, *PLAUSIBILITY} == {
            name for name in item.measured if "@" in name
        }
        assert (set(PLAUSIBILITY) <= item.measured.keys()) == (recorded.gold_rows[number] > 0)
        without_gold += recorded.gold_rows[number] == 0
        assert {"comprehensiveness", "sufficiency"} <= item.measured.keys()
        if pipeline:
            # It predicts from each rationale, so that nothing is lost with it alone, and the rest is CLS.
            assert [item.measured[name] for name in SUFF] == [0.0] * 5
            for at, comp in zip(PROBABILITY_AT, COMP, strict=True):
                assert 0.5 <= item.measured[at] <= 1
                assert 0 <= item.measured[at] - item.measured[comp] <= 1
            votes = {recorded.measured[name][number] for name in PREDICTED_AT}
            if len(votes) == 1:
                assert sum(item.measured[name] for name in PROBABILITY_AT) / 5 == pytest.approx(item.probability)
    assert 0 < without_gold < len(shown)
    assert highlights_from_json(json.loads(json.dumps(highlights_to_json(shown)))) == shown


@pytest.mark.parametrize("reverse", [False, True])
def test_shown_instances_have_the_shares_of_their_labels_whatever_their_order(reverse):
    labels = torch.tensor(sorted([0] * 100 + [1] * 50 + [2] * 50, reverse=reverse))
    chosen = shown_instances(replace(make_split([[1]], [0]), labels=labels))
    assert labels[list(chosen)].bincount().tolist() == [20, 10, 10]
    assert list(chosen) == sorted(chosen)
    assert shown_instances(replace(make_split([[1]], [0]), labels=labels[:3])) == (0, 1, 2)
