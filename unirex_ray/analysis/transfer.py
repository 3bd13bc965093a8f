"""Zero-shot transfer: trained models on corpora that they were not trained on (paper, section 4.7)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unirex_ray.analysis.compare import Comparison, in_table_order
from unirex_ray.data.schema import Split
from unirex_ray.metrics.nrg import mean_over_seeds, std_over_seeds
from unirex_ray.metrics.table import (
    ACCURACY,
    AUPRC,
    BINARY_F1,
    COMPREHENSIVENESS,
    CSD,
    MACRO_F1,
    SUFFICIENCY,
    TASK_SCORE,
    Metric,
)
from unirex_ray.tracking.records import Evaluation

TRANSFER_METRICS = (CSD, COMPREHENSIVENESS, SUFFICIENCY, AUPRC, TASK_SCORE)
"""What transfer is told by; AUPRC where the corpus has gold rationales."""

TASKS = {
    "reviews": "SA",
    "sst": "SA",
    "movies": "SA",
    "yelp": "SA",
    "amazon": "SA",
    "stormfront": "HSD",
    "offenseval": "OSD",
    "irony": "ID",
}
"""The paper's short name of a corpus' task."""

TASK_NAMES = {
    "SA": "sentiment analysis",
    "HSD": "hate speech detection",
    "OSD": "offensive speech detection",
    "ID": "irony detection",
}

_TARGETS = ("yelp", "amazon", "stormfront", "offenseval", "irony")
_Place = tuple[str, str, Split]
"""Corpus, digest and split."""


@dataclass(frozen=True, kw_only=True)
class TransferRow:
    """One method on one corpus.

    Attributes:
        trained_on: the corpus that the models were trained on.
        task: of the corpus that they were evaluated on, as in `TASKS`; empty where it is not known.
        dataset: that corpus for people: its name, the first digits of its digest where rows of several states of it
            stand together, and the split where that is not test.
        corpus, digest, split: the same, each by itself.
        mean, std: over seeds (std: n - 1; nan for one seed), by metric key without split; of `TRANSFER_METRICS`, those
            that there are.
        seeds: what both are taken over, increasing.
        missing: seeds of the method's configuration that were not evaluated here, where that is known.
        labels: which of the corpus' labels each of the model's stands for, in words; several where the seeds differ in
            it, none on the corpus that the models were trained on.
        task_metric: label of the metric that the task score repeats; empty where that cannot be told.
    """

    trained_on: str
    task: str
    dataset: str
    corpus: str
    digest: str
    split: Split
    method: str
    mean: Mapping[str, float]
    std: Mapping[str, float]
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    labels: tuple[str, ...]
    task_metric: str


def transfer_rows(comparison: Comparison, evaluations: Iterable[Evaluation]) -> tuple[TransferRow, ...]:
    """The selected configurations on test of their own corpus, then of every other one that they were evaluated on.

    Args:
        evaluations: of models that were trained on the comparison's corpus (`RunStore.evaluations`). Those of other
            trials, of other data under the same name, and on other splits are left out.

    Returns:
        By corpus: its own one, the paper's targets, others as they come; then by method in the order of the paper's
        tables. Empty without an evaluation that counts. A method without one on a corpus has no row there.
    """
    own = comparison.experiment, comparison.digest
    at_home = [
        Evaluation(
            trial_id=record.spec.trial_id,
            method=row.method,
            seed=record.spec.seed,
            trained_on=comparison.experiment,
            trained_digest=comparison.digest,
            corpus=comparison.experiment,
            digest=comparison.digest,
            split="test",
            labels="",
            metrics=record.metrics,
        )
        for row in comparison.rows
        for record in row.configuration.records
    ]
    selected = {each.trial_id for each in at_home}
    elsewhere = [
        each
        for each in evaluations
        if each.trial_id in selected
        and (each.trained_on, each.trained_digest) == own
        and (each.corpus, each.digest) != own
        and each.split == "test"
    ]
    seeds = {row.method: [record.spec.seed for record in row.configuration.records] for row in comparison.rows}
    return _rows([*at_home, *elsewhere], seeds) if elsewhere else ()


def evaluation_rows(evaluations: Iterable[Evaluation]) -> tuple[TransferRow, ...]:
    """Evaluations of one configuration per method, averaged over seeds; in the order of `transfer_rows`.

    Raises:
        ValueError: if two trials of a method have the same seed.
    """
    return _rows(list(evaluations), {})


def _rows(evaluations: Sequence[Evaluation], seeds: Mapping[str, Sequence[int]]) -> tuple[TransferRow, ...]:
    # Of a trial that was evaluated twice, the later one counts.
    latest = {(_place(each), each.trial_id): each for each in evaluations}
    places: dict[_Place, dict[str, list[Evaluation]]] = defaultdict(lambda: defaultdict(list))
    for (place, _), each in latest.items():
        places[place][each.method].append(each)
    order = list(
        dict.fromkeys([*(each.trained_on for each in evaluations), *_TARGETS, *(name for name, _, _ in places)])
    )
    states = Counter(corpus for corpus, _ in {(corpus, digest) for corpus, digest, _ in places})
    rows = []
    for place in sorted(places, key=lambda place: order.index(place[0])):
        by_method = places[place]
        dataset = _dataset(*place, several=states[place[0]] > 1)
        task_metric = _behind_the_task_score([each for found in by_method.values() for each in found])
        for method in in_table_order(by_method):
            rows.append(_row(dataset, by_method[method], seeds.get(method, ()), task_metric))
    return tuple(rows)


def _row(dataset: str, found: Sequence[Evaluation], wanted: Sequence[int], task_metric: str) -> TransferRow:
    first, seeds = found[0], sorted(each.seed for each in found)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{first.method} on {dataset} must have one trial per seed, but has the seeds {seeds}")
    values = [
        {metric.key: value for metric in TRANSFER_METRICS if (value := _value(each, metric)) is not None}
        for each in found
    ]
    at_home = (first.corpus, first.digest) == (first.trained_on, first.trained_digest)
    return TransferRow(
        trained_on=first.trained_on,
        task=TASKS.get(first.corpus, ""),
        dataset=dataset,
        corpus=first.corpus,
        digest=first.digest,
        split=first.split,
        method=first.method,
        mean=mean_over_seeds(values),
        std=std_over_seeds(values),
        seeds=tuple(seeds),
        missing=tuple(seed for seed in wanted if seed not in seeds),
        labels=() if at_home else tuple(dict.fromkeys(each.labels for each in found)),
        task_metric=task_metric,
    )


def _place(evaluation: Evaluation) -> _Place:
    return evaluation.corpus, evaluation.digest, evaluation.split


def _dataset(corpus: str, digest: str, split: Split, *, several: bool) -> str:
    return corpus + (f" ({digest[:8]})" if several else "") + ("" if split == "test" else f", {split}")


def _behind_the_task_score(found: Sequence[Evaluation]) -> str:
    same = [
        metric.label
        for metric in (ACCURACY, MACRO_F1, BINARY_F1)
        if all(_equal(_value(each, metric), _value(each, TASK_SCORE)) for each in found)
    ]
    return same[0] if len(same) == 1 else ""


def _value(evaluation: Evaluation, metric: Metric) -> float | None:
    return evaluation.metrics.get(metric.on(evaluation.split))


def _equal(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, rel_tol=1e-9)
