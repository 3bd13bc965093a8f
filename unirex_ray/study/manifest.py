"""`study.json`: what a study asks of whom, with the key to it; annotators do not see it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from unirex_ray.errors import UserError, one_line
from unirex_ray.files import replace_text
from unirex_ray.study.rationales import Span, joined
from unirex_ray.study.tasks import TASKS, Task, TaskName

MANIFEST = "study.json"
FORMAT = "unirex_ray study"
VERSION = 1

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Index = Annotated[int, Field(ge=0)]

Mark = tuple[_Index, _Index, _Index, _Index]
"""Text of the instance, segment of the text, start and end (half-open) in characters."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """What is shown of an instance, or of one of its choices.

    Attributes:
        segments: one text, or two of a pair.
        choice: name of the choice that it stands for; empty where there are none, or one text is for all.
    """

    __pydantic_config__ = _STRICT

    segments: tuple[str, ...]
    choice: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyInstance:
    """A drawn instance.

    Attributes:
        options: labels that may be answered, in words; for multi-choice the choices.
        label: index of the target label.
    """

    __pydantic_config__ = _STRICT

    id: str
    texts: tuple[Text, ...]
    options: tuple[str, ...]
    label: _Index


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Whose rationale is shown.

    Attributes:
        name: for people; no two are the same.
        kind: `gold` and `none` (no rationale) are the paper's oracles: their label is the target.
        model: where a method's model comes from, and the SHA-256 of its weights, by name; empty for the oracles.
    """

    __pydantic_config__ = _STRICT

    name: str
    kind: Literal["method", "gold", "none"]
    model: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rationale:
    """A condition on an instance.

    Attributes:
        marks: of what is highlighted; none for the condition `none`.
        tokens: how many are, as the model's tokenizer counts them; for gold as the first model's does.
        gold_tokens: how many of the same tokens are gold; `tokens` is fewer where the text has no more.
        label: that the model predicted; the target label for the oracles.
    """

    __pydantic_config__ = _STRICT

    marks: tuple[Mark, ...]
    tokens: _Index
    gold_tokens: _Index
    label: _Index

    def spans(self, text: str, number: int, segment: int) -> list[Span]:
        """Of one segment, joined where only blanks part them.

        Args:
            text: the segment.
            number: of the instance's text that it belongs to.
        """
        marks = [(start, end) for of, within, start, end in self.marks if (of, within) == (number, segment)]
        return joined(text, marks)


@dataclass(frozen=True, kw_only=True)
class Item:
    """An instance under a condition, in a task.

    Attributes:
        id: says nothing of the condition to somebody who has no manifest.
        instance, condition: indices into the study's.
    """

    __pydantic_config__ = _STRICT

    id: str
    task: TaskName
    instance: _Index
    condition: _Index


@dataclass(frozen=True, kw_only=True)
class Study:
    """All of a study; what it holds decides its identifier.

    Attributes:
        corpus: name, digest, split, and the settings that it was read with.
        raters: fewest annotators who judge an item that anybody judges.
        code: version of the package.
        rationales: by instance, then by condition.
        items: that somebody judges.
        sheets: by annotator and task, ids of the items in the order in which they are shown.
        notes: what was found worth telling when it was made.
    """

    __pydantic_config__ = _STRICT

    seed: int
    raters: int
    corpus: Mapping[str, str]
    code: str
    conditions: tuple[Condition, ...]
    instances: tuple[StudyInstance, ...]
    rationales: tuple[tuple[Rationale, ...], ...]
    items: tuple[Item, ...]
    sheets: Mapping[str, Mapping[TaskName, tuple[str, ...]]]
    notes: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """16 hex digits over all of it."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def by_id(self) -> Mapping[str, Item]:
        """The items."""
        return {item.id: item for item in self.items}

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Those that it has, in their order."""
        found = {item.task for item in self.items}
        return tuple(task for name, task in TASKS.items() if name in found)

    def rationale(self, item: Item) -> Rationale:
        """What is shown of an item."""
        return self.rationales[item.instance][item.condition]

    def shown_in(self, task: TaskName) -> Sequence[int]:
        """Indices of the conditions of a task."""
        return [
            number
            for number, condition in enumerate(self.conditions)
            if condition.kind != "none" or TASKS[task].without_rationale
        ]

    def content(self) -> dict[str, Any]:
        """In plain values."""
        values = TypeAdapter(Study).dump_python(self, mode="json")
        return {name: values[name] for name in Study.__dataclass_fields__}


def write_study(folder: Path, study: Study) -> None:
    """Write the manifest, which makes a folder a study."""
    content = {"format": FORMAT, "version": VERSION, "id": study.id, **study.content()}
    replace_text(folder / MANIFEST, json.dumps(content, indent=1))


def read_study(folder: str | Path) -> Study:
    """A study that was made before.

    Raises:
        UserError: if the folder holds none, one of another version, or one that was changed.
    """
    file = Path(folder).expanduser() / MANIFEST
    if not file.is_file():
        raise UserError(f"{str(folder)!r} is no study (no {MANIFEST}); make one first, or give its folder")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError("it is something else")
        version, recorded = values.pop("version", None), values.pop("id", None)
        if version != VERSION:
            raise UserError(f"{str(file)!r} is of version {version!r}, and this package reads {VERSION}")
        study = TypeAdapter(Study).validate_python(values)
        _check(study)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise UserError(f"{str(file)!r} is damaged: {_reason(error)}; make the study again") from None
    if study.id != recorded:
        raise UserError(f"{str(file)!r} was changed since the study was made; make it again, or take it from a backup")
    return study


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return one_line(error)


def _check(study: Study) -> None:
    """What types alone do not say; an index that reaches too far raises an `IndexError`."""
    for instance, rationales in zip(study.instances, study.rationales, strict=True):
        for _, rationale in zip(study.conditions, rationales, strict=True):
            instance.options[rationale.label]
            for text, segment, start, end in rationale.marks:
                if not start < end <= len(instance.texts[text].segments[segment]):
                    raise ValueError(f"a mark of instance {instance.id!r} reaches beyond its text")
    for item in study.items:
        study.rationale(item)
    for sheet in study.sheets.values():
        for task, ids in sheet.items():
            if any(study.by_id[name].task != task for name in ids):
                raise ValueError("a sheet holds an item of another task")
