import json
from collections.abc import Mapping
from typing import Any

import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_trials import raw
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from unirex_ray.analysis.compare import compare
from unirex_ray.config import Config
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.report.files import comparison_tables
from unirex_ray.sweep.plan import plan_sweep
from unirex_ray.sweep.space import parse_space
from unirex_ray.tracking.choose import choose_sweeps
from unirex_ray.tracking.protocol import (
    CODE_KEY,
    INSTANCES,
    PLUGINS_KEY,
    differing,
    protocol_hash,
    protocol_line,
    protocol_of,
)
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST, SweepRecord

SPACE = parse_space({"parameters": {"loss.comp_weight": {"choice": [0.5, 1.0]}}}, "s.yaml")
OTHER = {
    "data.name": "sst",
    "data.labels": ["a", "b"],
    "data.text_columns": ["t"],
    "data.label_column": "l",
    "data.rationale_columns": ["r"],
    "data.task_metric": "macro_f1",
    "data.limit": 7,
    "data.train_limit": 5,
    "data.seed": 1,
    "data.gold_percent": 50.0,
    "data.gold_batch_factor": 3.0,
    "data.max_length": 64,
    "model.encoder": "other",
    "model.revision": "abc",
    "model.layers": 2,
    "model.head": "mlp-2048-2",
    "model.ig_steps": 5,
    "model.pooling": "mlp",
    "model.dropout": 0.5,
    "loss.comp_weight": 0.7,
    "loss.suff_weight": 0.7,
    "loss.plaus_weight": 0.7,
    "loss.comp": "diff",
    "loss.comp_margin": 0.5,
    "loss.suff": "kl",
    "loss.suff_margin": 0.5,
    "loss.plaus": "kl",
    "loss.plaus_margin": 0.5,
    "loss.warmup": 0.5,
    "loss.agreement_weight": 0.7,
    "loss.top_k_percents": [10],
    "loss.sampled_top_k": 2,
    "train.epochs": 3,
    "train.batch_size": 7,
    "train.group_by_length": True,
    "train.learning_rate": 1e-3,
    "train.weight_decay": 0.5,
    "train.warmup": 0.5,
    "train.warmup_from_zero": True,
    "train.patience": 2,
    "train.gpu": True,
    "train.precision": "bf16",
    "train.perturbation": "masked",
    "sweep.searcher": "random",
    "sweep.configurations": 5,
    "sweep.seeds": [0, 1],
    "sweep.rungs": [1],
    "sweep.reduction": 2,
    "sweep.patience": 4,
    "sweep.seed": 3,
}
"""Another value of every key that can change a number."""

FREE = {
    "method": "l2e",
    "output": "elsewhere",
    "tracking.uri": "sqlite:////x",
    "data.source": "moved",
    "data.cache": "moved",
    "model.trust_remote_code": True,
    "model.convergence_delta": True,
    "model.log_odds": True,
    "train.seed": 5,
    "train.workers": 2,
    "train.threads": 3,
    "train.resources": ["tpu=1"],
    "train.micro_batch_size": 1,
    "train.activation_checkpointing": True,
    "train.token_budget": 128,
    "train.checkpoint_steps": 9,
    "train.explain_every": 2,
    "sweep.methods": ["l2e"],
    "sweep.concurrency": 1,
    "sweep.hours": 2.0,
    "sweep.autoscale": True,
    "sweep.spare_head": True,
    "sweep.max_failures": 0,
    "sweep.storage": "s3://bucket/folder",
    "sweep.keep_weights": "all",
    "sweep.nrg_weights": [1.0, 2.0, 3.0],
}
"""Another value of every key that changes none, or is checked in another place."""


def settings(changes: Mapping[str, Any] | None = None, space: Any = SPACE) -> dict[str, Any]:
    config = Config().changed(
        {"sweep.seeds": [0], "sweep.methods": ["aa-ig"], "sweep.concurrency": 2, **(changes or {})}
    )
    return plan_sweep(config, space).settings("digest")


def hash_of(changes: Mapping[str, Any] | None = None, space: Any = SPACE) -> str:
    return protocol_hash(protocol_of(settings(changes, space)))


