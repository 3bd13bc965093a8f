"""Configurations as studies of Optuna: what the searched settings account for, and where that is noise."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from matplotlib import pyplot as plt
from mlflow import MlflowClient

from unirex_ray.analysis.compare import variants_of
from unirex_ray.analysis.selection import Configuration, configurations
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.sweep.study import FEWEST, method_studies, page, pictures, write_storage
from unirex_ray.sweep.study_report import parameters_table
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialRecord, TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST

JOB = Path(__file__).parents[2] / "jobs" / "parameters.py"


def metrics_of(value: float) -> dict[str, float]:
    keys = ("comprehensiveness", "auprc", "token_f1", "task_score")
    return {**dict.fromkeys(keys, value), "sufficiency": -value}


def specs(count: int, method: str = "unirex-slm-fp", seed: int = 0) -> list[TrialSpec]:
    """Settings that are drawn: a weight of a list, a rate of a range, a head, and one that is always the same."""
    draw = np.random.default_rng(seed)
    return [
        TrialSpec(
            trial_id=f"s1-{method}-{index:04d}-s0",
            method=method,
            configuration=index,
            seed=0,
            parameters={
                "loss.comp_weight": float(draw.choice([0.5, 0.7, 1.0])),
                "train.learning_rate": float(10 ** draw.uniform(-5, -3)),
                "model.head": str(draw.choice(["linear", "mlp"])),
                "loss.top_k_percents": [10, 50] if draw.random() < 0.5 else [20],
                "train.warmup": 0.1,
            },
        )
        for index in range(count)
    ]


def variants(count: int, value, method: str = "unirex-slm-fp") -> dict[str, list[Configuration]]:
    records = [
        TrialRecord(spec=spec, status="completed", metrics=TrialMetrics(dev=metrics_of(value(spec.parameters))))
        for spec in specs(count, method)
    ]
    return configurations(records, seeds=(0,))


def by_weight(parameters) -> float:
    return parameters["loss.comp_weight"]


def noise(parameters) -> float:
    return float(np.random.default_rng(int(1e9 * parameters["train.learning_rate"])).normal())


def test_the_setting_that_decides_has_the_share():
    (study,) = method_studies(variants(40, by_weight)).values()
    assert study.parameters == ["loss.comp_weight", "train.learning_rate", "model.head", "loss.top_k_percents"]
    for score in ("cnrg", "fnrg", "pnrg", "tnrg"):
        found = study.importance[score]
        assert sum(found.shares.values()) == pytest.approx(1)
        assert found.shares["loss.comp_weight"] > 0.9
        assert found.explained > 0.9
    assert study.trials[0].value == study.trials[0].user_attrs["cnrg"]
    assert study.trials[0].user_attrs["dev/auprc"] == by_weight(specs(40)[0].parameters)


def test_noise_is_said_to_be_noise():
    studies = method_studies(variants(40, noise))
    found = studies["unirex-slm-fp"].importance["cnrg"]
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.explained < 0.1
    remarks = parameters_table(studies, "sst").remarks
    assert any("UNIREX (SLM-FP): THE SETTINGS PREDICT NOTHING of CNRG" in remark for remark in remarks)
    assert not any("predict CNRG" in remark for remark in remarks)
    told = parameters_table(method_studies(variants(40, by_weight)), "sst").remarks
    assert re.search(r"the settings predict CNRG \(R² (0\.9\d|1\.00)\), FNRG", told[1])


def test_too_few_configurations_have_no_importance_and_one_alone_no_study():
    few = method_studies(variants(FEWEST - 1, by_weight))
    assert few["unirex-slm-fp"].importance == {}
    assert any("are too few to tell importance" in remark for remark in parameters_table(few, "sst").remarks)
    assert method_studies(variants(1, by_weight)) == {}
    assert method_studies({}) == {}


def test_a_score_that_does_not_vary_is_left_out():
    (study,) = method_studies(variants(10, lambda parameters: 1.0)).values()
    assert study.importance == {}


def test_numbers_of_a_range_and_of_a_list_are_told_apart():
    (study,) = method_studies(variants(30, by_weight)).values()
    found = study.trials[0].distributions
    assert isinstance(found["train.learning_rate"], optuna.distributions.FloatDistribution)
    assert found["train.learning_rate"].log
    assert found["loss.comp_weight"].choices == (0.5, 0.7, 1.0)
    assert set(found["loss.top_k_percents"].choices) == {"[10, 50]", "[20]"}


def test_the_dashboards_storage_holds_the_studies_and_a_second_time_replaces_them(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    for count in (6, 8):
        studies = method_studies(variants(count, by_weight))
        assert write_storage(studies, storage, "s1") == ["s1-unirex-slm-fp"]
    stored = optuna.load_study(study_name="s1-unirex-slm-fp", storage=storage)
    assert len(stored.trials) == 8
    assert stored.best_value == 1.0
    assert stored.best_params["loss.comp_weight"] == 1.0
    with pytest.raises(UserError, match=r"cannot write to --storage 'sqlite:////nowhere/study\.db'"):
        write_storage(studies, "sqlite:////nowhere/study.db", "s1")


def test_pictures_and_a_page_without_network():
    studies = method_studies(variants(8, by_weight))
    assert list(pictures(studies["unirex-slm-fp"])) == ["slices", "parallel_coordinates", "pareto_front"]
    text = page(studies, "<b>sst</b>", str)
    assert "<b>sst</b>" not in text
    assert text.count('class="plotly-graph-div"') == 3
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="http', text)


@pytest.mark.slow
def test_job(tmp_path):
    store, tags = MlflowStore(f"sqlite:///{tmp_path}/mlflow.db"), {DATA_DIGEST: "abc1"}
    sweep = store.open_sweep(experiment="sst", sweep_id="s1", seeds=(0,), params={}, tags=tags)
    for spec in specs(6):
        sweep.open_trial(spec, params={}, tags=tags)
        metrics = metrics_of(by_weight(spec.parameters))
        sweep.finish_trial(spec.trial_id, "completed", metrics=TrialMetrics(dev=metrics, test=metrics))
    sweep.finish()
    arguments = (f"--output={tmp_path}", "--data.name=sst", f"--storage=sqlite:///{tmp_path}/study.db")
    done = subprocess.run([sys.executable, JOB, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"optuna-dashboard sqlite:///{tmp_path}/study.db" in done.stdout
    with (tmp_path / "parameters" / "parameters.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    (study,) = method_studies(variants_of(store.sweeps("sst"))).values()
    assert [row["parameter"] for row in rows] == study.parameters
    assert [float(row["share/cnrg"]) for row in rows] == pytest.approx(list(study.importance["cnrg"].shares.values()))
    kept = MlflowClient(store.uri).list_artifacts(sweep.run_id, "parameters")
    assert {file.path.partition("/")[2] for file in kept} == {path.name for path in (tmp_path / "parameters").iterdir()}


@pytest.mark.slow
def test_job_on_a_sweep_without_a_search_is_one_line(tmp_path):
    store, tags = MlflowStore(f"sqlite:///{tmp_path}/mlflow.db"), {DATA_DIGEST: "abc1"}
    sweep = store.open_sweep(experiment="sst", sweep_id="s1", seeds=(0,), params={}, tags=tags)
    (spec,) = specs(1)
    sweep.open_trial(spec, params={}, tags=tags)
    sweep.finish_trial(spec.trial_id, "completed", metrics=TrialMetrics(dev=metrics_of(1.0)))
    sweep.finish()
    done = subprocess.run(
        [sys.executable, JOB, f"--output={tmp_path}", "--data.name=sst"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no method on 'sst' has two complete configurations that differ")


def conditional(values) -> dict[str, list[Configuration]]:
    records = [
        TrialRecord(
            spec=TrialSpec(
                trial_id=f"t{index}", method="unirex-slm-fp", configuration=index, seed=0, parameters=settings
            ),
            status="completed",
            metrics=TrialMetrics(dev=metrics_of(settings.get("loss.comp_weight", 0.2))),
        )
        for index, settings in enumerate(values)
    ]
    return configurations(records, seeds=(0,))


def test_a_setting_that_only_some_configurations_have_is_one_of_its_choices_or_named():
    few = [{"loss.suff_weight": 0.0}] * 10
    few += [{"loss.suff_weight": 0.5, "loss.comp_weight": float(w)} for w in (0.0, 0.5, 1.0) for _ in range(6)]
    (study,) = method_studies(conditional(few)).values()
    assert study.trials[0].params == {"loss.suff_weight": 0.0, "loss.comp_weight": "not set"}
    assert study.importance["cnrg"].shares["loss.comp_weight"] > 0.8
    many = [{"loss.suff_weight": 0.0}] * 6
    many += [{"loss.suff_weight": 0.5, "loss.comp_weight": index / 20} for index in range(20)]
    studies = method_studies(conditional(many))
    assert studies["unirex-slm-fp"].left_out == ("loss.comp_weight",)
    remarks = parameters_table(studies, "sst").remarks
    assert any(remark.endswith("as only some configurations have them: loss.comp_weight.") for remark in remarks)
    assert not any("PREDICT NOTHING" in remark for remark in remarks)
    assert parameters_table(studies, "sst", ["sweep s1 has 2 of up to 9 trials"]).remarks[0].startswith("UNFINISHED: ")


def test_no_picture_stays_open():
    before = plt.get_fignums()
    pictures(method_studies(variants(8, by_weight))["unirex-slm-fp"])
    assert plt.get_fignums() == before
