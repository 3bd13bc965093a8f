"""Drawing a study from models on disk."""

import re
from dataclasses import replace

import pytest
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import trained_sweep

from unirex_ray.errors import UserError
from unirex_ray.study.make import Request, make_study, models_of
from unirex_ray.study.manifest import read_study, write_study
from unirex_ray.study.sheet import sheet_of
from unirex_ray.study.simulated import read_simulated, simulate, write_simulated

METHODS = ("unirex-slm-fp", "a2r")


@pytest.fixture(scope="module")
def corpus():
    return tiny_corpus((60, 8, 30))


@pytest.fixture(scope="module")
def config(encoders):
    return tiny_config(encoders["bert"], train__epochs=1)


@pytest.fixture(scope="module")
def swept(config, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    trained_sweep(folder, config, corpus, METHODS)
    return folder


@pytest.fixture(scope="module")
def made(swept, corpus, config):
    told = []
    request = Request(folders=(str(swept),), instances=11, annotators=5, train_instances=40)
    made = make_study(request, corpus, config, tell=told.append)
    assert told == ["1 of 2: unirex-slm-fp, seed 0", "2 of 2: a2r, seed 0"]
    return made


def request(swept, **options):
    return Request(folders=(str(swept),), **{"instances": 11, "annotators": 5, **options})


pytestmark = pytest.mark.slow


def test_a_sweeps_models_are_judged_by_their_first_seed_beside_gold_and_no_rationale(made, swept, corpus, tmp_path):
    study = made.study
    assert [condition.name for condition in study.conditions] == ["UNIREX (SLM-FP)", "A2R", "Gold", "No Rationale"]
    assert study.conditions[1].model["trial_id"] == "s1-a2r-0003-s0"
    assert study.conditions[1].model["trained_digest"] == study.corpus["digest"] == corpus.digest()
    assert re.fullmatch("[0-9a-f]{16}", study.conditions[0].model["weights"])
    by_id = {instance.id: instance for instance in corpus.splits["test"]}
    assert len({instance.id for instance in study.instances}) == 11
    for instance, rationales in zip(study.instances, study.rationales, strict=True):
        source = by_id[instance.id]
        assert (instance.texts[0].segments, instance.label) == (source.inputs[0].segments, source.label)
        *methods, gold, none = rationales
        assert {*gold.marks} == {(0, *span) for span in source.inputs[0].gold}
        assert (none.marks, none.label, gold.label) == ((), source.label, source.label)
        assert all(one.tokens == len(source.inputs[0].gold) for one in methods)
    write_study(tmp_path, study)
    assert read_study(tmp_path) == study


def test_sheets_hold_every_instance_once_per_task_and_ratings_no_bare_text(made):
    study = made.study
    for annotator in study.sheets:
        forward, rating = sheet_of(study, annotator).parts
        for part in (forward, rating):
            shown = [study.by_id[page.item] for page in part.pages]
            assert sorted(item.instance for item in shown) == list(range(11))
        assert {page.predicted for page in forward.pages} == {None}
        assert None not in {page.predicted for page in rating.pages}
        assert 3 in {study.by_id[page.item].condition for page in forward.pages}
        assert 3 not in {study.by_id[page.item].condition for page in rating.pages}


def test_the_tasks_are_planned_apart(made):
    forward, rating = ([made.study.by_id[name].instance for name in ids] for ids in made.study.sheets["a1"].values())
    assert forward != rating


def test_an_items_name_hangs_on_the_models_weights(made, swept, corpus, config, monkeypatch):
    monkeypatch.setattr("unirex_ray.study.extract.Reader.weights", lambda self: "0" * 16)
    other = make_study(request(swept), corpus, config, tell=lambda line: None).study
    assert other.rationales == made.study.rationales
    assert not {*other.by_id} & {*made.study.by_id}


def test_the_same_models_data_and_seed_make_the_same_study(made, swept, corpus, config):
    again = make_study(request(swept, train_instances=40), corpus, config, tell=lambda line: None).study
    assert (again.id, again) == (made.study.id, made.study)
    elsewhere = make_study(request(swept, seed=1, train_instances=40), corpus, config, tell=lambda line: None)
    assert {one.id for one in elsewhere.train.instances} != {one.id for one in made.train.instances}
    other = elsewhere.study
    assert {instance.id for instance in other.instances} != {instance.id for instance in again.instances}
    assert not {*other.by_id} & {*again.by_id}


def test_simulated_annotators_answer_every_sheet_and_say_what_they_are(made, tmp_path):
    study = made.study
    simulated = simulate(study, made.train)
    assert simulated.train_instances == len(made.train.instances) == 40
    assert not {one.id for one in made.train.instances} & {one.id for one in study.instances}
    assert list(simulated.accuracy) == [condition.name for condition in study.conditions]
    # The words of the tiny corpus' gold rationales tell the target.
    assert min(simulated.accuracy["Gold"]) == 1.0
    write_simulated(tmp_path, study, simulated)
    assert read_simulated(tmp_path, study) == (40, simulated.accuracy)
    assert read_simulated(tmp_path / "elsewhere", study) is None
    for annotator, values in simulated.files.items():
        assert values["simulated"] is True
        given = [name for ids in study.sheets[annotator].values() for name in ids]
        assert [answer["item"] for answer in values["answers"]] == given


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"instances": 31}, r"--instances must be from 1 to \d\d, the instances of tiny, test of whose .*, but got 31"),
        ({"instances": 0}, r"--instances must be from 1 to \d\d, .*, but got 0"),
        ({"raters": 6}, "--raters must be from 1 to the 5 annotators, but got 6"),
        ({"annotators": 0}, "--annotators must be from 1 to 1000, but got 0"),
        ({"methods": ("fresh",)}, "no model of method 'fresh' lies in .*; choose --methods among a2r, unirex-slm-fp"),
    ],
)
def test_what_cannot_be_drawn_is_refused(swept, corpus, config, options, says):
    with pytest.raises(UserError, match=says):
        make_study(request(swept, **options), corpus, config, tell=lambda line: None)