def test_every_key_is_either_of_the_protocol_or_leaves_numbers_alone() -> None:
    assert {*OTHER} | {*FREE} == {*Config().flat()}
    assert not {*OTHER} & {*FREE}


@pytest.mark.parametrize("key", [key for key in OTHER if key != "loss.comp_weight"])
def test_each_key_of_the_protocol_changes_it_alone(key: str) -> None:
    values = {"one": protocol_of(settings()), "other": protocol_of(settings({key: OTHER[key]}))}
    expected = "train.precision" if key == "train.gpu" else key
    # Another encoder has other files.
    assert [*differing(values)] == [expected, *(["version.encoders"] if key == "model.encoder" else [])]
    assert hash_of() != hash_of({key: OTHER[key]})


@pytest.mark.parametrize("key", [*FREE, "loss.comp_weight"])
def test_no_other_key_does_and_neither_does_a_value_that_is_searched(key: str) -> None:
    assert hash_of({key: {**OTHER, **FREE}[key]}) == hash_of()


def test_the_space_and_the_data_and_versions_are_of_the_protocol() -> None:
    other = parse_space({"parameters": {"loss.comp_weight": {"choice": [0.5, 0.9]}}}, "s.yaml")
    assert hash_of(space=other) != hash_of()
    base = settings()
    for key in ("data.digest", "version.metrics", "version.windows", "sweep.warm_start"):
        assert protocol_hash(protocol_of({**base, key: "other"})) != hash_of()


def test_what_is_the_same_in_other_words_is_the_same() -> None:
    assert hash_of({"sweep.configurations": 9}) == hash_of()
    assert hash_of({"train.precision": "fp32"}) == hash_of({"train.precision": "auto"})
    assert hash_of({"train.gpu": True}) == hash_of({"train.precision": "bf16"})
    as_text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings().items()}
    assert protocol_of(as_text) == protocol_of(settings())


def test_a_value_that_only_some_configurations_search_is_still_of_the_protocol() -> None:
    parameters = {
        "model.layers": {"choice": [1, 2]},
        "model.dropout": {"uniform": [0.0, 0.3], "when": {"model.layers": [2]}},
    }
    space = parse_space({"parameters": parameters}, "s.yaml")
    assert hash_of({"model.dropout": 0.5}, space) != hash_of(space=space)
    assert hash_of({"model.layers": 2}, space) == hash_of(space=space)


def test_the_line_for_people() -> None:
    line = protocol_line({**settings({"model.layers": 2}), INSTANCES: "24/12/12"})
    assert line == (
        f"protocol {hash_of({'model.layers': 2})}: reviews, 24/12/12 instances (train/dev/test); encoder embedded "
        "(2 layers); epochs 10; K 1, 5, 10, 20, 50; seeds 0; up to 9 configurations per method"
    )
    assert "BEGUN BY" not in protocol_line({**settings(), PLUGINS_KEY: "corpus c=c 1 (0)"})
    mixed = {CODE_KEY: "aa, bb", PLUGINS_KEY: "corpus c=c 1 (0) then c 1 (1)"}
    assert protocol_line({**settings(), **mixed}).endswith(
        "; BEGUN BY OTHER CODE (aa, bb; corpus c=c 1 (0) then c 1 (1))"
    )
    assert "at most 7 instances" in protocol_line(settings({"data.limit": 7}))
    assert "(train/dev/test), 5 of train learned from; encoder" in protocol_line(settings({"data.train_limit": 5}))
    curve = settings(
        {"sweep.searcher": "grid"}, parse_space({"parameters": {"data.train_limit": {"choice": [5, None]}}}, "s")
    )
    assert "(train/dev/test), data.train_limit searched; encoder" in protocol_line(curve)
    grid = settings({"sweep.searcher": "grid"}, parse_space({"parameters": {"train.epochs": {"choice": [1, 2]}}}, "s"))
    assert protocol_line(grid).endswith("epochs searched; K 1, 5, 10, 20, 50; seeds 0; the whole grid per method")


VALUES = {"aa-ig": (0.2, 0.5), "unirex-slm-fp": (0.6, 0.9), "l2e": (0.4, 0.3)}


