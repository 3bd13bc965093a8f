"""A sweep's view in MLflow's list of runs: which columns come first, and which charts.

MLflow keeps such views as tags of an experiment, in a form of its own that it does not document (this one: 3.x). Where
another version does not know it, the list has MLflow's own columns, and nothing else is lost.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from unirex_ray.tracking.store import METHOD, SELECTED, SELECTED_SCORES, SWEEP_ID, TRIAL_ID

TAG = "mlflow.sharedViewState."
"""With a sweep's name behind it: the tag of an experiment."""


HOME = "/#/experiments?workflowType=machine_learning"
"""MLflow's first page, behind the address of a server; without this it is about traces of language models."""


def link(experiment_id: str, sweep_id: str) -> str:
    """The view's place, behind the address of a server."""
    return f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={sweep_id}"


def described(text: str, experiment_id: str, sweep_id: str) -> str:
    """The description of a sweep's run, in Markdown, with a link to its view."""
    return "\n\n".join(filter(None, [text, f"[The trials of this sweep, by method]({link(experiment_id, sweep_id)})"]))


def view(sweep_id: str, searched: Sequence[str]) -> str:
    """The tag's value.

    Args:
        searched: keys of the searched settings.
    """
    metrics = [f"{SELECTED}/{score}" for score in SELECTED_SCORES]
    columns = [f"tags.`{METHOD}`", *(f"metrics.`{key}`" for key in metrics), *(f"params.`{key}`" for key in searched)]
    sections = {
        "Within a method, dev": [_parallel(searched, metrics[0])],  # its scores do not compare with another method's
        "All methods, test": [_bars(f"nrg/{score}") for score in SELECTED_SCORES],  # once compare has been there
    }
    state = {
        "searchFilter": f"tags.{SWEEP_ID} = '{sweep_id}' AND tags.{TRIAL_ID} LIKE '%'",
        "orderByKey": f"tags.`{METHOD}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,  # else MLflow's own sections come first
        "compareRunSections": [_section(name) for name in sections],
        "compareRunCharts": [
            {**chart, "metricSectionId": name} for name, charts in sections.items() for chart in charts
        ],
    }
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()


def _section(name: str) -> dict[str, Any]:
    fixed = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return {"uuid": name, "name": name, "columns": 2, **fixed}


def _chart(kind: str, name: str, **more: Any) -> dict[str, Any]:
    about = {"uuid": f"{kind} {name}", "type": kind, "displayName": name, "deleted": False, "isGenerated": False}
    return {**about, "runsCountToCompare": 100, **more}


def _bars(metric: str) -> dict[str, Any]:
    return _chart("BAR", metric, metricKey=metric)


def _parallel(searched: Sequence[str], metric: str) -> dict[str, Any]:
    return _chart("PARALLEL", metric, selectedParams=[*searched], selectedMetrics=[metric], showAllRuns=True)
