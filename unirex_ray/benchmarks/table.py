"""The engine's cost, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from unirex_ray.benchmarks.engine import EngineResult
from unirex_ray.report.table import ReportTable


def engine_table(results: Sequence[tuple[str, str, EngineResult]]) -> ReportTable:
    """One row per method, workload (by name) and stage."""
    return ReportTable(
        title="Cost of a step, of plain fine-tuning, and of evaluation, of plain prediction (lower is better)",
        lead={
            "Method": [method for method, _, _ in results],
            "Stage": [result.stage for _, _, result in results],
            "Lengths": [workload for _, workload, _ in results],
        },
        scores={
            "Step": [f"{result.step:.2f}x" for _, _, result in results],
            "Evaluation": [f"{result.evaluation:.2f}x" for _, _, result in results],
            "Logits differ": [f"{result.logits_difference:.1e}" for _, _, result in results],
            "Loss differs": [f"{result.loss_difference:.1e}" for _, _, result in results],
            "Gradient differs": [f"{result.gradient_difference:.1e}" for _, _, result in results],
        },
        raw={},
        records=[{"method": method, "lengths": workload, **asdict(result)} for method, workload, result in results],
    )
