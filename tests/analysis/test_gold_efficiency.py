import math

import pytest
from helpers.gold_curves import KEYS, VARIANTS, Dev, configuration, efficiency
from helpers.grid import whole_grid
from helpers.memory_store import MemoryStore

from unirex_ray.analysis.compare import compare, in_table_order
from unirex_ray.analysis.gold_efficiency import Point, gold_efficiency
from unirex_ray.config import build_config
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.sweep.space import load_space
from unirex_ray.tracking.choose import configured_weights
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST


def test_a_point_per_share_with_mean_and_std_over_seeds() -> None:
    found = efficiency()
    assert found.percents == (0.5, 20.0, 100.0)
    assert [curve.method for curve in found.curves] == ["aa-ig", "unirex-dlm-fp", "unirex-slm-fp"]
    slm = found.curves[2]
    assert [(point.percent, point.auprc, point.configuration) for point in slm.points] == [
        (0.5, 74.0, "1"),
        (20.0, 78.0, "2"),
        (100.0, 82.0, "0"),
    ]
    # (16 + 4 + 4) / 2, 0, (4 + 4 + 0) / 2
    assert [point.std for point in slm.points] == pytest.approx([math.sqrt(12), 0.0, 2.0])
    assert {point.seeds for point in slm.points} == {(0, 1, 2)}
    assert (slm.constant, slm.missing) == (False, ())


def test_a_method_without_plausibility_loss_is_constant() -> None:
    aa = efficiency().curves[0]
    assert aa.points == (Point(percent=None, auprc=44.0, std=4.0, seeds=(0, 1, 2), configuration="0", candidates=1),)
    assert (aa.constant, aa.missing) == (True, ())
    assert {aa.at(percent) for percent in (0.5, 20.0)} == {aa.points[0]}


def test_what_a_method_lacks_is_known() -> None:
    found = efficiency()
    dlm = found.curves[1]
    assert dlm.missing == (0.5, 100.0)
    assert dlm.at(0.5) is None
    (point,) = dlm.points
    assert dlm.at(20.0) is point
    assert math.isnan(point.std)
    # It learns from gold rationales, but nobody varied how many: it is neither a curve nor a constant.
    assert found.unknown == ("unirex-dlm-p",)


def test_among_equal_shares_the_best_by_dev_cnrg_among_them_is_shown() -> None:
    faithful: Dev = (0.5, 0.5, 50.0, 50.0, 50.0)
    plausible: Dev = (0.1, 0.9, 51.0, 51.0, 51.0)
    method = "unirex-slm-fp"
    variants = {
        method: (
            configuration(method, 0, 5.0, (60.0,), faithful),
            configuration(method, 1, 5.0, (55.0,), plausible),
            # Over all three, plausibility and task of the other two would be nearly equal, and the first one the best.
            configuration(method, 2, 1.0, (10.0,), (0.3, 0.7, 0.0, 0.0, 0.0)),
        )
    }
    found, by_faithfulness = gold_efficiency(variants), gold_efficiency(variants, (1.0, 0.0, 0.0))
    assert found is not None
    assert by_faithfulness is not None
    assert [(p.configuration, p.auprc, p.candidates) for p in found.curves[0].points] == [
        ("2", 10.0, 1),
        ("1", 55.0, 2),
    ]
    assert by_faithfulness.curves[0].points[1].configuration == "0"


def test_the_earlier_one_wins_a_tie_and_constants_are_selected_alike() -> None:
    better: Dev = (0.2, 0.2, 60.0, 50.0, 90.0)
    variants = {
        "aa-ig": (configuration("aa-ig", 0, None, (50.0,)), configuration("aa-ig", 1, None, (30.0,), better)),
        "unirex-dlm-fp": (
            configuration("unirex-dlm-fp", 3, 1.0, (70.0,)),
            configuration("unirex-dlm-fp", 4, 1.0, (90.0,)),
            configuration("unirex-dlm-fp", 5, 2.0, (80.0,)),
        ),
    }
    found = gold_efficiency(variants)
    assert found is not None
    aa, dlm = found.curves
    assert (aa.points[0].configuration, aa.points[0].auprc, aa.points[0].candidates) == ("1", 30.0, 2)
    assert dlm.points[0].configuration == "3"


