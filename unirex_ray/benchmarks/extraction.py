"""What extraction costs per instance, alone on a machine: the time column of the paper's Table 4."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tqdm import tqdm

from unirex_ray.analysis.extraction_time import SETTINGS, ExtractionTimes
from unirex_ray.config import Config
from unirex_ray.data.batching import Batch, collate
from unirex_ray.data.load import load_corpus
from unirex_ray.methods import get_method
from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS
from unirex_ray.models.rationale_model import build_model
from unirex_ray.report.paper_tables import TABLE_4, TableRow
from unirex_ray.tracking.store import sweep_settings
from unirex_ray.training.prepare import prepared_corpus
from unirex_ray.training.runtime import LocalRuntime, forward_plan, uses_bf16


def measure_extraction(config: Config, *, runs: int, rows: Sequence[TableRow] = TABLE_4) -> ExtractionTimes:
    """Time the rows of Table 4 on batches of `train.batch_size` test texts; weights are fresh, as time is not theirs.

    A run times every row on a batch of its own, so that a noisy machine disturbs all alike.

    Raises:
        UserError: as loading the corpus and the encoder.
    """
    corpus = load_corpus(config.data)
    encoded = prepared_corpus(config, corpus)
    split, device = encoded.splits["test"], LocalRuntime(config.output, gpu=bool(config.train.gpu)).device
    outputs = 1 if encoded.multi_choice else len(encoded.labels)
    extractors = {row.label: _extractor(_configured(config, row), outputs, device) for row in rows}
    size = min(config.train.batch_size, len(split))
    seconds: dict[str, list[float]] = defaultdict(list)

    def drawn(run: int) -> Batch:
        instances = np.random.default_rng(run).choice(len(split), size, replace=False)
        return collate(split, instances.tolist(), encoded.special_tokens).to(device)

    turns = [(run, label) for run in range(runs + 1) for label in extractors]
    for run, label in tqdm(turns, desc="extraction", unit="batch", leave=False):
        batch, started = drawn(run), time.perf_counter()
        extractors[label](batch)
        if run > 0:  # the first one warms up
            seconds[label].append((time.perf_counter() - started) / size)
    settings = sweep_settings({**config.flat(), "data.digest": corpus.digest()}, {})
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    precision = "bf16" if uses_bf16(config.train, device) else "fp32"
    return ExtractionTimes(
        seconds=dict(seconds),
        settings={key: settings[key] for key in SETTINGS},
        conditions="measured alone, mean and standard deviation over runs: "
        f"batches of {size} texts, {runs} runs, {hardware}, {precision}.",
    )


def _configured(config: Config, row: TableRow) -> Config:
    return get_method(row.method).resolve(config.changed({"method": row.method, **row.settings}))


def _extractor(config: Config, outputs: int, device: torch.device) -> Callable[[Batch], None]:
    """Extracts and predicts, which some extractors do in one pass, as an evaluation does; waits for the device."""
    designs = [stage.design for stage in get_method(config.method).stages]
    model, plan = build_model(config.model, designs, outputs).to(device).eval(), forward_plan(config.train, device)

    @torch.no_grad()
    def extract(batch: Batch) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(config.train, device)):
            extracted = model.extract(batch, plan)
            model.full_logits(batch, extracted, METRIC_TOP_K_PERCENTS, plan)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return extract
