"""Zero-shot transfer: trained models on corpora that they were not trained on (paper, section 4.7)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from unirex_ray.metrics.verdict import all_better_than_majority
from unirex_ray.tracking.protocol import differing
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


class CorpusKey(NamedTuple):
    """What evaluations are made on, and how: what differs in one of these does not compare."""

    corpus: str
    digest: str
    split: Split
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class TransferRow:
    """One method on one corpus.

    Attributes:
        trained_on: the corpus that the models were trained on.
        task: of the corpus that they were evaluated on, as in `TASKS`; empty where it is not known.
        dataset: that corpus for people: its name, the first digits of its digest where rows of several states of it
            stand together, the split where that is not test, and the settings in which evaluations on it differ.
        corpus, digest, split: the same, each by itself.
        settings: see `Evaluation`.
        mean, std: over seeds (std: n - 1; nan for one seed), by metric key without split; of `TRANSFER_METRICS`, those
            that there are.
        seeds: what both are taken over, increasing.
        missing: seeds of the method's configuration that were not evaluated here, where that is known.
        labels: which of the corpus' labels each of the model's stands for, in words; several where the seeds differ in
            it, none on the corpus that the models were trained on.
        better_than_majority: whether the models of all seeds are; None where that was not recorded.
        task_metric: label of the metric that the task score repeats; empty where that cannot be told.
    """

    trained_on: str
    task: str
    dataset: str
    corpus: str
    digest: str
    split: Split
    settings: Mapping[str, str]
    method: str
    mean: Mapping[str, float]
    std: Mapping[str, float]
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    labels: tuple[str, ...]
    better_than_majority: bool | None
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
    own_evaluations = [
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
    selected = {evaluation.trial_id for evaluation in own_evaluations}
    elsewhere = [
        evaluation
        for evaluation in evaluations
        if evaluation.trial_id in selected
        and (evaluation.trained_on, evaluation.trained_digest) == own
        and (evaluation.corpus, evaluation.digest) != own
        and evaluation.split == "test"
    ]
    seeds = {row.method: list(row.configuration.seeds) for row in comparison.rows}
    return _rows([*own_evaluations, *elsewhere], seeds) if elsewhere else ()


def evaluation_rows(evaluations: Iterable[Evaluation]) -> tuple[TransferRow, ...]:
    """Evaluations of one configuration per method, averaged over seeds; in the order of `transfer_rows`.

    Raises:
        ValueError: if two trials of a method have the same seed.
    """
    return _rows(list(evaluations), {})


def _rows(evaluations: Sequence[Evaluation], seeds: Mapping[str, Sequence[int]]) -> tuple[TransferRow, ...]:
    # Of a trial that was evaluated twice, the later one counts.
    latest = {(_corpus_key(evaluation), evaluation.trial_id): evaluation for evaluation in evaluations}
    by_corpus: dict[CorpusKey, dict[str, list[Evaluation]]] = defaultdict(lambda: defaultdict(list))
    for (key, _), evaluation in latest.items():
        by_corpus[key][evaluation.method].append(evaluation)
    trained_on = (evaluation.trained_on for evaluation in evaluations)
    order = list(dict.fromkeys([*trained_on, *_TARGETS, *(key.corpus for key in by_corpus)]))
    rows = []
    for key in sorted(by_corpus, key=lambda key: order.index(key.corpus)):
        by_method = by_corpus[key]
        dataset = _dataset(key, by_corpus)
        task_metric = _task_metric([e for of_method in by_method.values() for e in of_method])
        for method in in_table_order(by_method):
            rows.append(_row(dataset, by_method[method], seeds.get(method, ()), task_metric))
    return tuple(rows)


def _row(dataset: str, evaluations: Sequence[Evaluation], wanted_seeds: Sequence[int], task_metric: str) -> TransferRow:
    first, seeds = evaluations[0], sorted(evaluation.seed for evaluation in evaluations)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{first.method} on {dataset} must have one trial per seed, but has the seeds {seeds}")
    values = [
        {metric.key: value for metric in TRANSFER_METRICS if (value := _value(evaluation, metric)) is not None}
        for evaluation in evaluations
    ]
    is_own_corpus = (first.corpus, first.digest) == (first.trained_on, first.trained_digest)
    return TransferRow(
        trained_on=first.trained_on,
        task=TASKS.get(first.corpus, ""),
        dataset=dataset,
        corpus=first.corpus,
        digest=first.digest,
        split=first.split,
        settings=first.settings,
        method=first.method,
        mean=mean_over_seeds(values),
        std=std_over_seeds(values),
        seeds=tuple(seeds),
        missing=tuple(seed for seed in wanted_seeds if seed not in seeds),
        labels=() if is_own_corpus else tuple(dict.fromkeys(evaluation.labels for evaluation in evaluations)),
        better_than_majority=all_better_than_majority(e.metrics.of(e.split) for e in evaluations),
        task_metric=task_metric,
    )


def _corpus_key(evaluation: Evaluation) -> CorpusKey:
    return CorpusKey(evaluation.corpus, evaluation.digest, evaluation.split, tuple(sorted(evaluation.settings.items())))


def _dataset(key: CorpusKey, keys: Iterable[CorpusKey]) -> str:
    of_corpus = [other for other in keys if other.corpus == key.corpus]
    state = f" ({key.digest[:8]})" if len({other.digest for other in of_corpus}) > 1 else ""
    of_split = [other.settings for other in of_corpus if (other.digest, other.split) == (key.digest, key.split)]
    unlike = differing({str(number): dict(settings) for number, settings in enumerate(of_split)})
    settings = [f"{name} {dict(key.settings).get(name, 'not recorded')}" for name in unlike]
    return ", ".join([key.corpus + state, *([] if key.split == "test" else [key.split]), *settings])


def _task_metric(evaluations: Sequence[Evaluation]) -> str:
    """Label of the metric that the task score repeats in all evaluations; empty where that cannot be told."""
    labels = [
        metric.label
        for metric in (ACCURACY, MACRO_F1, BINARY_F1)
        if all(_equal(_value(evaluation, metric), _value(evaluation, TASK_SCORE)) for evaluation in evaluations)
    ]
    return labels[0] if len(labels) == 1 else ""


def _value(evaluation: Evaluation, metric: Metric) -> float | None:
    return evaluation.metrics.of(evaluation.split).get(metric.key)


def _equal(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, rel_tol=1e-9)
