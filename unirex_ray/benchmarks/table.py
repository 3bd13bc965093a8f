"""The engine's cost, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from unirex_ray.benchmarks.engine import EngineResult
from unirex_ray.report.table import Columns, print_columns


def print_engine(results: Sequence[tuple[str, str, EngineResult]], out: Console) -> None:
    """One row per method, kind of lengths and stage."""
    cells = {
        "Method": [method for method, _, _ in results],
        "Stage": [result.stage for _, _, result in results],
        "Lengths": [lengths for _, lengths, _ in results],
        "Step": [f"{result.step:.2f}x" for _, _, result in results],
        "Evaluation": [f"{result.evaluation:.2f}x" for _, _, result in results],
        "Logits differ": [f"{result.logits_difference:.1e}" for _, _, result in results],
        "Loss differs": [f"{result.loss_difference:.1e}" for _, _, result in results],
        "Gradient differs": [f"{result.gradient_difference:.1e}" for _, _, result in results],
    }
    columns: Columns = {header: [(cell, "") for cell in column] for header, column in cells.items()}
    title = "Cost of a step, of plain fine-tuning, and of evaluation, of plain prediction (lower is better)"
    print_columns(out, title, columns, {}, {}, [False] * len(results))
