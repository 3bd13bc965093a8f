from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS, METRICS, NRG_METRICS, SUFFICIENCY


def test_keys_are_unique_and_five_metrics_make_cnrg():
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    assert [metric.key for metric in NRG_METRICS] == [
        "comprehensiveness",
        "sufficiency",
        "auprc",
        "token_f1",
        "task_score",
    ]
    assert [metric.desideratum for metric in NRG_METRICS] == [*["faithfulness"] * 2, *["plausibility"] * 2, "task"]


def test_only_sufficiency_is_better_when_lower_among_them():
    assert [metric for metric in NRG_METRICS if not metric.higher_is_better] == [SUFFICIENCY]
    assert SUFFICIENCY.on("dev") == "dev/sufficiency"


def test_thresholds_are_the_papers():
    assert METRIC_TOP_K_PERCENTS == (1, 5, 10, 20, 50)
