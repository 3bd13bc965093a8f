"""What a completed trial left: written with checksums, and read as a whole or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from unirex_ray.config import Config, build_config, refuse_remote_code
from unirex_ray.models.card import ModelCard, read_card
from unirex_ray.models.rationale_model import RationaleModel, build_model
from unirex_ray.training.checkpoint import BEST, CONFIG, CheckpointStore
from unirex_ray.training.result_file import RESULT, digest_of, seal, unseal


def write_result(store: CheckpointStore, content: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write `result.json`, which completes a trial; `read_result` gives the content back.

    Args:
        files: what lies beside it, by name.
    """
    store.write(RESULT, seal(content, files))


def read_result(store: CheckpointStore) -> dict[str, Any] | None:
    """The content of a completed trial's `result.json`; None where the trial has none.

    Raises:
        DamagedFileError: where it is torn, or was changed; versions until 0.1.0 left no checksum.
    """
    data = store.read(RESULT)
    if data is None:
        return None
    try:
        return unseal(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise store.damaged(RESULT, error) from None


def _read_whole(store: CheckpointStore, name: str) -> bytes | None:
    """A file of a completed trial; None where it, or the trial's result, is missing.

    Raises:
        DamagedFileError: where it is not the file that the result lies beside.
    """
    result, data = read_result(store), store.read(name)
    if result is None or data is None:
        return None
    if result.get("files", {}).get(name) not in (None, digest_of(data)):
        raise store.damaged(name, ValueError("its checksum is another one than result.json has"))
    return data


def completed_model(
    store: CheckpointStore, *, trust_remote_code: bool = False
) -> tuple[Config, RationaleModel, ModelCard] | None:
    """A completed trial's configuration, best model and card; None where one of its files is missing.

    Args:
        trust_remote_code: whether an encoder's own Python code may run, where the trial's configuration asks for it.

    Raises:
        UserError: where it asks and may not; for a damaged file.
    """
    card, config, data = completed_card(store), completed_config(store), _read_whole(store, BEST)
    if card is None or config is None or data is None:
        return None
    weights = store.parse(BEST, data)
    if config.model.trust_remote_code and not trust_remote_code:
        raise refuse_remote_code(f"{store.folder}/{CONFIG}")
    model = build_model(config.model, card.designs, card.outputs, seed=card.seed)
    model.load_state_dict(weights["model"])
    return config, model, card


def completed_config(store: CheckpointStore) -> Config | None:
    """A completed trial's configuration; None where it is missing.

    Raises:
        UserError: where it is damaged.
    """
    text = _read_whole(store, CONFIG)
    try:
        return None if text is None else build_config(yaml.safe_load(text))
    except (ValueError, AttributeError, yaml.YAMLError) as error:
        raise store.damaged(CONFIG, error) from None


def completed_card(store: CheckpointStore) -> ModelCard | None:
    """A completed trial's card; None where the trial has no result.

    Raises:
        UserError: where it is damaged.
    """
    result = read_result(store)
    try:
        return None if result is None else read_card(result["card"])
    except (ValueError, KeyError, TypeError) as error:
        raise store.damaged(RESULT, error) from None
