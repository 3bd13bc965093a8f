"""What annotators are asked (paper, section 4.8): the two tasks and their questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TaskName = Literal["forward", "rating"]
QuestionName = Literal["label", "confidence", "alignment"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with one answer out of several.

    Attributes:
        title: of its column in tables.
        scale: the answers in words, from 1 up; empty where they are the labels that the instance offers, which are
            numbered from 0.
    """

    name: QuestionName
    title: str
    text: str
    scale: tuple[str, ...] = ()

    def allowed(self, options: int) -> range:
        """The answers as numbers.

        Args:
            options: labels that the instance offers.
        """
        return range(1, len(self.scale) + 1) if self.scale else range(options)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What an annotator does with each item.

    Attributes:
        shows_label: whether the model's predicted label is shown; it is hidden where it is asked for.
        without_rationale: whether the text alone is one of the conditions.
    """

    name: TaskName
    title: str
    instruction: str
    questions: tuple[Question, ...]
    shows_label: bool
    without_rationale: bool

    @property
    def asks_for_label(self) -> bool:
        """Whether one of its questions is answered by a label of the instance."""
        return any(not question.scale for question in self.questions)


FORWARD = Task(
    name="forward",
    title="What did the model predict?",
    instruction=(
        "A model has read each text and predicted a label. The highlighted words are its rationale: what the "
        "prediction rests on. Say which label the model most likely predicted; it may have been wrong. Where nothing "
        "is highlighted, go by the text."
    ),
    questions=(
        Question(name="label", title="Accuracy (%)", text="Which label did the model most likely predict?"),
        Question(
            name="confidence",
            title="Confidence (1-4)",
            text="How confident are you in this answer?",
            scale=("not at all", "slightly", "fairly", "very"),
        ),
    ),
    shows_label=False,
    without_rationale=True,
)

RATING = Task(
    name="rating",
    title="Does the rationale fit the prediction?",
    instruction=(
        "The label that a model predicted stands above each text, and the highlighted words are its rationale. Rate "
        "how well the rationale is aligned with the prediction, whether or not the prediction is right."
    ),
    questions=(
        Question(
            name="alignment",
            title="Alignment (1-5)",
            text="How well is the rationale aligned with the prediction?",
            scale=("not at all", "slightly", "moderately", "well", "completely"),
        ),
    ),
    shows_label=True,
    without_rationale=False,
)

TASKS: dict[TaskName, Task] = {task.name: task for task in (FORWARD, RATING)}
"""In the order in which an annotator does them: ratings show what forward simulation asks for."""

QUESTIONS: tuple[Question, ...] = tuple(question for task in TASKS.values() for question in task.questions)
"""Of all tasks."""
