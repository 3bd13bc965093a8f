"""What a sweep decides and refuses before its first trial, without a cluster."""

from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import tiny_corpus
from rich.console import Console

from unirex_ray.config import Config, build_config, unflatten
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS
from unirex_ray.sweep.plan import SweepPlan, encoder_configs, plan_sweep, prepare_corpus
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.searcher import StudyHistory
from unirex_ray.sweep.space import Space, parse_space
from unirex_ray.tracking.protocol import protocol_of
from unirex_ray.tracking.records import TrialSpec

RATES = {"train.learning_rate": {"choice": [1e-5, 2e-5, 5e-5]}}
RANGE = {"train.learning_rate": {"log_uniform": [1e-6, 1e-3]}}


def space(**parameters: Any) -> Space:
    return parse_space({"parameters": {key.replace("__", "."): value for key, value in parameters.items()}}, "s.yaml")


def plan(parameters: dict, *, fixed: tuple[str, ...] = (), **overrides: Any) -> SweepPlan:
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    return plan_sweep(build_config(unflatten(changed)), space(**parameters), fixed)


# Refused before the corpus is read.

REFUSED = [
    ({}, {"method": "aa-gi"}, r"unknown method 'aa-gi' \(did you mean 'aa-ig'\?\); choose one of aa-grad"),
    ({}, {"sweep__methods": ["aa-ig", "fresh-q"]}, "unknown method 'fresh-q'"),
    ({}, {"sweep__methods": ["aa-ig", "fresh", "aa-ig"]}, r"must be distinct, but got \['aa-ig', 'fresh', 'aa-ig'\]"),
    ({}, {"train__epochs": 3, "sweep__rungs": [1, 3]}, r"sweep.rungs = \[1, 3\]: .* train.epochs = 3 stops nothing"),
    ({}, {"train__epochs": 3, "sweep__rungs": [4]}, r"sweep.rungs = \[4\]: .*set --sweep.rungs=\[\]"),
    ({"model.head": {"choice": ["linear", "cubic"]}}, {}, "s.yaml: model.head = 'cubic'"),
    ({"train.epochs": {"uniform": [1, 9]}}, {}, "s.yaml: train.epochs = 3.54.*integer"),
    ({"loss.comp_weight": {"choice": [1, 1.0]}}, {}, "choices of 'loss.comp_weight' must differ"),
    (RANGE, {"sweep__searcher": "grid"}, "a grid needs choices, but 'train.learning_rate' is log_uniform"),
    (RANGE, {"sweep__searcher": "grid", "sweep__configurations": 5}, "a grid needs choices"),
]


