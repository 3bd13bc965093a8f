"""What a sweep's searched settings did: its configurations as studies of Optuna, their importance, and its pictures.

One study per method, as CNRG compares configurations of one method. It is built anew from what was recorded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial
from optuna.visualization import matplotlib as still
from plotly.io import to_html
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict

from unirex_ray.analysis.selection import Configuration, rank_variants
from unirex_ray.errors import UserError, first_line
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights

SCORES = ("cnrg", "fnrg", "pnrg", "tnrg")
FEWEST = 5
"""Configurations of which importance can be told at all."""

NOT_SET = "not set"
"""A choice of those configurations that do not have a setting."""

_FEW_VALUES = 8
"""Up to so many different numbers are choices of a list; more are draws from a range."""
_LOG_RANGE = 50.0

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What the searched settings have to do with a score, over a method's configurations.

    Attributes:
        shares: of its variation that each parameter accounts for, in [0, 1], in sum 1 whatever the score is (fANOVA,
            Hutter et al. 2014).
        explained: R² of a forest that predicts the score of configurations that it has not seen (cross-validation), at
            most 1; at 0 and below the settings say nothing of the score, and the shares describe noise.
    """

    shares: Mapping[str, float]
    explained: float


@dataclass(frozen=True, kw_only=True)
class MethodStudy:
    """A method's complete configurations.

    Attributes:
        method: of all of them.
        trials: with CNRG as value, and every score of NRG and raw dev metric as user attribute.
        left_out: settings of a range that only some configurations have.
        importance: by score; one that does not vary is left out, and all where there are too few configurations.
    """

    method: str
    trials: tuple[FrozenTrial, ...]
    left_out: tuple[str, ...]
    importance: Mapping[str, Importance]

    @property
    def parameters(self) -> list[str]:
        """That were searched and varied."""
        return list(self.trials[0].params)


def method_studies(
    variants: Mapping[str, Sequence[Configuration]], weights: Weights = EQUAL_WEIGHTS
) -> dict[str, MethodStudy]:
    """The methods of which at least two complete configurations differ in a setting.

    Args:
        variants: configurations by method.
        weights: of FNRG, PNRG and TNRG in CNRG.
    """
    studies = {}
    for method, configs in variants.items():
        complete = [configuration for configuration in configs if configuration.complete]
        names, left_out = _settings(complete)
        if names:
            trials = _trials(complete, names, weights)
            importance = _importance(trials)
            studies[method] = MethodStudy(method=method, trials=trials, left_out=left_out, importance=importance)
    return studies


def _settings(complete: Sequence[Configuration]) -> tuple[list[str], tuple[str, ...]]:
    """Settings that vary, and those of a range that some configurations do not have (`when`)."""
    every = dict.fromkeys(name for configuration in complete for name in configuration.parameters)
    varying, left_out = [], []
    for name in every:
        values = {repr(configuration.parameters.get(name, NOT_SET)) for configuration in complete}
        partly = not all(name in configuration.parameters for configuration in complete)
        if partly and len(values) > _FEW_VALUES:
            left_out.append(name)
        elif len(values) > 1:
            varying.append(name)
    return varying, tuple(left_out)


def _trials(complete: Sequence[Configuration], names: Sequence[str], weights: Weights) -> tuple[FrozenTrial, ...]:
    scores = rank_variants(complete, weights).population.scores
    settings = [{name: _value(c.parameters.get(name, NOT_SET)) for name in names} for c in complete]
    distributions = {name: _distribution([each[name] for each in settings]) for name in names}
    return tuple(
        create_trial(
            params=params,
            distributions=distributions,
            value=scores[configuration.key].cnrg,
            user_attrs={
                "configuration": configuration.key,
                **scores[configuration.key].by_key(),
                **{f"dev/{key}": value for key, value in configuration.mean("dev").items()},
            },
        )
        for configuration, params in zip(complete, settings, strict=True)
    )


