"""What a corpus holds, counted before anybody trains on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.encoded import EncodedCorpus, EncodedSplit
from unirex_ray.data.schema import SPLITS, Corpus, Split


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens per input, special tokens included, before anything is cut."""

    shortest: int
    median: float
    mean: float
    percentile_95: float
    longest: int


@dataclass(frozen=True, kw_only=True)
class SplitStatistics:
    """One split, counted.

    Attributes:
        labels: instances by label.
        with_gold: instances with a gold rationale left after truncation.
        rationale_share: mean over the inputs with gold of gold tokens / attended tokens, in [0, 1]; None without any.
        cut: inputs longer than the limit.
        last_windows: those of them that keep their last tokens.
        gold_cut: gold tokens that are lost with it.
        gold_lost: inputs that lose all their gold tokens.
        repeated: instances whose texts occur earlier in the split (but for ASCII case).
        seen_in: instances whose texts occur in an earlier split, by its name.
    """

    instances: int
    labels: Mapping[str, int]
    with_gold: int
    lengths: Lengths
    rationale_share: float | None
    cut: int
    last_windows: int
    gold_cut: int
    gold_lost: int
    repeated: int
    seen_in: Mapping[Split, int]


@dataclass(frozen=True, kw_only=True)
class CorpusStatistics:
    """A corpus as an encoder reads it, counted.

    Attributes:
        max_length: tokens per input that are kept.
        notes: what loading and truncation found worth telling.
    """

    name: str
    digest: str
    labels: tuple[str, ...]
    task_metric: str
    max_length: int
    splits: Mapping[Split, SplitStatistics]
    notes: tuple[str, ...]


def corpus_statistics(corpus: Corpus, encoded: EncodedCorpus) -> CorpusStatistics:
    """Count a corpus and its encoded form."""
    repeated, seen_in = _duplicates(corpus)
    return CorpusStatistics(
        name=corpus.name,
        digest=encoded.digest,
        labels=corpus.labels,
        task_metric=corpus.task_metric,
        max_length=encoded.max_length,
        splits={
            split: _count(corpus.splits[split], encoded.splits[split], corpus.labels, repeated[split], seen_in[split])
            for split in SPLITS
        },
        notes=encoded.notes,
    )


def _count(
    table: InstanceTable, split: EncodedSplit, labels: tuple[str, ...], repeated: int, seen_in: Mapping[Split, int]
) -> SplitStatistics:
    kept, cut = split.lengths.numpy(), split.cut.numpy()
    whole = kept + cut[:, :2].sum(axis=1)
    has_gold = split.has_gold.numpy()
    gold = np.add.reduceat(split.gold.numpy().astype(np.int64), split.offsets.numpy()[:-1])
    counts = np.bincount(table.labels, minlength=len(labels)).tolist()
    return SplitStatistics(
        instances=len(split),
        labels=dict(zip(labels, counts, strict=True)),
        with_gold=int(has_gold.reshape(-1, split.choices).any(axis=1).sum()),
        lengths=Lengths(
            shortest=int(whole.min()),
            median=float(np.median(whole)),
            mean=float(whole.mean()),
            percentile_95=float(np.percentile(whole, 95)),
            longest=int(whole.max()),
        ),
        rationale_share=float((gold[has_gold] / kept[has_gold]).mean()) if has_gold.any() else None,
        cut=int((whole > kept).sum()),
        last_windows=int(split.last_window.sum()),
        gold_cut=int(cut[:, 2].sum()),
        gold_lost=int(split.gold_lost.sum()),
        repeated=repeated,
        seen_in=seen_in,
    )


def _duplicates(corpus: Corpus) -> tuple[dict[Split, int], dict[Split, dict[Split, int]]]:
    known: dict[Split, set[bytes]] = {}
    repeated: dict[Split, int] = {}
    seen_in: dict[Split, dict[Split, int]] = {}
    for split in SPLITS:
        keys = list(_keys(corpus.splits[split]))
        seen_in[split] = {earlier: sum(key in before for key in keys) for earlier, before in known.items()}
        known[split] = set(keys)
        repeated[split] = len(keys) - len(known[split])
    return repeated, seen_in


def _keys(table: InstanceTable) -> Iterator[bytes]:
    """The same for instances of the same texts: their bytes, and where one text ends."""
    first = table.segments[table.inputs]
    starts, edges = table.texts.offsets[first].tolist(), first.tolist()
    texts = table.texts.utf8.tobytes().lower()
    sizes = np.diff(table.texts.offsets).tobytes()
    for i in range(len(table)):
        yield texts[starts[i] : starts[i + 1]] + sizes[8 * edges[i] : 8 * edges[i + 1]]
