"""`rationale_model.json`: what a saved model is, checked in full before anything else of its folder is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from unirex_ray.config import ModelConfig
from unirex_ray.data.encode import Truncation
from unirex_ray.data.schema import TaskMetric
from unirex_ray.errors import UserError, one_line
from unirex_ray.models.design import Design

MODEL = "rationale_model.json"

_STRICT = ConfigDict(strict=True, extra="forbid")
_MOST_STAGES = 4
_MOST_TOKENS = 1 << 20
_T = TypeVar("_T")


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) != len(labels):
        raise ValueError("the labels must differ")
    return labels


_Label = Annotated[str, StringConstraints(min_length=1)]
_Labels = Annotated[tuple[_Label, ...], Field(min_length=2), AfterValidator(_distinct)]
_FileName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model is besides its weights and its tokenizer, to encode texts as in training.

    The bounds hold for a card that is read from a file; see `read_card`.

    Attributes:
        designs: of the method's stages; the model of the last one is saved.
        labels: class names by index.
        max_length: tokens per input.
        truncation: see `data.schema.Corpus`.
        segments: texts per input: 1, or 2 of a pair; None where that was not recorded.
        seed: of the trial; the extractor `rand` draws its scores from it.
    """

    __pydantic_config__ = _STRICT

    method: str
    designs: Annotated[tuple[Design, ...], Field(min_length=1, max_length=_MOST_STAGES)]
    labels: _Labels
    task_metric: TaskMetric
    multi_choice: bool
    max_length: Annotated[int, Field(ge=1, le=_MOST_TOKENS)]
    truncation: Truncation
    segments: Annotated[int, Field(ge=1, le=2)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0

    @property
    def outputs(self) -> int:
        """Of the task model: 1 for multi-choice, else the number of classes."""
        return 1 if self.multi_choice else len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the parts of a saved model lie.

    Attributes:
        folder: of the encoder's configuration and the tokenizer. `task_model` is a checkpoint that the library's own
            classes load, with the task model's weights; `encoder` holds none.
        tensors: names of the model's tensors that lie in `task_model`, and their names there.
        files: SHA-256 of the folder's files, its weights left out: the library makes up for a missing or changed one
            in silence.
        weights: SHA-256 of the files of weights; empty in models of version 0.1.0.
    """

    __pydantic_config__ = _STRICT

    folder: Literal["task_model", "encoder"]
    tensors: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[_FileName, _Digest]
    weights: Mapping[_FileName, _Digest] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """The content of `rationale_model.json`.

    Attributes:
        layout: None for a folder of version 0.1.0, which has everything in its root.
    """

    card: ModelCard
    model: ModelConfig
    layout: Layout | None


def read_card(values: Any) -> ModelCard:
    """Card from its JSON form.

    Raises:
        ValueError: naming the first field that cannot be right.
    """
    return _validated(ModelCard, values, "")


def read_saved(folder: Path) -> SavedModel:
    """Read and check a folder's `rationale_model.json`.

    Raises:
        UserError: if there is none, or it is damaged.
    """
    if not (folder / MODEL).is_file():
        raise UserError(f"{str(folder)!r} is not an exported model (no {MODEL}); export one first")
    try:
        values = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"a mapping is wanted, but there is {type(values).__name__}")
        model, layout = values.pop("model", None), values.pop("layout", None)
        return SavedModel(
            card=read_card(values),
            model=_validated(ModelConfig, model, "model."),
            layout=None if layout is None else _validated(Layout, layout, "layout."),
        )
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{MODEL}: {one_line(error)}") from None


def write_saved(folder: Path, saved: SavedModel) -> None:
    """Write `rationale_model.json`."""
    assert saved.layout is not None
    values = {
        **asdict(saved.card),
        "model": saved.model.model_dump(mode="json"),
        "layout": asdict(saved.layout),
    }
    (folder / MODEL).write_text(json.dumps(values, indent=2), encoding="utf-8")


def damaged(folder: Path, what: str) -> UserError:
    """The error for a folder that was whole when it was exported."""
    return UserError(f"{str(folder)!r} is damaged: {what}; export the model again")


def _validated(kind: type[_T], values: Any, section: str) -> _T:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        got = "" if problem["type"] == "missing" else f" = {problem['input']!r:.80}"
        raise ValueError(f"{section}{where}{got}: {problem['msg'].removeprefix('Value error, ')}") from None
