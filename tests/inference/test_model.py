"""A model in Python: what it says of texts is what was recorded, and what a reader computes by hand."""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pandas
import pytest
import torch
from helpers.exports import LABELS, change, make
from helpers.job_module import job_module
from helpers.marks import slow, slow_but
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import export_trial, trained_sweep
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.metrics import auc, f1_score, precision_recall_curve
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import unirex_ray
from unirex_ray.data.instance import Input, Instance
from unirex_ray.errors import UserError
from unirex_ray.inference.model import LoadedModel, load_model
from unirex_ray.models.card import MODEL
from unirex_ray.models.design import Design
from unirex_ray.models.store import save_model
from unirex_ray.training.learner import TrainingError

METHODS = ("aa-ig", "unirex-dlm-fp", "unirex-slm-fp", "fresh")
PERCENTS = (1, 5, 10, 20, 50)
TEXTS = ["good1 w1 w2", "w3", "bad1 w2 w5 w4 bad2 w1 good1 w2 w7 w1", "w1 bad2 w2 <b> & w4", "good2 w1 w3"]


CORPORA = {"single": tiny_corpus((32, 8, 24)), "pair": tiny_corpus((32, 8, 24), pair=True)}
CORPORA["choices"] = tiny_corpus((32, 8, 24), choices=3)


