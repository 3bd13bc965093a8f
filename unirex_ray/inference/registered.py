"""An exported folder as a version of a model in MLflow's registry, from where MLflow serves it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model

import unirex_ray
from unirex_ray.config import REMOTE_CODE, Config
from unirex_ray.errors import UserError, first_line
from unirex_ray.inference import served
from unirex_ray.inference.export import Selected, metrics_table, verdicts_in_words
from unirex_ray.methods import get_method
from unirex_ray.models.card import ModelCard, read_saved
from unirex_ray.tracking.mlflow_registry import check_registered_name, register_version
from unirex_ray.tracking.protocol import protocol_hash, protocol_of
from unirex_ray.tracking.store import CORPUS, DATA_DIGEST, METHOD, PROTOCOL, SEED, TRIAL_ID, verdict_tags

# It tells of every example that it has looked at.
logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)

_REQUIREMENT = f"unirex_ray=={unirex_ray.__version__}"


def check_registered(name: str, config: Config) -> None:
    """Refuse what cannot be registered, before any work.

    Raises:
        UserError: for a name that an address could not hold; where an encoder's own code may run.
    """
    check_registered_name(name)
    if config.model.trust_remote_code:
        raise UserError(
            f"--register={name}: a served model runs no code that an encoder ships with; leave --{REMOTE_CODE} out, or "
            "export without --register"
        )


def register(selected: Selected, folder: Path, *, name: str, corpus: str, uri: str) -> int:
    """Keep an exported folder with the run of its trial, and make it the next version of a registered model.

    Args:
        folder: what `export` wrote of `selected`; it stays, whatever comes of this.
        name: see `check_registered_name`.
        corpus: `data.name` of the sweep.
        uri: of the store that the sweep was read from.

    Returns:
        The version's number, from 1.

    Raises:
        UserError: where the store does not answer, or takes no model.
    """
    assert selected.record.run_id is not None
    card = read_saved(folder).card
    try:
        with tempfile.TemporaryDirectory() as temporary:
            save_served(folder, Path(temporary) / "served", card, run_id=selected.record.run_id)
            return register_version(
                uri,
                selected.record.run_id,
                Path(temporary) / "served",
                name=name,
                description=description_of(selected, corpus, card),
                tags=tags_of(selected, corpus),
            )
    except (UserError, OSError, MlflowException) as error:
        raise UserError(
            f"{str(folder)!r} is written, but not registered as {name!r}: {first_line(error)}; put that right, and "
            "repeat the command with another --folder"
        ) from None


def save_served(folder: Path, target: Path, card: ModelCard, *, run_id: str) -> None:
    """Write a folder that MLflow loads: an exported one, and the file of ours that reads it; nothing is pickled."""
    with tempfile.TemporaryDirectory() as temporary:
        # MLflow takes a path for an address, which 50%20 would change, and refuses links.
        plain = shutil.copytree(folder, Path(temporary) / served.ARTIFACT)
        mlflow.pyfunc.save_model(
            target,
            mlflow_model=Model(run_id=run_id),
            python_model=served.__file__,
            artifacts={served.ARTIFACT: str(plain)},
            signature=served.signature_of(card),
            input_example=(_example(card), {served.TOP_K_PERCENT: 20}),
            pip_requirements=[_REQUIREMENT],
        )


def _example(card: ModelCard) -> pd.DataFrame:
    """Made-up texts of the form that the model reads."""
    if card.multi_choice:
        text: Any = ["a text", "its second"] if card.segments == 2 else "a text"
        return pd.DataFrame({served.CHOICES: [[text] * len(card.labels)]})
    second = {served.SECOND: ["its second"]} if card.segments == 2 else {}
    return pd.DataFrame({served.TEXT: ["a text"], **second})


def description_of(selected: Selected, corpus: str, card: ModelCard) -> str:
    """What people read of a version, in Markdown."""
    record = selected.record
    return f"""{get_method(record.spec.method).label} on {corpus}, seed {record.spec.seed}: predicts one of \
{", ".join(card.labels)}, with a rationale.

Better than the majority class: {verdicts_in_words(record)}. Selected from: \
{"; ".join(selected.unfinished) or "finished sweeps"}.

{metrics_table(record)}

It is served where `{_REQUIREMENT}` is installed: `mlflow models serve --env-manager=local`.
"""


def tags_of(selected: Selected, corpus: str) -> dict[str, str]:
    """What versions are searched by: method, data, protocol, metrics on test by logged key, and verdicts."""
    record = selected.record
    digest = record.tags.get(DATA_DIGEST)
    return {
        METHOD: record.spec.method,
        CORPUS: corpus,
        SEED: str(record.spec.seed),
        TRIAL_ID: record.spec.trial_id,
        PROTOCOL: protocol_hash(protocol_of(selected.sweep.settings)),
        **({DATA_DIGEST: digest} if digest else {}),
        **{key: f"{value:.6g}" for key, value in record.metrics.flat().items() if key.startswith("test/")},
        **verdict_tags(record.metrics),
    }