@pytest.mark.parametrize("left", ["one share each", "no share", "no gold", "nothing"])
def test_there_is_no_curve_of_less_than_two_shares(left: str) -> None:
    variants = {
        "one share each": {
            "unirex-slm-fp": (configuration("unirex-slm-fp", 0, 5.0, (80.0,)),),
            "unirex-dlm-fp": (configuration("unirex-dlm-fp", 0, 20.0, (75.0,)),),
        },
        "no share": {method: VARIANTS[method] for method in ("aa-ig", "unirex-dlm-p")},
        "no gold": {
            "unirex-slm-fp": tuple(
                configuration("unirex-slm-fp", i, p, (0.0,), gold=False) for i, p in enumerate((1.0, 5.0))
            )
        },
        "nothing": {},
    }[left]
    assert gold_efficiency(variants) is None


def test_from_recorded_runs_incomplete_configurations_are_missing() -> None:
    store, tags = MemoryStore(), {DATA_DIGEST: "abc1"}
    sweep = store.open_sweep(experiment="sst", sweep_id="s1", seeds=(0, 1), params={}, tags=tags)
    for method, index, percent, seeds in (
        ("unirex-slm-fp", 0, 1, (0, 1)),
        ("unirex-slm-fp", 1, 100, (0, 1)),
        ("unirex-dlm-fp", 0, 1, (0,)),
        ("unirex-dlm-fp", 1, 100, (0, 1)),
    ):
        for seed in seeds:
            spec = TrialSpec(
                trial_id=f"s1-{method}-{index:04d}-s{seed}",
                method=method,
                configuration=index,
                seed=seed,
                parameters={"data.gold_percent": percent},
            )
            sweep.open_trial(spec, params={}, tags=tags)
            values = {f"{split}/{key}": 10.0 * index + seed for split in ("dev", "test") for key in KEYS}
            sweep.finish_trial(spec.trial_id, "completed", metrics=TrialMetrics.from_flat(values))
    found = gold_efficiency(compare("sst", store.sweeps("sst")).variants)
    assert found is not None
    dlm, slm = found.curves
    assert [(point.percent, point.auprc) for point in slm.points] == [(1.0, 0.5), (100.0, 10.5)]
    assert ([point.percent for point in dlm.points], dlm.missing) == ([100.0], (1.0,))


def test_the_shipped_space_is_figure_7(pytestconfig: pytest.Config) -> None:
    shipped = load_space(pytestconfig.rootpath / "search_spaces" / "gold-efficiency.yaml")
    config = build_config(shipped.presets)
    assert config.sweep.methods is not None
    grids = {m: whole_grid(shipped.checked(config).for_method(m, config)) for m in config.sweep.methods}
    varied = [{"data.gold_percent": percent} for percent in (0.5, 1.0, 5.0, 10.0, 20.0, 100.0)]
    learning = ("unirex-aa-fp", "unirex-dlm-fp", "unirex-slm-fp")
    assert grids == {"aa-ig": [{}], "unirex-aa-f": [{}], **dict.fromkeys(learning, varied)}
    assert config.sweep.seeds == (0, 1, 2)


def test_the_order_of_the_papers_tables() -> None:
    given = ["mine", "unirex-aa-f-rand", "unirex-slm-fp", "aa-ig", "another"]
    assert in_table_order(given) == ["aa-ig", "unirex-slm-fp", "unirex-aa-f-rand", "mine", "another"]


def test_weights_are_given_where_the_tree_has_them() -> None:
    tree = {"sweep": {"nrg_weights": [1.0, 0.0, 0.0]}}
    assert configured_weights(build_config(tree), tree) == (1.0, 0.0, 0.0)
    assert configured_weights(build_config({}), {}) is None
    assert configured_weights(build_config({}), {"sweep": {"seeds": [0]}}) is None
