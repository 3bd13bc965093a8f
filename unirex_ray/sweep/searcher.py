"""Searchers: which configuration of a method to try next. The only module that imports optuna.

A searcher keeps nothing between suggestions: each one follows from the seed, the method, the suggestion's index and
the history of the method's study. So a resumed sweep suggests what the undisturbed one would have.
"""

from __future__ import annotations

import hashlib
import json
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights, score_population
from unirex_ray.metrics.table import NRG_METRICS
from unirex_ray.sweep.space import MethodSpace, Parameter, Parameters

SearcherKind = Literal["tpe", "grid", "random", "pareto"]

_ATTEMPTS = 16
"""Draws before a searcher looks for an unseen configuration in another way."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True, kw_only=True)
class ScoredConfiguration:
    """A configuration all of whose seeds completed.

    Attributes:
        metrics: raw dev metrics by key without split (`auprc`), averaged over seeds.
    """

    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class StoppedConfiguration:
    """A configuration that lost at a rung.

    Attributes:
        epoch: of the last rung that it reached.
        cnrg: there, among all configurations that have reached it by now; higher is better.
    """

    parameters: Mapping[str, Any]
    epoch: int
    cnrg: float


@dataclass(frozen=True, kw_only=True)
class StudyHistory:
    """A method's configurations so far, in the order of suggestion.

    Attributes:
        population: those with scores.
        running: those that may still get scores.
        stopped: those that lost at a rung.
        failed: those without scores for another reason.
    """

    population: Sequence[ScoredConfiguration] = ()
    running: Sequence[Mapping[str, Any]] = ()
    stopped: Sequence[StoppedConfiguration] = ()
    failed: Sequence[Mapping[str, Any]] = ()

    def seen(self) -> set[str]:
        """Identity of every configuration that was suggested before."""
        scored = [configuration.parameters for configuration in self.population]
        stopped = [configuration.parameters for configuration in self.stopped]
        return {identity(parameters) for parameters in [*scored, *stopped, *self.running, *self.failed]}


class Searcher(Protocol):
    """A method's study."""

    def suggest(self, index: int, history: StudyHistory) -> Parameters | None:
        """The configuration with number `index` (from 0), different from all earlier ones; None without one."""


def identity(parameters: Mapping[str, Any]) -> str:
    """Text that is equal for equal configurations."""
    return json.dumps(parameters, sort_keys=True)


def make_searcher(
    kind: SearcherKind, space: MethodSpace, *, budget: int, seed: int = 0, weights: Weights = EQUAL_WEIGHTS
) -> Searcher:
    """Build a method's searcher.

    Args:
        budget: how many configurations will be asked for.

    Raises:
        UserError: if a grid is asked for and a parameter is a range.
    """
    if kind == "grid":
        return GridSearcher(space, budget, seed)
    if kind == "random":
        return RandomSearcher(space, seed)
    # A third of the budget at random, so that a small study also learns something from its population.
    startup = max(2, min(10, budget // 3))
    return OptunaSearcher(space, seed, startup, population_cnrg(weights) if kind == "tpe" else raw_metrics)


class GridSearcher:
    """The space's grid in order; a seeded sample of it, in the same order, where the budget is smaller.

    What a sweep tried before it grew is passed over.
    """

    def __init__(self, space: MethodSpace, budget: int, seed: int) -> None:
        grid = space.grid()
        rng = random.Random(_derived_seed(seed, space.method))
        self._chosen = [grid[index] for index in sorted(rng.sample(range(len(grid)), min(budget, len(grid))))]

    def suggest(self, index: int, history: StudyHistory) -> Parameters | None:
        """See `Searcher`."""
        seen = history.seen()
        return next((dict(parameters) for parameters in self._chosen if identity(parameters) not in seen), None)


class RandomSearcher:
    """Independent uniform draws."""

    def __init__(self, space: MethodSpace, seed: int) -> None:
        self._space, self._seed = space, seed

    def suggest(self, index: int, history: StudyHistory) -> Parameters | None:
        """See `Searcher`."""

        def draw(seed: int) -> Parameters:
            return _sample(self._space, optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)))

        return _first_unseen(self._space, self._seed, index, history, draw)


Direction = Literal["minimize", "maximize"]
Objective = Callable[[Sequence[ScoredConfiguration]], tuple[list[Direction], list[list[float]]]]
"""Directions, and the values of each member of a population."""


