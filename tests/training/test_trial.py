import copy
import json
import math
import threading
import time
from contextlib import suppress
from dataclasses import replace
from itertools import chain

import pytest
import torch
from helpers.marks import slow
from helpers.recorder import Killed, Recorder, assert_equal_weights, lasting, run, weights
from helpers.tiny import Group, first_stage, stages, tiny_config, tiny_corpus

from unirex_ray.config import Config, build_config
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.files import load_yaml
from unirex_ray.methods import METHODS, Method, Stage
from unirex_ray.metrics.instance_file import INSTANCES, from_parquet
from unirex_ray.metrics.instances import split_metrics
from unirex_ray.models.acceptance import Acceptance
from unirex_ray.models.design import Design
from unirex_ray.models.rationale_model import RationaleModel, build_stage
from unirex_ray.training import setup, stage, trial
from unirex_ray.training.checkpoint import BEST, CONFIG, LAST, CheckpointStore
from unirex_ray.training.learner import Learner
from unirex_ray.training.result_file import RESULT
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.setup import trial_identity
from unirex_ray.training.state import TrialResult
from unirex_ray.training.trial import final_result

TWO_STAGES = Method(
    name="two-stages",
    label="Two stages",
    stages=(
        Stage(name="first", criteria=("task",), design=Design(extractor="slm")),
        # A head on the encoder that it shares with the task model, which this stage must leave alone.
        Stage(name="second", criteria=("plaus",), design=Design(extractor="slm", task_model="earlier")),
    ),
)


SCARCE = {"data.gold_percent": 20.0, "train.group_by_length": True}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((20, 10, 10))


@pytest.fixture(scope="module")
def config(encoders) -> Config:
    return tiny_config(
        encoders["bert"], train__epochs=3, train__batch_size=7, train__seed=3, loss__top_k_percents=(10, 50)
    )


@pytest.fixture(scope="module")
def undisturbed(config, corpus, tmp_path_factory):
    """A trial that nothing disturbs: its folder, runtime and result."""
    folder = tmp_path_factory.mktemp("undisturbed")
    runtime = Recorder(folder)
    return folder, runtime, run(config, corpus, runtime)


