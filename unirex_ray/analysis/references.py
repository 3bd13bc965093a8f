"""One task model under several rationales: how faithful what people marked is, beside what its gradients say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unirex_ray.analysis.certainty import Interval, interval, read_results
from unirex_ray.analysis.selection import Configuration
from unirex_ray.methods import REFERENCES, known_method
from unirex_ray.metrics.bootstrap import bootstrap
from unirex_ray.metrics.instances import InstanceResults, mean_metrics
from unirex_ray.metrics.nrg import mean_over_seeds
from unirex_ray.metrics.table import AUPRC, COMPREHENSIVENESS, SUFFICIENCY
from unirex_ray.tracking.records import TrialRecord

SHOWN = (COMPREHENSIVENESS, SUFFICIENCY, AUPRC)
COMPARED = (COMPREHENSIVENESS, SUFFICIENCY)
GOLD, *_ = REFERENCES
_SAME = 1e-3
"""The same weights predict the same probabilities, to this, on any machine."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One kind of rationale of the task model.

    Attributes:
        configuration: whose rationales.
        selected: whether it is the one that its method was compared by.
        mean: of the metrics in `SHOWN`, by key.
        intervals: 95 % of these, over instances and task models.
        above_gold: by how much Comp and Suff are higher than the gold rationale's, and the interval of that, by key;
            empty for gold itself, and where there is none.
    """

    configuration: Configuration
    selected: bool
    mean: Mapping[str, float]
    intervals: Mapping[str, Interval]
    above_gold: Mapping[str, tuple[float, Interval]]

    @property
    def method(self) -> str:
        """Whose rationales."""
        return self.configuration.method


@dataclass(frozen=True, kw_only=True)
class OneTaskModel:
    """What several rationales make of one task model.

    Attributes:
        rows: attributions first, then `REFERENCES`.
        instances: of test that have a gold rationale: on others there is no reference.
        seeds: each of which gave a task model.
        apart: methods that explain another task model, in words why.
    """

    rows: tuple[Explained, ...]
    instances: int
    seeds: int
    apart: Mapping[str, str]


def one_task_model(
    selected: Mapping[str, Configuration],
    variants: Mapping[str, Sequence[Configuration]],
    read: Callable[[TrialRecord], bytes | None],
) -> OneTaskModel | None:
    """Comp and Suff of rationales that were given for one and the same task model.

    That it is the same shows in its predictions, instance by instance. Where several were trained, it is the one that
    the first attribution method selected.

    Args:
        selected: each method's configuration.
        variants: every complete configuration by method.
        read: see `read_results`.

    Returns:
        None where there are not two kinds of rationales, one of them a reference, with results by instance.
    """
    methods = [method for method in selected if _explains_a_task_model(method)]
    methods.sort(key=lambda method: REFERENCES.index(method) if method in REFERENCES else -1)
    if not {*methods} & {*REFERENCES}:
        return None
    base = selected[methods[0]]
    configurations: dict[str, Configuration] = {}
    results: dict[str, Sequence[InstanceResults]] = {}
    apart: dict[str, str] = {}
    for method in methods:
        own_sweep_first = sorted(variants[method], key=lambda each: each.sweep != base.sweep)
        alike = next((each for each in own_sweep_first if _alike(each, base)), None)
        if alike is None:
            apart[method] = "no configuration has its settings and seeds"
            continue
        found, why_none = read_results(read, {method: alike})
        runs = [_with_gold(run) for run in found.get(method, ())]
        if why_none:
            apart[method] = why_none
        elif results and not _same_models(runs, next(iter(results.values()))):
            apart[method] = "it predicts otherwise"
        else:
            configurations[method], results[method] = alike, runs
    any_run = next((runs[0] for runs in results.values()), None)
    if not any_run or len(results) < 2 or not {*results} & {*REFERENCES}:
        return None
    drawn = bootstrap(results, same_models=True).raw
    means = {method: mean_over_seeds([mean_metrics(run) for run in runs]) for method, runs in results.items()}
    place = {method: index for index, method in enumerate(results)}

    def above_gold(method: str) -> dict[str, tuple[float, Interval]]:
        if GOLD not in results or method == GOLD:
            return {}
        return {
            metric.key: (
                means[method][metric.key] - means[GOLD][metric.key],
                interval(drawn[metric.key][:, place[method]] - drawn[metric.key][:, place[GOLD]]),
            )
            for metric in COMPARED
        }

    rows = tuple(
        Explained(
            configuration=configurations[method],
            selected=configurations[method] is selected[method],
            mean={m.key: means[method][m.key] for m in SHOWN if m.key in means[method]},
            intervals={m.key: interval(drawn[m.key][:, place[method]]) for m in SHOWN if m.key in drawn},
            above_gold=above_gold(method),
        )
        for method in results
    )
    return OneTaskModel(rows=rows, instances=len(any_run), seeds=len(base.records), apart=apart)


def _explains_a_task_model(method: str) -> bool:
    """Whether a method is scores for a model that was trained for its task alone."""
    known = known_method(method)
    return known is not None and len(known.stages) == 1 and not known.stages[0].uses_scores


def _alike(configuration: Configuration, base: Configuration) -> bool:
    """Whether it has the seeds of another one, and its parameters, as far as it has those."""
    ours, theirs = configuration.parameters, base.parameters
    return configuration.seeds == base.seeds and all(theirs.get(key, value) == value for key, value in ours.items())


def _with_gold(run: InstanceResults) -> InstanceResults:
    """The instances that have a gold rationale."""
    kept = run.gold_rows > 0
    if kept.all():
        return run
    return replace(
        run,
        ids=tuple(name for name, keep in zip(run.ids, kept, strict=True) if keep),
        **{name: getattr(run, name)[kept] for name in ("labels", "predicted", "probability", "tokens", "gold_rows")},
        measured={name: values[kept] for name, values in run.measured.items()},
    )


def _same_models(ours: Sequence[InstanceResults], theirs: Sequence[InstanceResults]) -> bool:
    return all(
        one.ids == other.ids
        and np.array_equal(one.predicted, other.predicted)
        and np.allclose(one.probability, other.probability, rtol=0, atol=_SAME)
        for one, other in zip(ours, theirs, strict=True)
    )
