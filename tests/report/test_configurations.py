import io

from rich.console import Console

from unirex_ray.analysis.selection import Configuration
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.report.configurations import configurations_table
from unirex_ray.tracking.records import TrialRecord, TrialSpec


def configuration(method: str, index: int, steps: int, *, csd: tuple[float, float], seconds: float) -> Configuration:
    def record(seed: int, value: float) -> TrialRecord:
        spec = TrialSpec(
            trial_id=f"{method}{index}s{seed}", method=method, configuration=index, seed=seed, parameters={}
        )
        metrics = {"test/csd": value, "test/auprc": 50.0, "dev/auprc": 99.0, "time/extraction_s": seconds}
        if method == "aa-ig":
            metrics["test/convergence_delta"] = 1 / steps
        return TrialRecord(spec=spec, status="completed", metrics=TrialMetrics.from_flat(metrics))

    return Configuration(
        method=method,
        index=index,
        parameters={"model.ig_steps": steps},
        records=(record(0, csd[0]), record(1, csd[1])),
        complete=True,
    )


VARIANTS = {
    "aa-ig": (
        configuration("aa-ig", 0, 5, csd=(0.1, 0.2), seconds=0.004),
        configuration("aa-ig", 1, 50, csd=(0.3, 0.5), seconds=0.04),
    ),
    "unirex-slm-fp": (configuration("unirex-slm-fp", 0, 3, csd=(0.2, 0.2), seconds=0.001),),
}


def test_every_configuration_is_a_row_of_raw_test_metrics() -> None:
    out = Console(width=200, record=True, file=io.StringIO())
    configurations_table(VARIANTS).print(out)
    lines = [line.split() for line in out.export_text().splitlines() if "AA (IG)" in line or "SLM-FP" in line]
    assert [line[-1] for line in lines] == ["4.00", "40.00", "1.00"]  # milliseconds
    text = "\n".join(" ".join(line) for line in lines)
    assert "ig_steps=50 0.400 ± 0.141" in text
    assert "0.150 ± 0.071" in text
    assert "0.020" in text  # 1 / 50
    assert "99" not in text


def test_rows_hold_everything() -> None:
    first, second, third = configurations_table(VARIANTS).records
    assert first["method"] == "aa-ig"
    assert first["model.ig_steps"] == 5
    assert first["test/csd"] == (0.1 + 0.2) / 2
    assert first["test/convergence_delta"] == 0.2
    assert (first["extraction_s"], second["extraction_s"]) == (0.004, 0.04)
    assert first["seeds"] == [0, 1]
    assert "test/convergence_delta" not in third


def test_no_configuration_is_no_row() -> None:
    assert configurations_table({}).records == []