@pytest.mark.parametrize(("parameters", "overrides", "message"), REFUSED)
def test_refused_without_a_corpus(parameters: dict, overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan(parameters, **overrides)
    assert "\n" not in str(caught.value)


def test_a_range_that_no_method_of_a_grid_reads_is_no_hindrance() -> None:
    ranges = {"model.ig_steps": {"int": [3, 10]}}
    assert plan(ranges, method="unirex-dlm-p", sweep__searcher="grid").budgets == {"unirex-dlm-p": 1}
    with pytest.raises(UserError, match=r"'model.ig_steps' is int \[3, 10\]"):
        plan(ranges, method="aa-ig", sweep__searcher="grid")


@pytest.mark.parametrize("searcher", ["grid", "tpe", "random", "pareto"])
def test_a_part_of_a_vast_space_is_searched_at_once(searcher: str) -> None:
    sixty = {"choice": [number / 10 for number in range(60)]}
    keys = ("comp_weight", "suff_weight", "plaus_weight", "comp_margin", "suff_margin")
    vast = {f"loss__{key}": sixty for key in keys}
    found = plan(vast, method="unirex-dlm-fp", sweep__searcher=searcher, sweep__configurations=12)
    assert found.budgets == {"unirex-dlm-fp": 12}
    suggested = found.searchers["unirex-dlm-fp"].suggest(0, StudyHistory())
    assert suggested is not None
    assert len(suggested) == 5
    with pytest.raises(UserError, match=r"has 777,600,000 configurations, .* some of them with --sweep.configurations"):
        plan(vast, method="unirex-dlm-fp", sweep__searcher="grid")


@pytest.mark.parametrize("rungs", [[], [1, 2]])
def test_rungs_below_the_last_epoch_are_fine(rungs: list[int]) -> None:
    extent = plan({}, train__epochs=3, sweep__rungs=rungs, sweep__reduction=4).extent("s1")
    assert (extent.rungs, extent.reduction) == (tuple(rungs), 4)


# Refused when the corpus is known.


def prepared(parameters: dict, *, gold: float = 0.75, **overrides: Any) -> tuple[str, ...]:
    return prepare_corpus(plan(parameters, **overrides), tiny_corpus(gold=gold))


UNFIT = [
    ({}, {"method": "unirex-slm-p"}, 0.0, "unirex-slm-p learns from gold rationales, but no train instance of tiny"),
    ({}, {"sweep__methods": ["aa-ig", "fresh-p"]}, 0.0, "fresh-p learns from gold rationales"),
    (
        {},
        {"method": "aa-ig", "sweep__nrg_weights": [0, 1, 0]},
        0.0,
        "there are no gold rationales, so PNRG is left out",
    ),
    (
        {},
        {"method": "sgt-p", "data__gold_percent": 50, "train__batch_size": 1},
        0.75,
        "data.gold_percent = 50 .* train.batch_size = 1 leaves no room",
    ),
    (
        {"data.gold_percent": {"choice": [100, 5, 20]}},
        {"method": "sgt-p", "train__batch_size": 1},
        0.75,
        "data.gold_percent = 5 puts a gold instance",
    ),
    ({}, {"method": "aa-ig", "model__pooling": "mlp"}, 0.75, "model.pooling = 'mlp' .*aa-ig"),
    (
        {"model.pooling": {"choice": ["sum", "mlp"]}},
        {"sweep__methods": ["unirex-aa-fp", "sgt"]},
        0.75,
        "model.pooling = 'mlp' .*sgt",
    ),
    ({}, {"model__encoder": "./absent"}, 0.75, "./absent"),
]


@pytest.mark.parametrize(("parameters", "overrides", "gold", "message"), UNFIT)
def test_refused_for_the_corpus(parameters: dict, overrides: dict, gold: float, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepared(parameters, gold=gold, **overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [[0, 1, 0], [1, 1, 1]])
def test_weights_that_leave_a_score_are_fine(encoders: dict[str, str], weights: list[float], tmp_path: Path) -> None:
    small = {"method": "aa-ig", "model__encoder": encoders["bert"], "data__cache": str(tmp_path)}
    prepared({}, gold=0.75 if weights[0] == 0 else 0.0, sweep__nrg_weights=weights, **small)


@pytest.mark.slow
def test_every_encoder_and_depth_of_the_space_is_tried(encoders: dict[str, str], tmp_path: Path) -> None:
    both = {"model.encoder": {"choice": [encoders["bert"], encoders["roberta"]]}}
    deep = {"model.layers": {"choice": [1, 3], "when": {"model.encoder": [encoders["roberta"]]}}}
    small = {"method": "aa-ig", "data__cache": str(tmp_path), "data__max_length": 8}
    with pytest.raises(UserError, match=r"model.layers = 3: .*roberta' has 2 layers"):
        prepared({**both, **deep}, **small)
    notes = prepared(both, **small)
    assert any("cut" in note for note in notes)
    assert len(set(notes)) == len(notes)


# Refused before anything is opened.


@pytest.fixture
def nothing_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("load_corpus", "connect", "MlflowStore"):
        monkeypatch.setattr(f"unirex_ray.sweep.run.{name}", lambda *_, name=name, **__: pytest.fail(f"called {name}"))


def test_what_needs_no_corpus_is_refused_before_one_is_read(nothing_opened: None, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for parameters, overrides, message in REFUSED:
        changed = {key.replace("__", "."): value for key, value in overrides.items()}
        config = build_config(unflatten({"output": str(output), **changed}))
        with pytest.raises(UserError, match=message):
            run_sweep(config, space(**parameters))
    assert not output.exists()

    output.mkdir()
    (output / "sweep.json").write_text('{"sweep_id": "s1", "settings": {}}')
    with pytest.raises(UserError, match="already holds the sweep s1"):
        run_sweep(Config(method="aa-ig", output=str(output)), space())


def test_a_corpus_is_refused_before_a_cluster_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("unirex_ray.sweep.run.load_corpus", lambda _: tiny_corpus(gold=0.0))
    monkeypatch.setattr("unirex_ray.sweep.run.connect", lambda: pytest.fail("started"))
    config = Config(method="unirex-slm-p", output=str(tmp_path))
    with pytest.raises(UserError, match="learns from gold rationales"):
        run_sweep(config, space(), open_store=lambda uri: pytest.fail("opened"))
    assert not (tmp_path / "sweep.json").exists()


def test_keys_that_are_not_searched_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("unirex_ray.sweep.run.load_corpus", lambda _: tiny_corpus(gold=0.0))
    console = Console(record=True, width=40)
    config = Config(method="unirex-slm-p", output=str(tmp_path))
    with pytest.raises(UserError):
        run_sweep(config, space(**RATES), fixed={"train.learning_rate", "output"}, resume=True, console=console)
    printed = " ".join(console.export_text().split())
    assert "not searched, because you set them: train.learning_rate" in printed
    assert "nothing to resume in" in printed


# Decided.


def test_methods_are_those_of_the_sweep_unless_one_alone_is_fixed() -> None:
    both = {"method": "sgt", "sweep__methods": ["aa-ig", "fresh"]}
    assert list(plan({}, method="sgt").budgets) == ["sgt"]
    assert list(plan({}, **both).budgets) == ["aa-ig", "fresh"]
    assert list(plan({}, fixed=("method",), **both).budgets) == ["sgt"]
    assert list(plan({}, fixed=("method", "sweep.methods"), **both).budgets) == ["aa-ig", "fresh"]


@pytest.mark.parametrize(
    ("parameters", "searcher", "wanted", "budget"),
    [
        (RANGE, "tpe", None, 9),
        (RANGE, "random", 40, 40),
        (RATES, "tpe", None, 3),
        (RATES, "tpe", 2, 2),
        (RATES, "grid", None, 3),
        (RATES, "grid", 2, 2),
        (RATES, "grid", 40, 3),
        ({"train.batch_size": {"choice": list(range(8, 40))}}, "pareto", None, 9),
        ({"train.batch_size": {"choice": list(range(8, 40))}}, "grid", None, 32),
        ({}, "tpe", 5, 1),
    ],
)
def test_budgets(parameters: dict, searcher: str, wanted: int | None, budget: int) -> None:
    decided = plan(parameters, method="aa-ig", sweep__searcher=searcher, sweep__configurations=wanted)
    assert decided.budgets == {"aa-ig": budget}
    assert decided.extent("s1").most_trials == 3 * budget


def test_fixed_keys_leave_the_space() -> None:
    heads = {
        "model.head": {"choice": ["linear", "mlp-2048-2"]},
        "train.warmup": {"choice": [0.1, 0.2], "when": {"model.head": ["mlp-2048-2"]}},
    }
    options = {"method": "unirex-dlm-p", "sweep__searcher": "grid"}
    assert plan(heads, **options).budgets == {"unirex-dlm-p": 3}
    decided = plan(heads, fixed=("model.head", "train.epochs"), model__head="mlp-2048-2", **options)
    assert (decided.fixed, decided.budgets) == (("model.head",), {"unirex-dlm-p": 2})
    assert [parameter.key for parameter in decided.space.parameters] == ["train.warmup"]


@pytest.mark.parametrize(("threads", "used"), [(None, 1), (3, 3)])
def test_a_trial_of_a_sweep_uses_one_thread_unless_told_otherwise(threads: int | None, used: int) -> None:
    assert plan({}, train__threads=threads).config.train.threads == used


def test_a_trials_configuration() -> None:
    spec = TrialSpec(
        trial_id="t", method="sgt", configuration=4, seed=7, parameters={"train.learning_rate": 5e-5, "train.warmup": 0}
    )
    decided = plan(RATES, sweep__methods=["aa-ig", "sgt"], train__epochs=4)
    changes = {"method": "sgt", "train.seed": 7, **spec.parameters}
    config = decided.trial_config(spec)
    assert config == METHODS["sgt"].resolve(decided.config.changed(changes))
    assert (config.loss.suff, config.train.epochs, config.train.threads) == ("kl", 4, 1)


def test_the_settings_are_what_decides_the_numbers() -> None:
    options = {"sweep__methods": ["aa-ig", "sgt"], "train__epochs": 4}
    settings = plan(RATES, **options).settings("abc")
    assert settings["space train.learning_rate"] == "train.learning_rate: choice 1e-05, 2e-05, 5e-05"
    assert (settings["sweep.methods"], settings["data.digest"]) == (["aa-ig", "sgt"], "abc")
    assert (settings["train.epochs"], settings["train.threads"]) == (4, 1)
    free = {"output": "o", "tracking__uri": "sqlite:////x", "data__source": "s", "sweep__keep_weights": "all"}
    assert plan(RATES, **options, **free, sweep__concurrency=2, sweep__max_failures=0).settings("abc") == settings
    where = {"train__resources": ["tpu=1"], "sweep__spare_head": True, "sweep__autoscale": True}
    assert plan(RATES, **options, **where, sweep__concurrency=2).settings("abc") == settings
    assert plan(RATES, fixed=("method",), method="sgt", **options).settings("abc")["sweep.methods"] == ["sgt"]


def test_any_share_of_a_gpu_is_a_gpu_to_a_sweep_that_is_resumed_or_compared() -> None:
    whole, half = (plan(RATES, train__gpu=gpu).settings("abc") for gpu in (True, 0.5))
    assert (half, half["train.gpu"]) == (whole, True)
    assert protocol_of(half)["train.precision"] == "bf16"


def test_a_learning_curve_needs_the_whole_grid_and_prepares_every_size() -> None:
    sizes = {"data__train_limit": {"choice": [8, None, 12]}}
    found = plan(sizes, method="aa-ig", sweep__searcher="grid")
    assert [config.data.train_limit for config in encoder_configs(found)] == [8, None, 12]
    part = "each method has to try its whole grid"
    for overrides in (
        {"sweep__searcher": "random"},
        {"sweep__configurations": 2},
        {"sweep__rungs": [1], "train__epochs": 3},
        {"sweep__patience": 1},
    ):
        with pytest.raises(UserError, match=part):
            plan(sizes, method="aa-ig", **{"sweep__searcher": "grid", **overrides})
    assert plan({}, method="aa-ig", sweep__searcher="random").budgets  # where no size is searched, nothing changes