def test_without_gold_rationales_there_is_no_size_to_cut_to(swept, config):
    bare = tiny_corpus((60, 8, 30), gold=0.0)
    with pytest.raises(UserError, match="tiny, test has no gold rationales, whose size all others are cut to"):
        make_study(request(swept), bare, config, tell=lambda line: None)


def test_a_folder_that_is_given_twice_is_one_model(swept):
    both = Request(folders=(str(swept), str(swept)))
    assert [trained.trial_id for _, trained in models_of(both)] == ["s1-unirex-slm-fp-0003-s0", "s1-a2r-0003-s0"]


def test_by_default_there_are_fifty_instances_or_all_with_a_gold_rationale(swept, corpus, config):
    bare = {instance.id for instance in corpus.splits["test"] if instance.inputs[0].gold is None}
    drawn = make_study(request(swept, instances=None), corpus, config, tell=lambda line: None).study.instances
    assert bare
    assert not {instance.id for instance in drawn} & bare
    assert len(drawn) == len(corpus.splits["test"]) - len(bare)


def test_a_model_that_predicts_one_label_is_noted(corpus, config, tmp_path):
    model = config.changed({"train.learning_rate": 1e-9})  # as it was drawn: of one opinion
    trained_sweep(tmp_path, model, corpus, ("unirex-dlm-p",), seeds=(0,))
    study = make_study(request(tmp_path), corpus, config, tell=lambda line: None).study
    labels = {of[0].label for of in study.rationales}
    assert len(labels) == 1
    says = f"UNIREX (DLM-P): predicts {corpus.labels[labels.pop()]!r} on 11 of 11 instances; whoever always answers so"
    assert any(note.startswith(says) for note in study.notes)


def test_models_of_another_corpus_and_instances_of_training_are_noted(swept, config):
    elsewhere = replace(tiny_corpus((60, 8, 30)), name="other")
    notes = make_study(request(swept, split="train"), elsewhere, config, tell=lambda line: None).study.notes
    assert notes[:2] == (
        "train: models were trained on instances of this split",
        "UNIREX (SLM-FP): trained on tiny, not on other",
    )


def test_gold_is_shown_as_far_as_models_read(swept, corpus, config):
    short = config.changed({"data.max_length": 9})
    study = make_study(request(swept, instances=None), corpus, short, tell=lambda line: None).study
    by_id = {instance.id: instance for instance in corpus.splits["test"]}
    whole = [len(by_id[instance.id].inputs[0].gold) for instance in study.instances]
    for model, _, gold, _ in study.rationales:
        assert model.tokens == model.gold_tokens == gold.tokens == len(gold.marks)
    assert [of[2].tokens for of in study.rationales] != whole
    assert any("texts are longer than it reads" in note for note in study.notes)