def population_cnrg(weights: Weights) -> Objective:
    """CNRG of each member relative to the whole population, to be maximised."""

    def objective(population: Sequence[ScoredConfiguration]) -> tuple[list[Direction], list[list[float]]]:
        raw = {str(number): scored.metrics for number, scored in enumerate(population)}
        scores = score_population(raw, weights).scores
        return ["maximize"], [[scores[name].cnrg] for name in raw]

    return objective


def raw_metrics(population: Sequence[ScoredConfiguration]) -> tuple[list[Direction], list[list[float]]]:
    """The raw metrics of NRG that the population has, each in its own direction."""
    metrics = [m for m in NRG_METRICS if all(m.key in scored.metrics for scored in population)]
    directions: list[Direction] = ["maximize" if metric.higher_is_better else "minimize" for metric in metrics]
    return directions, [[scored.metrics[metric.key] for metric in metrics] for scored in population]


class OptunaSearcher:
    """TPE on a new study for every suggestion, in which all configurations have their present values."""

    def __init__(self, space: MethodSpace, seed: int, startup: int, objective: Objective) -> None:
        self._space, self._seed, self._startup, self._objective = space, seed, startup, objective

    def suggest(self, index: int, history: StudyHistory) -> Parameters | None:
        """See `Searcher`."""
        directions, values = self._objective(history.population)

        def draw(seed: int) -> Parameters:
            study = optuna.create_study(directions=directions, sampler=self._sampler(seed))
            for scored, value in zip(history.population, values, strict=True):
                self._add(study, scored.parameters, TrialState.COMPLETE, value)
            for stopped in history.stopped if len(directions) == 1 else ():
                # TPE ranks them behind the completed ones: by their rung, then by what they had there.
                self._add(study, stopped.parameters, TrialState.PRUNED, reached={stopped.epoch: stopped.cnrg})
            for parameters in history.running:
                self._add(study, parameters, TrialState.RUNNING)
            return _sample(self._space, study)

        return _first_unseen(self._space, self._seed, index, history, draw)

    def _sampler(self, seed: int) -> optuna.samplers.TPESampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                n_startup_trials=self._startup, multivariate=True, group=True, constant_liar=True, seed=seed
            )

    def _add(
        self,
        study: optuna.Study,
        parameters: Mapping[str, Any],
        state: TrialState,
        values: list[float] | None = None,
        reached: dict[int, float] | None = None,
    ) -> None:
        used = [parameter for parameter in self._space.parameters if parameter.key in parameters]
        study.add_trial(
            create_trial(
                state=state,
                params={parameter.key: _to_optuna(parameter, parameters[parameter.key]) for parameter in used},
                distributions={parameter.key: _distribution(parameter) for parameter in used},
                values=values,
                intermediate_values=reached,
            )
        )


def _first_unseen(
    space: MethodSpace, seed: int, index: int, history: StudyHistory, draw: Callable[[int], Parameters]
) -> Parameters | None:
    seen = history.seen()
    for attempt in range(_ATTEMPTS):
        parameters = draw(_derived_seed(seed, space.method, index, attempt))
        if identity(parameters) not in seen:
            return parameters
    if not space.finite:
        return None
    unseen = [parameters for parameters in space.grid() if identity(parameters) not in seen]
    return random.Random(_derived_seed(seed, space.method, index, _ATTEMPTS)).choice(unseen) if unseen else None


def _derived_seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.kind == "choice":
        # By index: optuna takes scalars only, a configuration key may be a list.
        return CategoricalDistribution(range(len(parameter.values)))
    low, high = parameter.values
    if parameter.kind == "int":
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=parameter.kind == "log_uniform")


def _to_optuna(parameter: Parameter, value: Any) -> Any:
    return parameter.values.index(value) if parameter.kind == "choice" else value


def _sample(space: MethodSpace, study: optuna.Study) -> Parameters:
    trial = study.ask()
    return space.sample(lambda parameter: _suggest(trial, parameter))


def _suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    if parameter.kind == "choice":
        return parameter.values[trial.suggest_categorical(parameter.key, range(len(parameter.values)))]
    low, high = parameter.values
    if parameter.kind == "int":
        return trial.suggest_int(parameter.key, low, high)
    return trial.suggest_float(parameter.key, low, high, log=parameter.kind == "log_uniform")