class Trained(NamedTuple):
    """A sweep's output, the export of its trial, the model that is read from there, and the recorded metrics."""

    output: Path
    folder: Path
    model: LoadedModel
    recorded: dict[str, float]


Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def train(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains and exports a method once."""
    config = tiny_config(encoders["bert"], train__epochs=2, train__precision="fp32")

    @cache
    def train(method: str, kind: str = "single") -> Trained:
        output = tmp_path_factory.mktemp(method)
        (recorded,) = trained_sweep(output, config, CORPORA[kind], (method,), (0,)).values()
        export_trial(output, output / "model", method)
        return Trained(output, output / "model", load_model(output / "model"), recorded)

    return train


def is_gold(text: Input, span: list[int]) -> bool:
    """Whether a token holds a character of the gold rationale that is not a blank."""
    segment, start, end = span
    marked = {(s, c) for s, first, last in text.gold or () for c in range(first, last)}
    return any((segment, c) in marked and not text.segments[segment][c].isspace() for c in range(start, end))


def given(texts: Instance) -> Any:
    """An instance as a user gives it: a string, two of a pair, or a list of choices."""
    inputs = [text.segments[0] if len(text.segments) == 1 else text.segments for text in texts.inputs]
    return inputs[0] if len(inputs) == 1 else inputs


EVERY = [(method, "single") for method in METHODS] + [("unirex-slm-fp", "pair"), ("unirex-slm-fp", "choices")]


@pytest.mark.parametrize(("method", "kind"), slow_but([("unirex-slm-fp", "single")], EVERY))
def test_the_recorded_rationale_metrics_follow_from_what_is_explained(train: Train, method: str, kind: str) -> None:
    trained, test = train(method, kind), list(CORPORA[kind].splits["test"])
    at = {k: trained.model.explain(map(given, test), top_k_percent=k) for k in PERCENTS}
    comp, suff, auprc, f1, right = [], [], [], [], []
    for number, instance in enumerate(test):
        every_k = [at[k][number] for k in PERCENTS]
        comp.append(sum(e.probability - e.complement_probability for e in every_k) / (len(PERCENTS) + 1))
        suff.append(sum(e.probability - e.rationale_probability for e in every_k) / (len(PERCENTS) + 1))
        right.append(every_k[0].predicted == CORPORA[kind].labels[instance.label])
        for text, read in zip(instance.inputs, every_k[0].inputs, strict=True):
            gold = [is_gold(text, span) for span in read.spans.tolist()]
            if any(gold):
                precision, recall, _ = precision_recall_curve(gold, read.scores)
                auprc.append(100 * auc(recall, precision))
                f1.append(100 * f1_score(gold, read.scores > 0, average="macro"))
    again = {"comprehensiveness": comp, "sufficiency": suff, "auprc": auprc, "token_f1": f1}
    for name, values in again.items():
        assert np.mean(values) == pytest.approx(trained.recorded[f"test/{name}"], abs=1e-5), name
    assert 100 * np.mean(right) == pytest.approx(trained.recorded["test/accuracy"])


@pytest.mark.parametrize("method", ["unirex-slm-fp", *slow("aa-ig", "unirex-dlm-fp")])
def test_the_library_alone_gives_the_recorded_accuracy_and_each_probability(train: Train, method: str) -> None:
    trained, corpus = train(method), CORPORA["single"]
    tokenizer = AutoTokenizer.from_pretrained(trained.folder / "task_model")
    classifier = AutoModelForSequenceClassification.from_pretrained(trained.folder / "task_model").eval()

    @torch.no_grad()
    def predict(ids: list[int]) -> torch.Tensor:
        return classifier(input_ids=torch.tensor([ids])).logits[0].softmax(-1)

    test = list(corpus.splits["test"])
    right = 0
    for instance, explanation in zip(test, trained.model.explain(map(given, test), top_k_percent=50), strict=True):
        ids = tokenizer(instance.inputs[0].segments[0]).input_ids
        label = int(predict(ids).argmax())
        right += label == instance.label
        inside = explanation.inputs[0].selected(50)
        without = predict([number for number, chosen in zip(ids, inside, strict=True) if not chosen])[label]
        alone = predict([ids[0], *(number for number, chosen in zip(ids, inside, strict=True) if chosen)])[label]
        assert explanation.predicted == corpus.labels[label]
        assert list(explanation.probabilities.values()) == pytest.approx(predict(ids).tolist(), abs=1e-5)
        assert explanation.complement_probability == pytest.approx(float(without), abs=1e-5)
        assert explanation.rationale_probability == pytest.approx(float(alone), abs=1e-5)
        assert sum(inside) == max(1, round((len(ids) - 1) / 2))
    assert 100 * right / len(test) == pytest.approx(trained.recorded["test/accuracy"])


def test_what_train_left_is_loaded_as_it_is(train: Train) -> None:
    trained = train("unirex-slm-fp")
    of_trial = load_model(trained.output / "trials" / "s1-unirex-slm-fp-0003-s0").explain(TEXTS)
    assert of_trial.to_json() == trained.model.explain(TEXTS).to_json()


Folder = Callable[..., Path]


@pytest.fixture(scope="module")
def save(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Saves a model of random weights."""

    def save(kind: str = "slm", *, multi_choice: bool = False, segments: int = 1, **design: Any) -> Path:
        folder = tmp_path_factory.mktemp("model") / "model"
        save_model(folder, *make(encoders["bert"], Design(extractor=kind, **design), multi_choice=multi_choice))
        change(folder / MODEL, segments=segments)
        return folder

    return save


@pytest.fixture(scope="module")
def single(save: Folder) -> LoadedModel:
    return load_model(save())


@pytest.mark.slow
@settings(max_examples=10)
@hypothesis.given(order=st.permutations(range(len(TEXTS))), times=st.integers(1, 30))
def test_a_text_is_explained_alike_in_any_company(single: LoadedModel, order: list[int], times: int) -> None:
    alone = [single.explain(text)[0] for text in TEXTS]
    together = single.explain([TEXTS[number] for number in order] * times)
    assert len(together) == len(TEXTS) * times
    for number, explanation in zip([*order] * times, together, strict=True):
        assert explanation.tokens == alone[number].tokens
        assert explanation.scores == pytest.approx(alone[number].scores, abs=1e-5)
        assert explanation.probabilities == pytest.approx(alone[number].probabilities, abs=1e-5)
        assert explanation.complement_probability == pytest.approx(alone[number].complement_probability, abs=1e-5)


def test_no_texts_give_no_explanations(single: LoadedModel) -> None:
    assert list(single.explain([])) == []
    assert single.explain([]).to_frame().empty


@pytest.mark.slow
def test_pairs_and_choices_are_explained_each_in_its_form(save: Folder) -> None:
    pairs = load_model(save(segments=2))
    (pair,) = pairs.explain([["good1 w1", "bad1"]])
    assert pair.tokens == ("[CLS]", "good1", "w1", "[SEP]", "bad1", "[SEP]")
    assert pair.inputs[0].spans.tolist()[4] == [1, 0, 4]
    choosing = load_model(save(multi_choice=True))
    one, two = choosing.explain([["good1", "bad1 w1", "w2"], ("w2", "bad1", "w1 w3 w4")])
    assert tuple(one.probabilities) == LABELS
    assert [read.choice for read in one.inputs] == list(LABELS)
    assert [read.segments for read in two.inputs] == [("w2",), ("bad1",), ("w1 w3 w4",)]
    assert one.predicted == max(one.probabilities, key=one.probabilities.__getitem__)
    # One logit per choice: the probabilities follow the choices where these change places.
    turned = choosing.explain([["w2", "bad1 w1", "good1"]])[0]
    assert list(turned.probabilities.values()) == pytest.approx([*one.probabilities.values()][::-1], abs=1e-5)
    both = load_model(save(multi_choice=True, segments=2))
    assert len(both.explain([[("a", "b"), ("c", "d"), ("e", "f")]])[0].inputs) == 3
    assert "3 choices of a pair of texts" in repr(both)


@torch.no_grad()
def test_a_pipeline_predicts_from_its_rationales(save: Folder) -> None:
    """A2R: p(x) is the mean over the thresholds, and without the rationale nothing is left but CLS."""
    model = load_model(save(predicts_from="rationale"))
    at = [model.explain(TEXTS[2], top_k_percent=k)[0] for k in PERCENTS]
    assert at[0].probability == pytest.approx(np.mean([e.rationale_probability for e in at]), abs=1e-6)
    assert len({e.rationale_probability for e in at}) > 2
    task_model, cls = model.model.task_model, torch.tensor([[model.tokenizer.cls_token_id]])
    alone = task_model.head(task_model.encoder.backbone(input_ids=cls).pooler_output)[0].softmax(-1)
    label = LABELS.index(at[0].predicted)
    assert [e.complement_probability for e in at] == pytest.approx([float(alone[label])] * len(at), abs=1e-6)


@pytest.mark.slow
def test_a_rationale_with_a_size_of_its_own_keeps_it(train: Train) -> None:
    (fresh,) = train("fresh").model.explain("good1 w1 w2 w3 w4 w5 w6 w7 w8 w9 good2", top_k_percent=50)
    assert fresh.top_k_percent == 10
    assert fresh.rationale(100) == fresh.rationale()


def test_json_and_frames_hold_everything(single: LoadedModel) -> None:
    explanations = single.explain(TEXTS, top_k_percent=50)
    found, first = json.loads(explanations.to_json()), explanations[0]
    assert json.loads(first.to_json(indent=1)) == found[0] == first.to_dict()
    assert found[0]["texts"] == [[TEXTS[0]]]
    assert found[0]["probabilities"] == first.probabilities
    assert [token["token"] for token in found[0]["tokens"]] == list(first.tokens)
    assert [token["rationale"] for token in found[0]["tokens"]] == first.inputs[0].selected(50)
    frame = explanations.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["text"].tolist() == TEXTS
    assert frame["rationale"].tolist() == [explanation.rationale() for explanation in explanations]
    assert frame[[f"p({label})" for label in LABELS]].sum(axis=1).tolist() == pytest.approx([1.0] * len(TEXTS))
    assert frame.loc[0, "complement_probability"] == first.complement_probability
    tokens = first.to_frame()
    assert tokens["score"].to_numpy() == pytest.approx(first.scores)
    assert explanations[1:3].to_frame()["text"].tolist() == TEXTS[1:3]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ("  ", "the text is empty; give a text to explain"),
        (["w1", "", "w2"], r"texts\[1\] is empty"),
        (["w1", ("w1", "w2")], r"texts\[1\]: '.*' was trained on single texts; leave the second one out"),
        (["w1", ("w1", " ")], r"the second text of texts\[1\] is empty"),
        (["w1", 3], r"texts\[1\] must be a string, or two of a pair, but is 3"),
        (["w1", ("a", "b", "c")], r"texts\[1\] must be a string, or two of a pair, but is \('a', 'b', 'c'\)"),
        ([["w1", None]], r"the text must be a string, or two of a pair, but is \['w1', None\]"),
        (
            pandas.DataFrame({"text": ["w1"]}),
            r'a DataFrame, which does not say .* one column: explain\(frame\["text"\]\)$',
        ),
        ({"text": ["w1"]}, r'the texts are a dict, which does not say .* one column: explain\(frame\["text"\]\)$'),
        (None, r"the texts must be a string, or a list of texts, but are None"),
        (3, r"the texts must be a string, or a list of texts, but are 3"),
        (b"w1", r"the texts must be a string, or a list of texts, but are b'w1'"),
        (np.array([["w1", "w2"]]), r"the text: '.*' was trained on single texts"),
        ("bad \ud800 film", r"the text holds '\\ud800' at character 4, which .* not decoded; .* valid UTF-8$"),
        (["w1", "\udcff film"], r"texts\[1\] holds '\\udcff' at character 0"),
    ],
)
def test_what_cannot_be_read_is_named(single: LoadedModel, texts: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        single.explain(texts)


def test_a_column_and_an_array_are_lists_of_texts(single: LoadedModel, save: Folder) -> None:
    for texts in (pandas.Series(TEXTS, index=range(5, 10)), np.array(TEXTS), tuple(TEXTS), iter(TEXTS)):
        assert single.explain(texts).to_frame()["text"].tolist() == TEXTS
    pairs = load_model(save(segments=2))
    assert [read.segments for read in pairs.explain(np.array([["w1", "w2"]]))[0].inputs] == [("w1", "w2")]


@pytest.mark.parametrize("segments", [2, *slow(None)])
def test_a_tuple_may_be_a_pair_or_two_texts(single: LoadedModel, save: Folder, segments: int | None) -> None:
    with pytest.raises(
        UserError, match=r"may be one pair or two texts, and '.*' reads pairs; .*: explain\(\[\(a, b\)\]\)"
    ):
        load_model(save(segments=segments)).explain(("w1", "w2"))
    assert len(single.explain(("w1", "w2"))) == 2  # a model of single texts reads no pair


@pytest.mark.slow
def test_what_pairs_and_choices_lack_is_named(save: Folder) -> None:
    with pytest.raises(UserError, match=r"texts\[1\]: '.*' was trained on pairs of texts; give the second one as well"):
        load_model(save(segments=2)).explain([("w1", "w2"), "w3"])
    choosing = load_model(save(multi_choice=True))
    for wrong in ("w1", ["w1", "w2"], 3):
        with pytest.raises(UserError, match=r"chooses between 3 texts: texts\[1\] must be a list of these, in the or"):
            choosing.explain([["w1", "w2", "w3"], wrong])
    with pytest.raises(UserError, match=r"texts\[1\]\[2\] is empty"):
        choosing.explain([["w1", "w2", "w3"], ["w1", "w2", ""]])


def test_a_model_of_gold_rationales_explains_nothing(save: Folder) -> None:
    with pytest.raises(UserError, match="scores tokens by their gold rationale, and these texts have none"):
        load_model(save("gold")).explain("w1")


def test_random_scores_are_the_texts_own(save: Folder) -> None:
    model = load_model(save("rand"))
    assert (model.explain(TEXTS)[2].scores == model.explain(TEXTS[2])[0].scores).all()
    assert not (model.explain("w1 w2")[0].scores == model.explain("w2 w1")[0].scores).any()


def test_folders_and_devices_that_are_none_are_named(train: Train, save: Folder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not an exported model"):
        load_model(tmp_path)
    with pytest.raises(UserError, match="device = 'gpu' cannot be used here"):
        load_model(save(), device="gpu")
    nothing: Any = None
    with pytest.raises(UserError, match=r"device = None cannot be used here: .*; use cpu, or cuda on a GPU"):
        load_model(save(), device=nothing)
    with pytest.raises(UserError, match="the model's folder must be a path, but is None"):
        load_model(nothing)
    trial = train("unirex-slm-fp").output / "trials" / "s1-unirex-slm-fp-0003-s0"
    (tmp_path / "result.json").write_bytes((trial / "result.json").read_bytes())
    with pytest.raises(UserError, match="holds no trained weights"):
        load_model(tmp_path)


@pytest.mark.slow
def test_a_model_computes_as_its_numbers_were_recorded(train: Train, save: Folder) -> None:
    assert train("unirex-slm-fp").model.train.precision == "fp32"
    assert load_model(save()).train.precision == "fp32"  # no configuration lies there
    (folder := save()).joinpath("best_config.yaml").write_text("train: {precision: bf16}")
    full, half = load_model(save()).explain(TEXTS), load_model(folder).explain(TEXTS)
    differences = [abs(a.probability - b.probability) for a, b in zip(full, half, strict=True)]
    assert 0 < max(differences) < 0.1


def test_the_package_gives_the_same() -> None:
    assert unirex_ray.load_model is load_model
    assert unirex_ray.TrainingError is TrainingError
    assert {"load_model", "Explanation", "TrainingError", "__version__"} < set(dir(unirex_ray))
    with pytest.raises(AttributeError, match="no attribute 'explain'"):
        _ = unirex_ray.explain


@pytest.mark.parametrize(("segments", "given"), [(1, []), (2, ["--text=w1"])])
def test_the_command_explains_a_choice(
    segments: int, given: list[str], save: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(multi_choice=True, segments=segments)
    called = ["explain.py", f"--model={folder}", *given]
    choices = ("good1", "bad1 w1", "w2")
    monkeypatch.setattr(sys, "argv", [*called, *(f"--choice={choice}" for choice in choices)])
    job_module("explain").main()
    asked = [("w1", choice) if given else choice for choice in choices]
    assert f"prediction: {load_model(folder).explain([asked])[0].predicted}" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*called, "--choice=good1"])
    with pytest.raises(UserError, match="chooses between 3 texts; give each with --choice"):
        job_module("explain").main()