def test_a_trial_reports_every_epoch_and_leaves_its_best_checkpoint_and_result(config, undisturbed):
    folder, runtime, result = undisturbed
    assert [epoch for epoch, _ in runtime.reports] == [1, 2, 3]
    task = {"loss", "task_score", "accuracy", "macro_f1"}
    keys = task | {"comprehensiveness", "sufficiency", "csd", "auprc", "token_f1"}
    keys |= {f"{key}_se" for key in ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")}
    keys |= {"majority_score", "majority_p", "top_prediction"}
    losses = {f"train/{key}loss" for key in ("", "task_", "comp_", "suff_", "plaus_")}
    expected = {f"dev/{key}" for key in task} | losses
    assert all(set(metrics) == expected for _, metrics in runtime.reports)
    ties = {f"dev/{key}" for key in ("tied_epochs", "tied_comp_range", "tied_suff_range")}
    assert set(lasting(result.metrics)) == {f"{split}/{key}" for split in ("dev", "test") for key in keys} | ties
    assert {path.name for path in folder.iterdir()} == {BEST, CONFIG, INSTANCES, RESULT}
    assert build_config(load_yaml(folder / CONFIG)) == config.changed({"loss.suff": "margin"})
    assert result.perturbation == "dropped"
    assert (
        result.metrics.flat()["time/total_s"]
        >= result.metrics.flat()["time/train_s"] + result.metrics.flat()["time/evaluate_s"]
        > 0
    )
    best = runtime.reports[result.epoch - 1][1]
    assert all(result.metrics.flat()[key] == value for key, value in best.items() if key.startswith("dev/"))
    assert best["dev/task_score"] == max(metrics["dev/task_score"] for _, metrics in runtime.reports)
    total = {key: value for key, value in runtime.reports[0][1].items() if key.startswith("train/")}
    assert total["train/loss"] == pytest.approx(sum(value for key, value in total.items() if key != "train/loss"))


@pytest.mark.parametrize("method", ["unirex-slm-fp", *slow("a2r", "fresh", "l2e", "aa-ig")])
@pytest.mark.parametrize("choices", [1, *slow(3)])
def test_every_recorded_metric_follows_from_the_results_by_instance(config, tmp_path, method, choices):
    corpus = tiny_corpus((12, 7, 8), choices=choices, gold=0.6)
    result = run(config.changed({"method": method, "model.log_odds": True}), corpus, Recorder(tmp_path))
    by_split = from_parquet((tmp_path / INSTANCES).read_bytes())
    assert list(by_split) == ["dev", "test"]
    for split, instances in by_split.items():
        assert list(instances.ids) == [instance.id for instance in corpus.splits[split]]
        again = split_metrics(instances)
        recorded = result.metrics.of(split)
        assert recorded == pytest.approx({**recorded, **again}, rel=1e-5, abs=1e-5)
        assert set(recorded) - set(again) <= {"tied_epochs", "tied_comp_range", "tied_suff_range", "stage_loss"}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_one_others(config, corpus, undisturbed, tmp_path):
    folder, runtime, result = undisturbed
    again = Recorder(tmp_path / "again")
    repeated = run(config, corpus, again)
    assert lasting(repeated.metrics) == lasting(result.metrics)
    assert again.reports == runtime.reports
    assert repeated.highlights == result.highlights
    assert (tmp_path / "again" / INSTANCES).read_bytes() == (folder / INSTANCES).read_bytes()
    assert_equal_weights(weights(tmp_path / "again"), weights(folder))
    other = run(config.changed({"train.seed": 1}), corpus, Recorder(tmp_path / "other"))
    assert lasting(other.metrics) != lasting(result.metrics)


def test_a_finished_trial_is_read_back(config, corpus, undisturbed, monkeypatch):
    folder, _, result = undisturbed
    monkeypatch.setattr(trial, "prepare_trial", lambda *_: pytest.fail("it runs again"))
    runtime = Recorder(folder)
    again = run(config, corpus, runtime)
    assert again == result
    assert runtime.written == []
    assert runtime.reports == []


@pytest.mark.parametrize("kill_at", [6, *slow(1, 3, 4, 7, 10, 12)])
def test_wherever_it_is_killed_a_trial_goes_on_to_the_same_numbers(config, corpus, undisturbed, tmp_path, kill_at):
    # Writes, with three steps an epoch: last, last, perhaps best, last; again; last, last; three of results.
    folder, runtime, result = undisturbed
    config = config.changed({"train.checkpoint_steps": 1})
    with suppress(Killed):
        run(config, corpus, Recorder(tmp_path, kill_at=kill_at))
    resumed = Recorder(tmp_path)
    again = run(config, corpus, resumed)
    assert lasting(again.metrics) == lasting(result.metrics)
    assert (again.epoch, again.highlights) == (result.epoch, result.highlights)
    for report in resumed.reports:
        expected = runtime.reports[report[0] - 1][1]
        assert report[1] == pytest.approx(expected, rel=1e-12)  # summed in parts, so that the last digit may differ
    assert_equal_weights(weights(tmp_path), weights(folder))
    assert {path.name for path in tmp_path.iterdir()} - {LAST} == {BEST, CONFIG, INSTANCES, RESULT}
    assert (tmp_path / INSTANCES).read_bytes() == (folder / INSTANCES).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [2, 5, 9])
