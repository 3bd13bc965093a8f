import pytest
from helpers.tiny import tiny_config

from unirex_ray.benchmarks.engine import Workload, _StageBenchmark, measure_engine
from unirex_ray.benchmarks.table import engine_table
from unirex_ray.models.task_model import TaskModel

WORKLOAD = Workload(batch=4, evaluated=6, mean=12, deviation=3, least=6, most=20)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_methods_costs_are_told_and_dropping_is_exact(encoders, monkeypatch, precision):
    taken = []
    for name in ("attribution", "captum_attribution"):
        run = getattr(_StageBenchmark, name)
        monkeypatch.setattr(_StageBenchmark, name, lambda *a, name=name, run=run: (taken.append(name), run(*a))[1])
    config = tiny_config(encoders["bert"], method="unirex-aa-f", train__precision=precision)
    (result,) = measure_engine(config, WORKLOAD, runs=1)
    assert min(result.step, result.evaluation, result.attribution, result.captum_attribution) > 0
    assert taken == 2 * ["attribution", "captum_attribution"]  # once to warm up
    # In fp32 whatever the precision that is measured.
    assert result.logits_difference < 1e-5
    assert result.loss_difference < 1e-5
    assert result.gradient_difference < 1e-4


def test_steps_are_measured_in_the_precision_that_is_asked_for(encoders, monkeypatch):
    """Plain ones as well: the ratio is of like to like."""
    seen: dict[str, set] = {}
    of_encoder = TaskModel.logits_from_states

    def watched(self, states, pooled):
        seen[precision].add(pooled.dtype)
        return of_encoder(self, states, pooled)

    monkeypatch.setattr(TaskModel, "logits_from_states", watched)
    monkeypatch.setattr("unirex_ray.benchmarks.engine._differences", lambda benchmark: (0.0, 0.0, 0.0))
    for precision in ("fp32", "bf16"):
        seen[precision] = set()
        measure_engine(
            tiny_config(encoders["roberta"], method="unirex-slm-fp", train__precision=precision), WORKLOAD, runs=1
        )
    assert len(seen["fp32"]) == 1
    assert not seen["fp32"] & seen["bf16"]


def test_ig_is_told_where_it_is_taken(encoders):
    methods = ("unirex-slm-p", "aa-ig")
    configs = {method: tiny_config(encoders["bert"], method=method) for method in methods}
    table = engine_table(configs, {"short": WORKLOAD}, runs=1)
    assert [cell == "-" for cell in table.scores["IG"]] == [True, False]
    assert [cell == "-" for cell in table.scores["IG by Captum"]] == [True, False]
