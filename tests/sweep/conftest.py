"""Sweeps in this process, without Ray and MLflow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.memory_store import MemoryStore
from helpers.sweep_in_process import SPACE, Fit, fit
from helpers.tiny import tiny_corpus

from unirex_ray.config import build_config
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.sweep.run import run_sweep


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, encoders: dict[str, str], tmp_path: Path) -> Callable[..., SweepOutcome]:
    monkeypatch.setattr("unirex_ray.sweep.run.load_corpus", lambda _: tiny_corpus())
    monkeypatch.setattr("unirex_ray.sweep.run.check_cluster", lambda config: None)
    monkeypatch.setattr("unirex_ray.sweep.run.connect", lambda: None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr("unirex_ray.sweep.run.node_resources", lambda: [{"CPU": 2.0}])

    def run(
        store: MemoryStore, *, trials: Fit = fit, changes: dict[str, Any] | None = None, **options: Any
    ) -> SweepOutcome:
        monkeypatch.setattr("unirex_ray.sweep.run.fit", trials)
        config = build_config(
            {
                "output": str(tmp_path / "out"),
                "data": {"cache": str(tmp_path / "cache")},
                "model": {"encoder": encoders["bert"]},
                "sweep": {"methods": ["aa-ig", "sgt"], "searcher": "grid", "seeds": [0], "nrg_weights": [1, 0, 1]},
            },
            changes or {},
        )
        return run_sweep(config, SPACE, open_store=lambda uri: store, **options)

    return run
