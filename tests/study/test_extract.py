"""Rationales of the gold one's size, by models, on single texts, pairs and choices."""

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.inference.find import TrainedModel
from unirex_ray.models.card import ModelCard
from unirex_ray.models.design import Design
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.rationale_model import build_model
from unirex_ray.study import extract as module
from unirex_ray.study.extract import Reader, extract, has_gold, options_of, read_model, shown_texts
from unirex_ray.study.manifest import Rationale, Text

LABELS = ("negative", "positive")


def reader_for(encoder: str, corpus: Corpus, extractor: str = "dlm", *, max_length: int = 96, labels=None) -> Reader:
    config = tiny_config(encoder, train__precision="fp32")
    card = ModelCard(
        method="unirex-dlm-p",
        designs=(Design(extractor=extractor),),
        labels=labels or corpus.labels,
        task_metric="accuracy",
        multi_choice=corpus.multi_choice,
        max_length=max_length,
        truncation="head",
    )
    model = build_model(config.model, card.designs, card.outputs, seed=1)
    about = {"trained_on": "tiny", "trained_digest": "0", "protocol": None, "precision": "fp32"}
    trained = TrainedModel(
        card=card, trial_id="t-0000-s0", seed=0, load=lambda: (model, load_tokenizer(config.model)), **about
    )
    return read_model(trained, corpus, config)


def marked_words(instance: Instance, rationale: Rationale) -> list[str]:
    return [instance.inputs[text].segments[segment][a:b] for text, segment, a, b in rationale.marks]


@pytest.mark.parametrize("pair", [False, True])
def test_as_many_words_are_kept_as_are_gold_and_by_the_models_own_scores(encoders, pair: bool) -> None:
    corpus = tiny_corpus((4, 4, 10), pair=pair, gold=1.0)
    reader = reader_for(encoders["bert"], corpus)
    instances = list(corpus.splits["test"])
    found = extract(reader, instances)
    for instance, rationale in zip(instances, found.rationales, strict=True):
        assert rationale.tokens == rationale.gold_tokens == len(instance.inputs[0].gold)
        # One word is one token here; the model scores the texts one by one.
        alone = extract(reader, [instance]).rationales[0]
        assert {*alone.marks} == {*rationale.marks}
        assert all(" " not in word and word for word in marked_words(instance, rationale))
    assert len({rationale.marks for rationale in found.rationales}) > 1


def test_a_model_that_scores_by_gold_keeps_the_gold_rationale(encoders) -> None:
    corpus = tiny_corpus((4, 4, 10), gold=1.0)
    reader = reader_for(encoders["bert"], corpus, "gold")
    instances = list(corpus.splits["test"])
    found = extract(reader, instances)
    for instance, rationale, gold in zip(instances, found.rationales, found.gold, strict=True):
        assert {*rationale.marks} == {(0, *span) for span in instance.inputs[0].gold} == {*gold}
    assert found.tied == 0


def test_of_equal_scores_the_first_words_are_kept_and_it_is_counted(encoders) -> None:
    corpus = tiny_corpus((4, 4, 10), gold=1.0)
    instances = list(corpus.splits["test"])
    extracted = extract(reader_for(encoders["bert"], corpus, "inv"), instances)
    for instance, rationale, of_gold in zip(instances, extracted.rationales, extracted.gold, strict=True):
        plain = re.finditer(r"w\S+", instance.inputs[0].segments[0])
        first = [(0, 0, found.start(), found.end()) for found in plain]
        gold = sorted(of_gold, key=lambda mark: mark[2])
        assert {*rationale.marks} == {*(first + gold)[: len(gold)]}
    assert extracted.tied > 0


def test_a_cut_text_has_the_gold_tokens_that_are_read(encoders) -> None:
    corpus = tiny_corpus((4, 4, 2), gold=1.0)
    text = Input(segments=("good1 w1 w2 w3 w4 w5 w6 w7 good2",), gold=((0, 0, 5), (0, 27, 32)))
    instance = Instance(id="long", inputs=(text,), label=1)
    reader = reader_for(encoders["bert"], corpus, max_length=8)
    found = extract(reader, [instance])
    assert (found.rationales[0].tokens, found.gold, found.cut) == (1, (((0, 0, 0, 5),),), 1)
    late = replace(instance, inputs=(replace(instance.inputs[0], gold=((0, 27, 32),)),))
    assert has_gold(reader.encode([instance, late]), [instance, late]) == [True, False]


def test_choices_of_a_shared_text_show_it_alone_with_the_predicted_choices_rationale(encoders) -> None:
    question = "w1 good1 w2 good2 w3"
    gold = ((0, 3, 8), (0, 12, 17))
    instance = Instance(
        id="q",
        inputs=tuple(Input(segments=(question, f"w{number} w9 w8 w7"), gold=gold) for number in (5, 6, 7)),
        label=2,
    )
    corpus = replace(tiny_corpus((6, 6, 6), choices=3), labels=("A", "B", "C"))
    reader = reader_for(encoders["bert"], corpus)
    found = extract(reader, [instance])
    (rationale,) = found.rationales
    assert shown_texts(instance, corpus.labels) == (Text(segments=(question,)),)
    assert options_of(instance, corpus.labels) == ("A: w5 w9 w8 w7", "B: w6 w9 w8 w7", "C: w7 w9 w8 w7")
    assert rationale.tokens == rationale.gold_tokens == 2
    assert {(text, segment) for text, segment, _, _ in rationale.marks} == {(0, 0)}
    assert found.gold == (((0, 0, 3, 8), (0, 0, 12, 17)),)
    assert has_gold(reader.encode([instance]), [instance]) == [True]


def test_choices_with_texts_of_their_own_show_each_with_its_rationale(encoders) -> None:
    corpus = tiny_corpus((6, 6, 6), choices=3, gold=1.0)
    reader = reader_for(encoders["bert"], corpus)
    instances = list(corpus.splits["test"])
    for instance, rationale in zip(instances, extract(reader, instances).rationales, strict=True):
        sizes = [sum(text == number for text, *_ in rationale.marks) for number in range(3)]
        assert sizes == [len(text.gold) for text in instance.inputs]
        assert rationale.tokens == sum(sizes)
        assert [text.choice for text in shown_texts(instance, corpus.labels)] == list(corpus.labels)
        assert options_of(instance, corpus.labels) == corpus.labels


def test_labels_are_the_corpus_and_weights_have_a_digest_of_their_own(encoders) -> None:
    corpus = tiny_corpus((4, 4, 6), gold=1.0)
    instances = list(corpus.splits["test"])
    here, there = reader_for(encoders["bert"], corpus), reader_for(encoders["bert"], corpus, labels=LABELS[::-1])
    straight, turned = extract(here, instances).rationales, extract(there, instances).rationales
    assert [one.label for one in straight] == [1 - one.label for one in turned]
    assert here.weights() == there.weights()
    with_other = reader_for(encoders["bert"], corpus)
    next(with_other.model.parameters()).data.add_(1e-3)
    assert with_other.weights() != here.weights()


def test_a_model_of_no_numbers_is_refused(encoders, monkeypatch) -> None:
    corpus = tiny_corpus((4, 4, 2), gold=1.0)
    real = module.explain_split

    def broken(*arguments, **options):
        found = real(*arguments, **options)
        found.scores[1][0] = np.nan
        return found

    monkeypatch.setattr(module, "explain_split", broken)
    with pytest.raises(UserError, match="seed 0 is damaged: it scores 'test-1' by no number"):
        extract(reader_for(encoders["bert"], corpus), list(corpus.splits["test"]))
