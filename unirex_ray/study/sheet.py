"""What one annotator gets to see: texts, highlights and questions, and nothing that the task hides.

Forms, Label Studio's tasks, Argilla's records and tables are all made of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unirex_ray.study.manifest import Item, Study
from unirex_ray.study.rationales import runs
from unirex_ray.study.tasks import TASKS, Task


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A segment of a text.

    Attributes:
        choice: that its text stands for; empty for all, and for the second of a pair.
        runs: the segment cut into stretches, each with whether it is highlighted.
    """

    choice: str
    runs: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for text, _ in self.runs)


@dataclass(frozen=True, kw_only=True)
class Page:
    """An item as it is shown.

    Attributes:
        item: its id.
        options: what the question for a label offers.
        predicted: the label that is shown; None where the task hides it.
    """

    item: str
    passages: tuple[Passage, ...]
    options: tuple[str, ...]
    predicted: str | None

    @property
    def highlighted(self) -> bool:
        """Whether anything is."""
        return any(marked for passage in self.passages for _, marked in passage.runs)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A task's pages in the order in which an annotator sees them."""

    task: Task
    pages: tuple[Page, ...]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All that an annotator has to do.

    Attributes:
        study: its identifier.
    """

    study: str
    annotator: str
    parts: tuple[Part, ...]


def sheet_of(study: Study, annotator: str) -> Sheet:
    """An annotator's sheet."""
    parts = [
        Part(task=TASKS[task], pages=tuple(page_of(study, study.by_id[name]) for name in ids))
        for task, ids in study.sheets[annotator].items()
    ]
    return Sheet(study=study.id, annotator=annotator, parts=tuple(parts))


def page_of(study: Study, item: Item) -> Page:
    """An item as it is shown."""
    instance, rationale = study.instances[item.instance], study.rationale(item)
    predicted = instance.options[rationale.label] if TASKS[item.task].shows_label else None
    return Page(
        item=item.id,
        passages=tuple(passages(study, item.instance, item.condition)),
        options=instance.options,
        predicted=predicted,
    )


def passages(study: Study, instance: int, condition: int) -> Sequence[Passage]:
    """An instance's texts with what a condition highlights; both by their index."""
    rationale = study.rationales[instance][condition]
    return [
        Passage(
            choice=text.choice if segment == 0 else "",
            runs=tuple(runs(content, rationale.spans(content, number, segment))),
        )
        for number, text in enumerate(study.instances[instance].texts)
        for segment, content in enumerate(text.segments)
    ]
