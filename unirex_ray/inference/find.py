"""Trained models on disk: an exported one, or those that a sweep selected."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from transformers import PreTrainedTokenizerBase

from unirex_ray.config import build_config
from unirex_ray.errors import UserError, one_line
from unirex_ray.inference.export import PROVENANCE
from unirex_ray.inference.model import SETTINGS, read_known
from unirex_ray.models.card import MODEL, ModelCard, damaged
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.store import check_files, check_trust, load_model
from unirex_ray.sweep.folder import LEADERBOARD, open_trial
from unirex_ray.tracking.protocol import protocol_hash, protocol_of
from unirex_ray.tracking.records import trial_name
from unirex_ray.tracking.store import SWEEP
from unirex_ray.training.completed import completed_card, completed_config, completed_model

Loaded = tuple[RationaleModel, PreTrainedTokenizerBase]


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model on disk, and where it comes from.

    Attributes:
        trial_id, seed: of the trial that trained it.
        trained_on, trained_digest: the corpus.
        protocol: hash of the sweep's protocol; None where it is not recorded.
        precision: that it was trained and evaluated in.
        load: reads weights and tokenizer.
    """

    card: ModelCard
    trial_id: str
    seed: int
    trained_on: str
    trained_digest: str
    protocol: str | None
    precision: str
    load: Callable[[], Loaded]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.card.method}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Models:
    """What lies in a folder.

    Attributes:
        output: the sweep's, or the folder that an exported model lies in: for what is written beside them.
    """

    models: tuple[TrainedModel, ...]
    output: Path


def find_models(folder: Path, *, trust_remote_code: bool = False) -> Models:
    """An exported model, or all seeds of the configurations that a sweep selected.

    Args:
        trust_remote_code: see `load_model` and `completed_model`.

    Raises:
        UserError: if the folder is neither, or incomplete.
    """
    if (folder / MODEL).is_file():
        return _exported(folder, trust_remote_code)
    if (folder / SWEEP).is_file():
        return _swept(folder, trust_remote_code)
    raise UserError(
        f"{str(folder)!r} is neither an exported model (no {MODEL}) nor the output of a sweep (no {SWEEP}); "
        "export a model first, or give the output of a sweep"
    )


def _exported(folder: Path, trust_remote_code: bool) -> Models:
    saved = read_known(folder)
    check_trust(folder, saved, trust_remote_code)
    check_files(folder, saved.layout)
    try:
        provenance = json.loads(_text(folder / PROVENANCE))
        config = build_config(yaml.safe_load(_text(folder / SETTINGS)))
        trial_id, digest = provenance["trial_id"], provenance["data_digest"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise damaged(folder, f"{PROVENANCE} or {SETTINGS}: {one_line(error)}") from None

    def load() -> Loaded:
        model, tokenizer, _ = load_model(folder, trust_remote_code=trust_remote_code)
        return model, tokenizer

    model = TrainedModel(
        card=saved.card,
        trial_id=trial_id,
        seed=config.train.seed,
        trained_on=config.data.name,
        trained_digest=digest,
        protocol=provenance.get("protocol"),
        precision=protocol_of(config.flat())["train.precision"],
        load=load,
    )
    return Models(models=(model,), output=folder.absolute().parent)


def _swept(folder: Path, trust_remote_code: bool) -> Models:
    unfinished = UserError(f"the sweep in {str(folder)!r} has not finished; finish it with --resume")
    if not (folder / LEADERBOARD).is_file():
        raise unfinished
    try:
        begun = json.loads(_text(folder / SWEEP))
        sweep_id, settings, status = begun["sweep_id"], begun["settings"], begun["status"]
        rows = list(csv.DictReader(_text(folder / LEADERBOARD).splitlines()))
        chosen = [
            (row["method"], int(row["configuration"]), [*map(int, json.loads(row["seeds"]))])
            for row in rows
            if row["rank"] == "1"
        ]
        trained_on, digest = settings["data.name"], settings["data.digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{str(folder)!r} holds no readable sweep ({one_line(error)})") from None
    if status in ("running", "incomplete"):
        raise unfinished
    trials = [
        (trial_name(sweep_id, method, configuration, seed), seed)
        for method, configuration, seeds in chosen
        for seed in seeds
    ]
    if not trials:
        raise UserError(f"the sweep in {str(folder)!r} has no complete configuration to evaluate")
    about = {"trained_on": trained_on, "trained_digest": digest, "protocol": protocol_hash(protocol_of(settings))}
    models = tuple(_of_trial(folder, trial_id, seed, about, trust_remote_code) for trial_id, seed in trials)
    return Models(models=models, output=folder)


def _of_trial(folder: Path, trial_id: str, seed: int, about: dict[str, str], trust_remote_code: bool) -> TrainedModel:
    store = open_trial(folder, trial_id)
    card, config = completed_card(store), completed_config(store)
    if card is None or config is None:
        raise UserError(f"{store.folder} holds no completed trial; give the folder that the sweep wrote")

    def load() -> Loaded:
        completed = completed_model(store, trust_remote_code=trust_remote_code)
        if completed is None:
            raise UserError(f"the weights of trial {trial_id} are not in {store.folder}; train it again")
        config, model, _ = completed
        return model.eval(), load_tokenizer(config.model)

    precision = protocol_of(config.flat())["train.precision"]
    return TrainedModel(card=card, trial_id=trial_id, seed=seed, precision=precision, load=load, **about)


def of_method(models: Sequence[TrainedModel], method: str | None) -> tuple[TrainedModel, ...]:
    """The models of a method; all for None.

    Raises:
        UserError: if there is none of that method.
    """
    of_that_method = tuple(trained for trained in models if method in (None, trained.card.method))
    if not of_that_method:
        methods = dict.fromkeys(trained.card.method for trained in models)
        raise UserError(f"there is no model of method {method!r} here; choose --method among {', '.join(methods)}")
    return of_that_method


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
