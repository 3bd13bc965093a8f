"""What it costs to prepare a corpus of any size: the first time, and when it lies in the cache."""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from unirex_ray.config import Config
from unirex_ray.data.corpora.eraser import ESNLI_LABELS, FILES
from unirex_ray.data.load import load_corpus
from unirex_ray.data.progress_bar import progress_bar
from unirex_ray.models.encoder import load_encoder
from unirex_ray.training.prepare import prepared_corpus

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
_PREMISE, _HYPOTHESIS = (8, 20), (4, 11)
_DEV = _TEST = 0.018  # of the train instances, as in e-SNLI


@dataclass(frozen=True, kw_only=True)
class DataCost:
    """Of reading, checking and tokenising.

    Attributes:
        instances: of all splits.
        megabytes: of the files.
        first_s: seconds with an empty cache.
        again_s: seconds when both forms lie in the cache.
        peak_gb: most resident memory of the process so far.
    """

    instances: int
    megabytes: float
    first_s: float
    again_s: float
    peak_gb: float


def measure_data(config: Config, instances: int) -> DataCost:
    """Generate an e-SNLI-like corpus with so many train instances in ERASER's format, and prepare it twice.

    Args:
        config: its encoder tokenises; its data section is replaced.
    """
    load_encoder(config.model, weights=False)  # what a process imports once is no cost of the corpus
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_esnli(place / "esnli", instances)
        settings = {"name": "esnli", "source": str(place / "esnli"), "cache": str(place / "cache"), "limit": None}
        config = config.changed({f"data.{key}": value for key, value in settings.items()})
        first, total = _prepare(config)
        again, _ = _prepare(config)
        size = sum(file.stat().st_size for file in (place / "esnli").iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return DataCost(instances=total, megabytes=size / 1e6, first_s=first, again_s=again, peak_gb=peak / 1e9)


def _prepare(config: Config) -> tuple[float, int]:
    begun = time.perf_counter()
    encoded = prepared_corpus(config, load_corpus(config.data))
    return time.perf_counter() - begun, sum(len(split) for split in encoded.splits.values())


def write_esnli(folder: Path, instances: int) -> None:
    """Write made-up premises and hypotheses, with a gold token in each, as ERASER publishes e-SNLI.

    Args:
        instances: of train; dev and test are as large in proportion as e-SNLI's.
    """
    folder.mkdir(parents=True)
    draw = random.Random(0)
    words = ["".join(draw.choices(_SYLLABLES, k=draw.randint(1, 3))) for _ in range(5000)]
    sizes = {"train": instances, "dev": max(3, round(instances * _DEV)), "test": max(3, round(instances * _TEST))}
    with (folder / "docs.jsonl").open("w", encoding="utf-8") as documents:
        for split, file in FILES.items():
            with (folder / file).open("w", encoding="utf-8") as rows:
                for number in progress_bar(range(sizes[split]), f"writing {file}", sizes[split]):
                    id_ = f"{split}{number}"
                    evidence = []
                    for part, length in (("premise", _PREMISE), ("hypothesis", _HYPOTHESIS)):
                        text = draw.choices(words, k=draw.randint(*length))
                        documents.write(json.dumps({"docid": f"{id_}_{part}", "document": " ".join(text)}) + "\n")
                        gold = draw.randrange(len(text))
                        evidence.append({"docid": f"{id_}_{part}", "start_token": gold, "end_token": gold + 1})
                    label = ESNLI_LABELS[number % len(ESNLI_LABELS)]
                    row = {"annotation_id": id_, "classification": label, "evidences": [evidence], "query": None}
                    rows.write(json.dumps(row) + "\n")
