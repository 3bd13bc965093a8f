"""Evaluating trained models on any corpus."""

import json
import shutil
from dataclasses import replace

import pytest
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import trained_sweep

from unirex_ray.config import Config, to_yaml
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.inference.evaluate import evaluate
from unirex_ray.inference.export import PROVENANCE, SETTINGS
from unirex_ray.inference.find import find_models
from unirex_ray.inference.labels import match_labels, parse_mapping
from unirex_ray.metrics.instance_file import from_parquet
from unirex_ray.metrics.instances import split_metrics
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.store import save_model
from unirex_ray.tracking.records import Evaluation
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.completed import completed_model


def evaluations(*arguments, **options) -> list[Evaluation]:
    return [each.evaluation for each in evaluate(*arguments, **options)]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((20, 8, 12))


@pytest.fixture(scope="module")
def config(encoders) -> Config:
    return tiny_config(encoders["bert"], train__epochs=1)


@pytest.fixture(scope="module")
def swept(config, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    return folder, trained_sweep(folder, config, corpus)


@pytest.mark.slow
def test_on_the_corpus_of_training_every_recorded_test_metric_comes_again(swept, config, corpus):
    folder, recorded = swept
    found = find_models(folder)
    assert [model.trial_id for model in found.models] == list(recorded)
    assert found.output == folder
    for each in evaluate(found.models, corpus, config):
        evaluation, highlights = each.evaluation, each.highlights
        assert (evaluation.trained_digest, evaluation.digest) == (corpus.digest(), corpus.digest())
        assert (evaluation.trained_on, evaluation.corpus, evaluation.labels) == ("tiny", "tiny", "the same")
        wanted = {key: value for key, value in recorded[evaluation.trial_id].items() if key.startswith("test/")}
        assert {key: value for key, value in evaluation.metrics.flat().items() if key in wanted} == pytest.approx(
            wanted, rel=1e-5, abs=1e-6
        )
        assert len(highlights) == 12
        by_split = from_parquet(each.instances)
        again = split_metrics(by_split["test"])
        assert again == pytest.approx({key: evaluation.metrics.test[key] for key in again}, rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_a_model_is_evaluated_in_the_precision_that_it_was_trained_in(swept, config, corpus):
    folder, _ = swept
    first, *_ = find_models(folder).models
    assert first.precision == "fp32"
    half = replace(first, precision="bf16")
    settings = [
        evaluation.settings["train.precision"]
        for model, asked in ((first, "auto"), (half, "auto"), (half, "fp32"))
        for evaluation in evaluations([model], corpus, config.changed({"train.precision": asked}))
    ]
    assert settings == ["fp32", "bf16", "fp32"]


@pytest.mark.slow
def test_other_splits_and_an_exported_folder(swept, config, corpus, tmp_path):
    folder, recorded = swept
    trial_id = "s1-unirex-aa-f-rand-0003-s1"
    settings, model, card = completed_model(CheckpointStore(folder / "trials" / trial_id))
    save_model(tmp_path / "model", model, load_tokenizer(settings.model), settings.model, card)
    (tmp_path / "model" / SETTINGS).write_text(to_yaml(settings))
    provenance = {"trial_id": trial_id, "data_digest": "abc"}
    (tmp_path / "model" / PROVENANCE).write_text(json.dumps(provenance))
    found = find_models(tmp_path / "model")
    assert found.output == tmp_path
    assert found.models[0].precision == "fp32"
    (tmp_path / "model" / SETTINGS).write_text(to_yaml(settings.changed({"train.precision": "bf16"})))
    assert find_models(tmp_path / "model").models[0].precision == "bf16"
    (test,) = evaluations(found.models, corpus, config)
    assert (test.seed, test.method, test.trained_digest) == (1, "unirex-aa-f-rand", "abc")
    for key in ("test/auprc", "test/comprehensiveness", "test/task_score"):
        assert test.metrics.flat()[key] == pytest.approx(recorded[trial_id][key], rel=1e-5, abs=1e-6)
    (dev,) = evaluations(found.models, corpus, config, split="dev")
    assert dev.metrics.flat()["dev/comprehensiveness"] == pytest.approx(
        recorded[trial_id]["dev/comprehensiveness"], rel=1e-5
    )


def renamed(corpus: Corpus, *labels: str, **rules) -> Corpus:
    return replace(corpus, labels=labels, **rules)


@pytest.mark.slow
def test_labels_of_another_task_by_hand(swept, config, corpus):
    """What the model calls positive counts as hate; or the other way round, where the user says so."""
    folder, recorded = swept
    (model,) = [m for m in find_models(folder).models if m.trial_id == "s1-unirex-slm-fp-0003-s0"]
    whole = recorded[model.trial_id]
    target = renamed(corpus, "noHate", "hate", name="target", task_metric="binary_f1")
    (plain,) = evaluate([model], target, config)
    (other,) = evaluate([model], target, config, label_map={"negative": "hate", "positive": "noHate"})
    (one,) = evaluations([model], target, config, label_map={"negative": "noHate", "positive": "noHate"})
    by_place, turned, shown, turned_shown = plain.evaluation, other.evaluation, plain.highlights, other.highlights
    assert by_place.labels == "negative for noHate, positive for hate"
    accuracy = whole["test/accuracy"]
    assert by_place.metrics.flat()["test/accuracy"] == pytest.approx(accuracy)
    assert turned.metrics.flat()["test/accuracy"] == pytest.approx(100 - accuracy)
    assert one.metrics.flat()["test/accuracy"] == pytest.approx(50.0)
    assert one.metrics.flat()["test/task_score"] == one.metrics.flat()["test/binary_f1"] == 0.0
    assert by_place.metrics.flat()["test/task_score"] == by_place.metrics.flat()["test/binary_f1"]
    for evaluation in (by_place, turned, one):  # faithfulness is about the model's own prediction
        for key in ("test/comprehensiveness", "test/sufficiency", "test/auprc"):
            assert evaluation.metrics.flat()[key] == pytest.approx(whole[key], rel=1e-5, abs=1e-6)
    assert by_place.metrics.flat()["test/loss"] == pytest.approx(whole["test/loss"], rel=1e-5)
    assert turned.metrics.flat()["test/loss"] != pytest.approx(whole["test/loss"], rel=1e-2)
    assert "loss" not in one.metrics.test
    assert {i.predicted for i in shown} <= {"hate", "noHate"}
    assert all(a.predicted != b.predicted and a.label == b.label for a, b in zip(shown, turned_shown, strict=True))


@pytest.mark.slow
def test_a_corpus_without_rationales_has_no_plausibility(swept, config, corpus):
    folder, _ = swept
    bare = InstanceTable.from_instances(
        replace(i, inputs=tuple(replace(text, gold=None) for text in i.inputs)) for i in corpus.splits["test"]
    )
    target = replace(corpus, splits={**corpus.splits, "test": bare})
    (evaluation,) = evaluations(find_models(folder).models[:1], target, config)
    assert not {"auprc", "token_f1"} & set(evaluation.metrics.test)
    assert "comprehensiveness" in evaluation.metrics.test


@pytest.mark.slow
def test_texts_are_cut_as_in_training_and_to_the_corpus_own_limit(swept, config, corpus):
    folder, _ = swept
    model = find_models(folder).models[:1]
    (short,) = evaluate(model, replace(corpus, max_length=6), config)
    assert all(len(text.tokens) <= 4 for instance in short.highlights for text in instance.inputs)
    assert any(text.note for instance in short.highlights for text in instance.inputs)
    assert [note.split(" inputs")[0] for note in short.notes[:1]] == ["test: 11 of 12"]
    (asked,) = evaluate(model, corpus, config.changed({"data.max_length": 8}))
    assert max(len(text.tokens) for instance in asked.highlights for text in instance.inputs) == 6


@pytest.mark.parametrize(
    ("model", "corpus", "given", "expected"),
    [
        (("negative", "positive"), ("negative", "positive"), None, (0, 1)),
        (("NEG", "POS"), ("pos", "neg"), None, (1, 0)),
        (("negative", "positive"), ("not ironic", "ironic"), None, (0, 1)),
        (("a", "A"), ("a", "A"), None, (0, 1)),
        (("a", "A"), ("A", "a"), None, (1, 0)),
        (("a", "b", "c"), ("x", "y"), {"a": "y", "b": "x", "c": "x"}, (1, 0, 0)),
        (("negative", "positive"), ("negative", "positive"), {"negative": "positive", "positive": "negative"}, (1, 0)),
    ],
)
def test_labels_are_matched(model, corpus, given, expected):
    assert match_labels(model, corpus, given) == expected


@pytest.mark.parametrize(
    ("model", "corpus", "given", "message"),
    [
        (("a", "b", "c"), ("x", "y"), None, r"labels a, b, c, the corpus x, y: .* --map a=x,b=x,c=x"),
        (("negative", "positive"), ("positive", "neutral"), None, "say which stands for which"),
        (("negative", "positive"), ("Positive", "neutral"), None, "say which stands for which"),
        (("a", "b"), ("x", "y"), {"a": "x"}, "--map lacks the model's label 'b'"),
        (("a", "b"), ("x", "y"), {"a": "x", "b": "z"}, r"unknown label 'z' \(the corpus has x, y\)"),
        (("a", "b"), ("x", "y"), {"a": "x", "b": "y", "c": "y"}, r"unknown label 'c' \(the model has a, b\)"),
    ],
)
def test_labels_that_do_not_match_are_refused(model, corpus, given, message):
    with pytest.raises(UserError, match=message):
        match_labels(model, corpus, given)


def test_mappings_are_read_from_the_command_line():
    assert parse_mapping(None) is None
    assert parse_mapping("negative=no hate, positive=hate") == {"negative": "no hate", "positive": "hate"}
    for text in ("negative", "a=b=c", "a=", "a=x,a=y", ""):
        with pytest.raises(UserError, match="--map must be"):
            parse_mapping(text)


@pytest.mark.slow
def test_what_does_not_fit_is_refused_before_anything_is_evaluated(swept, config, corpus, encoders, tmp_path):
    folder, _ = swept
    models = find_models(folder).models
    with pytest.raises(UserError, match="has one input per instance, but tiny chooses between several inputs"):
        evaluate(models, tiny_corpus((6, 3, 3), choices=3), config)
    with pytest.raises(UserError, match="seed 0 reads one text per input, but tiny has two texts"):
        evaluate(models, tiny_corpus((6, 3, 3), pair=True), config)
    trained_sweep(tmp_path, config, corpus, ("unirex-aa-f-gold",), (0,))
    bare = tiny_corpus((20, 8, 12), gold=0.0)
    with pytest.raises(
        UserError, match=r"unirex-aa-f-gold, seed 0 scores tokens by their gold rationale, and tiny, test has none"
    ):
        evaluate(find_models(tmp_path).models, bare, config)


@pytest.mark.slow
def test_folders_that_hold_no_models_are_refused(swept, tmp_path, config, corpus):
    with pytest.raises(UserError, match=r"neither an exported model .* nor the output of a sweep"):
        find_models(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="has not finished; finish it with --resume"):
        find_models(tmp_path)
    (tmp_path / "leaderboard.csv").write_text("method,rank\n")
    with pytest.raises(UserError, match="holds no readable sweep"):
        find_models(tmp_path)
    (tmp_path / "sweep.json").write_text(
        json.dumps({"sweep_id": "s", "status": "completed", "settings": {"data.name": "a", "data.digest": "b"}})
    )
    finished = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps({**finished, "status": "running"}))  # it has begun to grow
    with pytest.raises(UserError, match="has not finished; finish it with --resume"):
        find_models(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps(finished))
    with pytest.raises(UserError, match="has no complete configuration"):
        find_models(tmp_path)
    (tmp_path / "leaderboard.csv").write_text("method,rank,configuration,seeds\naa-ig,1,0,[0]\n")
    with pytest.raises(UserError, match=r"holds no completed trial"):
        find_models(tmp_path)


@pytest.mark.slow
def test_weights_that_were_deleted_are_named(swept, config, corpus, tmp_path):
    trained_sweep(tmp_path, config, corpus, ("aa-ig",), (0,))
    (tmp_path / "trials" / "s1-aa-ig-0003-s0" / "best.pt").unlink()
    with pytest.raises(UserError, match=r"the weights of trial s1-aa-ig-0003-s0 are not in"):
        list(evaluate(find_models(tmp_path).models, corpus, config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("result.json", '{"card": {"method": "aa-ig"}}'),
        ("result.json", "{}"),
        ("result.json", "[]"),
        ("result.json", '{"ca'),
        ("config.yaml", "model: {layers: -1}"),
        ("config.yaml", "[]"),
        ("config.yaml", "a: ["),
    ],
)
def test_files_of_a_trial_that_are_damaged_are_named(swept, config, corpus, name, text, tmp_path):
    shutil.copytree(swept[0], tmp_path / "copy")
    trial = tmp_path / "copy" / "trials" / "s1-a2r-0003-s0"
    (trial / name).write_text(text)
    with pytest.raises(UserError, match=rf"a2r-0003-s0/{name} is damaged: .*; it has to be trained again"):
        list(evaluate([m for m in find_models(tmp_path / "copy").models if "a2r" in m.trial_id], corpus, config))


@pytest.mark.slow
def test_metrics_that_are_not_finite_are_refused_and_named(swept, config, corpus):
    folder, _ = swept
    model = find_models(folder).models[0]

    def damaged():
        loaded, tokenizer = model.load()
        loaded.task_model.head.weight.data.fill_(float("nan"))
        return loaded, tokenizer

    with pytest.raises(UserError, match=r"unirex-slm-fp, seed 0: test/\w+ is nan on tiny"):
        list(evaluate([replace(model, load=damaged)], corpus, config))