def _value(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) or value is None else repr(value)


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """Of what was tried: numbers of a range, or one of some choices."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numeric and len(set(values)) > _FEW_VALUES:
        low, high = float(min(values)), float(max(values))
        return FloatDistribution(low, high, log=low > 0 and high / low > _LOG_RANGE)
    choices = list(dict.fromkeys(values))
    return CategoricalDistribution(sorted(choices) if numeric else choices)


def _importance(trials: Sequence[FrozenTrial]) -> dict[str, Importance]:
    if len(trials) < FEWEST:
        return {}
    varying = [key for key in SCORES if len({trial.user_attrs.get(key) for trial in trials}) > 1]
    return {key: Importance(shares=_shares(trials, key), explained=_explained(trials, key)) for key in varying}


def _shares(trials: Sequence[FrozenTrial], score: str) -> dict[str, float]:
    evaluator = FanovaImportanceEvaluator(seed=0)
    shares = get_param_importances(
        _study(trials), evaluator=evaluator, target=lambda trial: float(trial.user_attrs[score])
    )
    return {name: float(shares.get(name, 0.0)) for name in trials[0].params}


def _explained(trials: Sequence[FrozenTrial], score: str) -> float:
    columns = []
    for name, distribution in trials[0].distributions.items():
        values = [distribution.to_internal_repr(trial.params[name]) for trial in trials]
        is_numeric = all(isinstance(trial.params[name], int | float) for trial in trials)
        # Choices of words have no order; of numbers they have.
        columns += [values] if is_numeric else [[float(v == other) for v in values] for other in sorted(set(values))]
    target = np.array([trial.user_attrs[score] for trial in trials])
    folds = KFold(min(len(trials), 10), shuffle=True, random_state=0)
    forest = RandomForestRegressor(n_estimators=100, random_state=0)
    return float(r2_score(target, cross_val_predict(forest, np.array(columns).T, target, cv=folds)))


def _study(trials: Sequence[FrozenTrial]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def pictures(study: MethodStudy) -> dict[str, Figure]:
    """Slices, parallel coordinates and the Pareto front as still images, by name."""
    found = {}
    for name, (draw, _) in _plots(study).items():
        axes = draw()
        figure = np.ravel(np.asarray(axes))[0].figure
        figure.set_dpi(150)
        figure.set_size_inches(max(7.0, 3.2 * len(study.parameters)) if name == "slices" else 8.0, 4.5)
        found[name] = figure
        plt.close(figure)  # pyplot keeps what it makes
    return found


def page(studies: Mapping[str, MethodStudy], title: str, label: Callable[[str], str]) -> str:
    """The same as one interactive page, which needs no network.

    Args:
        label: of a method.
    """
    parts, script = [], True
    for method, study in studies.items():
        for name, (_, draw) in _plots(study).items():
            figure = draw()
            figure.update_layout(title=f"{label(method)}: {name.replace('_', ' ')}")
            parts.append(to_html(figure, full_html=False, include_plotlyjs=script, config={"displaylogo": False}))
            script = False
    body, title = "\n".join(parts), escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title></head>'
        f'<body style="font-family: system-ui, sans-serif; margin: 16px">\n<h1>{title}</h1>\n{body}\n</body></html>\n'
    )


def _plots(study: MethodStudy) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """By name, how a picture is drawn still and interactively; with Optuna's own functions."""
    single, params = _study(study.trials), study.parameters
    plots: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "slices": (
            lambda: still.plot_slice(single, params=params, target_name="CNRG"),
            lambda: optuna.visualization.plot_slice(single, params=params, target_name="CNRG"),
        ),
        "parallel_coordinates": (
            lambda: still.plot_parallel_coordinate(single, params=params, target_name="CNRG"),
            lambda: optuna.visualization.plot_parallel_coordinate(single, params=params, target_name="CNRG"),
        ),
    }
    keys = [key for key in ("fnrg", "pnrg", "tnrg") if key in study.trials[0].user_attrs]
    several = optuna.create_study(directions=["maximize"] * len(keys))
    for trial in study.trials:
        several.add_trial(
            create_trial(
                params=trial.params,
                distributions=trial.distributions,
                values=[trial.user_attrs[key] for key in keys],
                user_attrs=trial.user_attrs,
            )
        )
    names = [key.upper() for key in keys]
    plots["pareto_front"] = (
        lambda: still.plot_pareto_front(several, target_names=names),
        lambda: optuna.visualization.plot_pareto_front(several, target_names=names),
    )
    return plots


def write_storage(studies: Mapping[str, MethodStudy], storage: str, sweep_id: str) -> list[str]:
    """Put the studies where the Optuna dashboard reads them; ones of these names are replaced.

    Args:
        storage: URL, e.g. `sqlite:///study.db`.

    Returns:
        Names of the studies.

    Raises:
        UserError: where nothing can be written there.
    """
    names = []
    try:
        for method, study in studies.items():
            name = f"{sweep_id}-{method}"
            if name in optuna.get_all_study_names(storage):
                optuna.delete_study(study_name=name, storage=storage)
            stored = optuna.create_study(study_name=name, storage=storage, direction="maximize")
            stored.add_trials(study.trials)
            stored.set_metric_names(["CNRG on dev"])
            names.append(name)
    except Exception as error:  # every database has errors of its own
        raise UserError(f"cannot write to --storage {storage!r}: {first_line(error)}") from None
    return names