def test_gold_batches_like_lengths_sampled_thresholds_and_a_warm_up_go_on_where_they_were(
    config, corpus, tmp_path, kill_at
):
    drawn = {"loss.sampled_top_k": 1, "loss.warmup": 1.0, **SCARCE}
    config = config.changed({"train.checkpoint_steps": 1, **drawn})
    reference = Recorder(tmp_path / "whole")
    result = run(config, corpus, reference)
    with suppress(Killed):
        run(config, corpus, Recorder(tmp_path / "killed", kill_at=kill_at))
    again = run(config, corpus, Recorder(tmp_path / "killed"))
    assert lasting(again.metrics) == lasting(result.metrics)
    assert_equal_weights(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_scarce_rationales_are_learned_from_as_if_the_others_were_not_there(config, corpus, tmp_path):
    config = config.changed({"data.gold_percent": 20.0, "model.dropout": 0.0})
    scarce = first_stage(config, corpus, Recorder(tmp_path / "scarce"))
    chosen = set(scarce.learner.epochs.gold)
    assert len(chosen) == 4
    stripped = [
        instance
        if number in chosen
        else replace(instance, inputs=tuple(replace(text, gold=None) for text in instance.inputs))
        for number, instance in enumerate(corpus.splits["train"])
    ]
    without = replace(corpus, splits={**corpus.splits, "train": InstanceTable.from_instances(stripped)})
    plain = first_stage(config.changed({"data.gold_percent": 100.0}), without, Recorder(tmp_path / "plain"))
    for batch in scarce.learner.epochs.batches(0):
        assert len(chosen & set(batch)) == 3  # of a batch of 7
        found, expected = scarce.learner.gradients(batch), plain.learner.gradients(batch)
        assert {name: float(value) for name, value in found.items()} == {n: float(v) for n, v in expected.items()}
        assert found["plaus_loss"] > 0
    assert scarce.data["train"].has_gold.sum() > len(chosen)  # evaluation and other stages see all of them


def test_methods_that_learn_from_no_rationale_do_not_read_how_many_there_are(config, corpus, tmp_path):
    fewer = config.changed({"method": "unirex-aa-f", "data.gold_percent": 5.0})
    trainers = [
        first_stage(fewer.changed({"data.gold_percent": percent}), corpus, Recorder(tmp_path / str(percent)))
        for percent in (5.0, 100.0)
    ]
    assert trial_identity(trainers[0].setup.config, corpus) == trial_identity(trainers[1].setup.config, corpus)
    assert trainers[0].learner.epochs.batches(1) == trainers[1].learner.epochs.batches(1)


def test_a_checkpoint_of_another_configuration_or_corpus_is_refused(config, corpus, undisturbed, tmp_path):
    folder, _, _ = undisturbed
    other = config.changed({"loss.comp_weight": 0.5})
    with pytest.raises(UserError, match=r"holds a trial of another configuration .*--output"):
        run(other, corpus, Recorder(folder))
    with pytest.raises(UserError, match="or other data"):
        run(config, tiny_corpus((20, 10, 10), seed=1), Recorder(folder))
    with pytest.raises(Killed):
        run(config, corpus, Recorder(tmp_path, kill_at=2))
    with pytest.raises(UserError, match="holds a trial of another configuration"):
        run(other, corpus, Recorder(tmp_path))


def test_a_finished_trial_is_read_back_without_its_weights(config, corpus, tmp_path):
    result = run(config.changed({"train.epochs": 1}), corpus, Recorder(tmp_path))
    (tmp_path / BEST).unlink()
    assert run(config.changed({"train.epochs": 1}), corpus, Recorder(tmp_path)) == result


def test_a_single_step_changes_weights(config, corpus, tmp_path):
    config = config.changed({"train.epochs": 1, "train.batch_size": 1000})
    trainer = first_stage(config, corpus, LocalRuntime(tmp_path))
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    assert trainer.learner.epochs.steps == 1
    assert any(not torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())


@pytest.fixture
def two_stages(monkeypatch) -> Method:
    monkeypatch.setitem(METHODS, TWO_STAGES.name, TWO_STAGES)
    return TWO_STAGES


@pytest.mark.slow
def test_two_stages_train_one_part_each(config, corpus, two_stages, tmp_path):
    config = config.changed({"method": two_stages.name, "train.epochs": 2})
    runtime = Recorder(tmp_path)
    first: dict[str, torch.Tensor] = {}  # after an epoch of the first stage
    began: dict[str, torch.Tensor] = {}  # where the second one began
    report = runtime.report

    def spy(metrics, *, epoch, stage):
        report(metrics, epoch=epoch, stage=stage)
        if "task_loss" in metrics.train and epoch == 2:
            first.update(weights(tmp_path))
        elif "plaus_loss" in metrics.train and epoch == 1:
            began.update(CheckpointStore(tmp_path).load(LAST)["model"])

    runtime.report = spy
    result = run(config, corpus, runtime)
    kinds = ["plaus" if "train/plaus_loss" in metrics else "task" for _, metrics in runtime.reports]
    assert kinds == ["task", "task", "plaus", "plaus"]
    start = build_stage(config.model, two_stages.stages[0].design, 2, seed=config.train.seed).state_dict()
    end = weights(tmp_path)
    moved = [name for name in start if not torch.equal(start[name], first[name])]
    assert moved
    assert all(name.startswith("task_model.") for name in moved)
    moved = [name for name in start if not torch.equal(began[name], end[name])]
    assert moved
    assert all(name.startswith("extractor.") for name in moved)
    assert result.metrics.flat()["dev/task_score"] == runtime.reports[-1][1]["dev/task_score"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["unirex-slm-fp-two-stage", "unirex-dlm-fp-two-stage"])
def test_a_joint_stage_trains_the_task_model_further_with_a_new_extractor(config, corpus, tmp_path, method):
    config = config.changed({"method": method, "train.epochs": 1})
    design = METHODS[method].stages[1].design
    fresh = build_stage(
        config.model,
        design,
        2,
        seed=config.train.seed,
        stage_index=1,
        earlier=RationaleModel(config.model, Design(extractor="aa-grad"), 2),
    ).state_dict()
    plain = run(config.changed({"method": "aa-ig"}), corpus, Recorder(tmp_path / "plain"))
    task_model = weights(tmp_path / "plain")
    trainers = stages(config, corpus, LocalRuntime(tmp_path / "joint"))
    first = next(trainers)
    first.train()
    assert first.state.best_metrics["task_score"] == plain.metrics.dev["task_score"]
    joint = next(trainers)
    began = copy.deepcopy(joint.model.state_dict())
    for name, value in began.items():
        assert torch.equal(value, task_model[name] if name.startswith("task_model.") else fresh[name])
    joint.train()
    assert all(
        not torch.equal(value, began[name]) for name, value in joint.model.state_dict().items() if "weight" in name
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", [TWO_STAGES.name, "l2e", "fresh-p", "unirex-slm-fp-two-stage"])
def test_wherever_it_is_killed_a_trial_of_two_stages_goes_on_to_the_same_numbers(
    config, corpus, two_stages, tmp_path, method
):
    # Writes: last, best; last as the second stage begins; last, best; configuration and result.
    config = config.changed({"method": method, "train.epochs": 1, "train.checkpoint_steps": 2})
    reference = Recorder(tmp_path / "whole")
    result = run(config, corpus, reference)
    for kill_at in range(1, len(reference.written) + 1):
        folder = tmp_path / f"kill-{kill_at}"
        with pytest.raises(Killed):
            run(config, corpus, Recorder(folder, kill_at=kill_at))
        again = run(config, corpus, Recorder(folder))
        assert (kill_at, lasting(again.metrics)) == (kill_at, lasting(result.metrics))
        assert_equal_weights(weights(folder), weights(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "choices", "scarce"),
    [
        ("unirex-slm-fp", 1, {}),
        ("unirex-slm-fp", 3, {}),
        ("unirex-slm-fp", 3, SCARCE),
        ("unirex-slm-fp", 1, {"loss.warmup": 1.0}),
        ("unirex-slm-fp-two-stage", 1, {}),
        ("l2e", 3, {}),
        ("fresh-p", 1, {}),
        ("fresh-p", 1, SCARCE),
        ("a2r-p", 3, {}),
        ("unirex-aa-fp", 1, {}),
    ],
)
def test_three_workers_train_as_one(encoders, tmp_path, monkeypatch, method, choices, scarce):
    building = threading.Lock()

    def build_alone(*arguments, **options):
        with building:  # threads share one random state, which processes do not
            return build_stage(*arguments, **options)

    monkeypatch.setattr(stage, "build_stage", build_alone)
    corpus = tiny_corpus((13, 7, 7), choices=choices)
    changes = {"method": method, "model__dropout": 0.0, "train__epochs": 2, "train__batch_size": 7}
    changes |= {key.replace(".", "__"): value for key, value in scarce.items()}
    config = tiny_config(encoders["roberta"], train__learning_rate=3e-4, **changes)
    alone = run(config, corpus, Recorder(tmp_path / "alone"))
    group = Group(3, tmp_path / "group")
    workers = [stages(config, corpus, group.runtime(rank)) for rank in range(3)]
    first_stages = [next(worker) for worker in workers]

    def work(rank: int) -> TrialResult:
        for trainer in chain([first_stages[rank]], workers[rank]):
            trainer.train()
        result, instances = final_result(trainer, time.perf_counter())
        trainer.files.finish(result, instances, trainer.state, trainer.setup.config, trainer.setup.card)
        return result

    results = group.run(work)
    assert all(lasting(result.metrics) == lasting(results[0].metrics) for result in results)
    assert group.reports[0] == group.reports[1] == group.reports[2]
    assert lasting(results[0].metrics) == pytest.approx(lasting(alone.metrics), rel=1e-3, abs=1e-3)
    assert json.loads(group.checkpoints.read(RESULT))["epoch"] == alone.epoch
    assert all(result.highlights == results[0].highlights for result in results)
    files = group.checkpoints.read(INSTANCES), (tmp_path / "alone" / INSTANCES).read_bytes()
    together, single = (from_parquet(data)["test"] for data in files)
    for name, values in single.measured.items():
        assert together.measured[name] == pytest.approx(values, rel=1e-2, abs=1e-2, nan_ok=True)


@pytest.mark.slow
def test_an_encoder_that_is_not_exact_is_masked(config, corpus, monkeypatch, tmp_path):
    def drops(perturbation: str, error: float | None) -> bool:
        monkeypatch.setattr(setup, "accepted_encoder", lambda config, encoded: Acceptance(9, error))
        changed = config.changed({"train.perturbation": perturbation})
        return first_stage(changed, corpus, LocalRuntime(tmp_path)).setup.forward_plan.drop

    assert drops("auto", 1e-9)
    assert drops("dropped", 1e-9)
    assert not drops("masked", 1e-9)
    for error in (None, math.nan, 1e-3):
        assert not drops("auto", error)
        assert not drops("masked", error)
        with pytest.raises(UserError, match="not the same as masking"):
            drops("dropped", error)


@pytest.mark.slow
def test_masked_and_dropped_trials_agree(config, corpus, tmp_path):
    config = config.changed({"model.dropout": 0.0, "train.learning_rate": 1e-3})
    dropped, masked, streamed = (
        run(config.changed(change), corpus, Recorder(tmp_path / name))
        for name, change in {
            "dropped": {},
            "masked": {"train.perturbation": "masked"},
            "streamed": {"train.activation_checkpointing": True},
        }.items()
    )
    assert (dropped.perturbation, masked.perturbation) == ("dropped", "masked")
    assert lasting(masked.metrics) == pytest.approx(lasting(dropped.metrics), rel=1e-3, abs=1e-3)
    assert lasting(streamed.metrics) == lasting(dropped.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_runs_in_half_precision_and_in_micro_batches(config, corpus, tmp_path, method):
    changes = {"method": method, "train.precision": "bf16", "train.micro_batch_size": 3, "train.epochs": 1}
    result = run(config.changed(changes), corpus, Recorder(tmp_path))
    assert all(math.isfinite(value) for value in result.metrics.flat().values())


@pytest.mark.parametrize(("from_zero", "first"), [(False, 1), (True, 0)])
def test_learning_rates_rise_and_fall_to_zero(config, corpus, tmp_path, from_zero, first):
    schedule = {"train.epochs": 5, "train.warmup": 0.2, "train.warmup_from_zero": from_zero}
    config = config.changed(schedule | {"train.learning_rate": 1e-2})
    trainer = first_stage(config, corpus, LocalRuntime(tmp_path))
    rates = []
    for _ in range(15):
        rates.append(trainer.learner.optimizer.param_groups[0]["lr"])
        trainer.learner.optimizer.step()
        trainer.learner.schedule.step()
    peak = 1e-2
    expected = [*(peak * (step + first) / 3 for step in range(3)), *(peak * (15 - step) / 12 for step in range(3, 15))]
    assert rates == pytest.approx(expected)
    assert trainer.learner.optimizer.param_groups[0]["weight_decay"] == 0.0


@pytest.mark.slow
def test_dropout_is_drawn_anew_for_every_step_and_worker(config, corpus, monkeypatch, tmp_path):
    gradients = Learner.gradients
    seeds: list[int] = []
    monkeypatch.setattr(
        Learner, "gradients", lambda self, chosen: (seeds.append(torch.initial_seed()), gradients(self, chosen))[1]
    )
    config = config.changed({"train.epochs": 2})
    run(config, corpus, Recorder(tmp_path / "first"))
    second_of_two = Recorder(tmp_path / "second")
    second_of_two.rank, second_of_two.world = 1, 2
    run(config, corpus, second_of_two)
    assert not (tmp_path / "second").exists()  # only the first worker writes
    assert len(seeds) == len(set(seeds)) == 12