def put(store: MemoryStore, sweep: str, methods: list[str], changes: Mapping[str, Any] | None = None) -> None:
    tags = {DATA_DIGEST: "digest"}
    opened = store.open_sweep(experiment="reviews", sweep_id=sweep, seeds=(0,), params=settings(changes), tags=tags)
    for method in methods:
        for index, value in enumerate(VALUES[method]):
            name = f"{sweep}-{method}-{index}"
            spec = TrialSpec(trial_id=name, method=method, configuration=index, seed=0, parameters={"x": index})
            opened.open_trial(spec, params={}, tags=tags)
            opened.finish_trial(name, "completed", metrics=TrialMetrics.from_flat(raw(value, 1 - value)))
    opened.finish()


def sweeps(*parts: tuple[str, list[str], Mapping[str, Any] | None]) -> list[SweepRecord]:
    store = MemoryStore()
    for name, methods, changes in parts:
        put(store, name, methods, changes)
    return store.sweeps("reviews")


def test_sweeps_of_one_protocol_pool_to_the_numbers_of_one_sweep() -> None:
    parted = choose_sweeps(sweeps(("a", ["aa-ig", "l2e"], None), ("b", ["unirex-slm-fp"], FREE_OF_METHOD)))
    whole = choose_sweeps(sweeps(("c", list(VALUES), None)))
    one, other = compare("reviews", parted), compare("reviews", whole)
    assert [(r.method, r.scores, r.dev_cnrg, r.configuration.index) for r in one.rows] == [
        (r.method, r.scores, r.dev_cnrg, r.configuration.index) for r in other.rows
    ]
    assert one.protocol_differences == ""
    assert len(one.protocols) == 1


FREE_OF_METHOD = {key: value for key, value in FREE.items() if key not in ("method", "sweep.methods")}


@pytest.mark.slow
@hypothesis_settings(max_examples=40, deadline=None)
@given(st.sampled_from([key for key in OTHER if key != "loss.comp_weight"]))
def test_sweeps_that_differ_in_one_key_are_pooled_by_name_alone_and_every_table_says_so(key: str) -> None:
    recorded = sweeps(("a", ["aa-ig"], None), ("b", ["unirex-slm-fp"], {key: OTHER[key]}))
    shown = "train.precision" if key == "train.gpu" else key
    one, other = hash_of(), hash_of({key: OTHER[key]})
    with pytest.raises(UserError, match="sweeps of different protocols must not be pooled unasked") as refused:
        choose_sweeps(recorded)
    assert f"they differ in {shown} (" in str(refused.value)
    assert f"--protocol among {one}: a; {other}: b;" in str(refused.value)
    assert [sweep.sweep_id for sweep in choose_sweeps(recorded, protocol=other[:6])] == ["b"]
    named = compare("reviews", choose_sweeps(recorded, sweeps=["a", "b"]))
    for table in comparison_tables(named).values():
        assert any(f"POOLED ALTHOUGH THE PROTOCOLS DIFFER, in {shown} (" in remark for remark in table.remarks)
        assert sum(remark.startswith("protocol ") for remark in table.remarks) == 2


def test_a_protocol_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match=rf"no sweep has --protocol 'zz'; there are {hash_of()}"):
        choose_sweeps(sweeps(("a", ["aa-ig"], None)), protocol="zz")


def test_a_method_with_two_budgets_is_named() -> None:
    comparison = compare("reviews", choose_sweeps(sweeps(("a", ["aa-ig", "l2e"], None), ("b", ["aa-ig"], None))))
    remarks = comparison_tables(comparison)["comparison"].remarks
    assert any(remark.endswith("larger budget than the other methods: AA (IG) in 2.") for remark in remarks)


def test_a_setting_that_came_later_leaves_the_hash_of_sweeps_that_do_not_use_it() -> None:
    recorded = settings()
    later = {"sweep.patience", "loss.warmup"}
    without = {key: value for key, value in recorded.items() if key not in later}
    assert protocol_of(without) == protocol_of(recorded)
    assert not later & {*protocol_of(recorded)}
    told = settings({"sweep.patience": 4})
    assert "per method (patience 4)" in protocol_line(told)
