import time
from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.analysis.extraction_time import EXTRACTION, NO_TIMES, SETTINGS, ExtractionTimes, read_times
from unirex_ray.benchmarks import extraction
from unirex_ray.benchmarks.extraction import measure_extraction
from unirex_ray.config import Config
from unirex_ray.data.batching import Batch
from unirex_ray.errors import UserError
from unirex_ray.models.extractor import AttributionExtractor, ExtractorOutput
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.report.paper_tables import TABLE_4
from unirex_ray.tracking.store import sweep_settings
from unirex_ray.training.prepare import prepared_corpus

IG_3, DLM = TABLE_4[0], TABLE_4[10]
TIMES = ExtractionTimes(
    seconds={"AA (IG-3)": (0.004, 0.006)},
    settings={
        "data.digest": "abc1",
        "data.max_length": "null",
        "model.encoder": "embedded",
        "model.layers": "null",
        "model.head": "linear",
        "model.ig_steps": "3",
        "train.precision": "bf16",
    },
    conditions="batches of 32 texts",
)


@pytest.mark.slow
def test_each_row_is_timed_on_its_own_model(
    encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(encoders["bert"], train__batch_size=4).changed({"output": str(tmp_path)})
    monkeypatch.setattr(extraction, "load_corpus", lambda data: tiny_corpus((9, 5, 6)))
    original, steps, texts = AttributionExtractor.extract, [], []

    def extract(self: AttributionExtractor, *args: object, **options: object) -> object:
        steps.append(self.steps)
        texts.append(len(args[1].ids))  # type: ignore[attr-defined]
        time.sleep(0.4)
        return original(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(AttributionExtractor, "extract", extract)
    times = measure_extraction(config, runs=3, rows=[IG_3, TABLE_4[1], DLM])
    assert steps == [3, 5] * 4  # the first run warms up
    assert texts == [4] * 8
    assert [len(runs) for runs in times.seconds.values()] == [3, 3, 3]
    assert all(second >= 0.1 for row in (IG_3, TABLE_4[1]) for second in times.seconds[row.label])
    assert all(second < 0.1 for second in times.seconds[DLM.label])
    corpus = prepared_corpus(config, tiny_corpus((9, 5, 6)))
    expected = sweep_settings({**config.flat(), "data.digest": corpus.digest}, {})
    assert times.settings == {key: expected[key] for key in SETTINGS}
    assert "over runs: batches of 4 texts, 3 runs, " in times.conditions
    assert times.conditions.endswith(" CPU threads, fp32.")


@pytest.mark.slow
def test_every_row_predicts_as_well(encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(encoders["bert"], train__batch_size=4).changed({"output": str(tmp_path)})
    monkeypatch.setattr(extraction, "load_corpus", lambda data: tiny_corpus((9, 5, 6)))
    original, predicted = RationaleModel.full_logits, []

    def full_logits(self: RationaleModel, batch: Batch, extracted: ExtractorOutput, *rest: object) -> torch.Tensor:
        logits = original(self, batch, extracted, *rest)  # type: ignore[arg-type]
        predicted.append((self.design.extractor, logits.shape[1]))
        return logits

    monkeypatch.setattr(RationaleModel, "full_logits", full_logits)
    found = measure_extraction(config.changed({"data.train_limit": 4}), runs=1, rows=[IG_3, DLM])
    assert found.settings["data.digest"] == tiny_corpus((9, 5, 6)).digest()
    assert predicted == [("aa-ig", 4), ("dlm", 4)] * 2


def test_times_are_read_back_for_the_same_models_alone(tmp_path: Path) -> None:
    assert read_times(tmp_path, [{}]) == NO_TIMES
    TIMES.write(tmp_path / "output")
    sweep = {**sweep_settings(Config().flat(), {}), **TIMES.settings}
    found = read_times(tmp_path / "output", [sweep, sweep])
    assert (dict(found.seconds), found.settings, found.conditions) == (
        {"AA (IG-3)": [0.004, 0.006]},
        TIMES.settings,
        TIMES.conditions,
    )
    other = read_times(tmp_path / "output", [sweep, {**sweep, "model.layers": "2"}])
    assert not other.seconds
    assert other.conditions.startswith("as it took in the trials' evaluation")
    assert other.conditions.endswith("extraction.json there is of others: model.layers null, in the sweep 2.")


@pytest.mark.parametrize("text", ["", "{}", '{"seconds": {"a": ["b"]}}', '{"seconds": [1]}', "[]"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / EXTRACTION).write_text(text)
    with pytest.raises(UserError, match=r"extraction\.json holds no extraction times .*: delete it, or measure again"):
        read_times(tmp_path, [{}])
