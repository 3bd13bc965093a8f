"""Simulated annotators: students in the place of people, for a dry run and as a cheap proxy. They are no people.

For each condition a student learns from the highlighted words of train instances alone which label the model predicted
(forward simulation; for the oracles, which label is the target). A student sees a bag of words: it knows no word order
and nothing that the train instances do not teach, and a rationale that spells the label in a code of its own would
convince it. Its accuracy is reported beside that of people and never mixed with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from unirex_ray.errors import DamagedFileError, one_line
from unirex_ray.study.answers import own_format
from unirex_ray.study.make import Drawn
from unirex_ray.study.manifest import Condition, Rationale, Study, StudyInstance
from unirex_ray.study.rationales import runs
from unirex_ray.study.tasks import FORWARD, RATING

SIMULATED = "simulated.json"
"""File in a study with the students' accuracy; the folder `simulated` beside it has their answers to the sheets."""
FORMAT = "unirex_ray simulated annotators"

Probabilities = NDArray[np.float64]
"""By simulated annotator, instance and label."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What simulated annotators make of a study's instances.

    Attributes:
        train_instances: that each of them learned from, drawn with replacement.
        accuracy: of forward simulation, in [0, 1], by the condition's name; one per simulated annotator.
        files: their answers to the study's sheets, by annotator, in the format of answer files.
    """

    train_instances: int
    accuracy: Mapping[str, Sequence[float]]
    files: Mapping[str, Mapping[str, Any]]


def simulate(study: Study, train: Drawn) -> Simulated:
    """Train as many students per condition as there are annotators, each on a sample of its own, and ask them.

    Args:
        train: instances of one set of labels, of the train split; at least one.
    """
    labels = len(study.instances[0].options)
    truth = np.array([[rationale.label for rationale in of] for of in study.rationales])
    seeds = np.random.SeedSequence(study.seed).spawn(len(study.sheets))
    probabilities = []
    for number, condition in enumerate(study.conditions):
        learned = _visible(train.instances, train.rationales, number, condition)
        asked = _visible(study.instances, study.rationales, number, condition)
        targets = np.array([of[number].label for of in train.rationales])
        probabilities.append(np.stack([_student(learned, targets, asked, labels, seed) for seed in seeds]))
    accuracy = {
        condition.name: [float(share) for share in (of_condition.argmax(-1) == truth[:, number]).mean(1)]
        for number, (condition, of_condition) in enumerate(zip(study.conditions, probabilities, strict=True))
    }
    files = {
        annotator: own_format(study.id, annotator, _answers(study, annotator, number, probabilities), simulated=True)
        for number, annotator in enumerate(study.sheets)
    }
    return Simulated(train_instances=len(train.instances), accuracy=accuracy, files=files)


def _visible(
    instances: Sequence[StudyInstance],
    rationales: Sequence[Sequence[Rationale]],
    number: int,
    condition: Condition,
) -> list[str]:
    """What a student reads of each instance: its highlighted words, or where nothing is ever highlighted, all."""
    found = []
    for instance, of in zip(instances, rationales, strict=True):
        words = [
            part
            for position, text in enumerate(instance.texts)
            for segment, content in enumerate(text.segments)
            for part, marked in runs(content, of[number].spans(content, position, segment))
            if marked or condition.kind == "none"
        ]
        found.append(" ".join(words))
    return found


def _student(
    learned: Sequence[str],
    targets: NDArray[np.int64],
    asked: Sequence[str],
    labels: int,
    seed: np.random.SeedSequence,
) -> Probabilities:
    """A student's probability of each label, by instance."""
    draws = np.random.default_rng(seed).integers(len(learned), size=len(learned))
    probabilities = np.zeros((len(asked), labels))
    known = np.unique(targets[draws])
    if len(known) == 1:  # the model predicts one label: there is nothing else to learn
        probabilities[:, known] = 1.0
        return probabilities
    # Every stretch between blanks is a word, punctuation too: models mark it.
    student = make_pipeline(TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True), LogisticRegression(C=10.0))
    student.fit([learned[draw] for draw in draws], targets[draws])
    probabilities[:, student[-1].classes_] = student.predict_proba(asked)
    return probabilities


def _answers(study: Study, annotator: str, number: int, probabilities: Sequence[Probabilities]) -> list[dict[str, Any]]:
    """A simulated annotator's answers to a sheet; its probabilities are put on the scales of people."""
    answers = []
    for name in (name for ids in study.sheets[annotator].values() for name in ids):
        item = study.by_id[name]
        of_labels = probabilities[item.condition][number, item.instance]
        answer: dict[str, Any] = {"item": name}
        if item.task == FORWARD.name:
            sure = (of_labels.max() * len(of_labels) - 1) / (len(of_labels) - 1)
            answer |= {"label": int(of_labels.argmax()), "confidence": _on_scale(sure, len(FORWARD.questions[1].scale))}
        else:
            agrees = of_labels[study.rationale(item).label]
            answer["alignment"] = _on_scale(agrees, len(RATING.questions[0].scale))
        answers.append(answer)
    return answers


def _on_scale(share: float, size: int) -> int:
    """A number in [0, 1] on a scale from 1 to `size`, in equal steps."""
    return 1 + min(size - 1, int(share * size))


def write_simulated(folder: Path, study: Study, simulated: Simulated) -> None:
    """Write accuracies and answers into a study's folder."""
    content = {
        "format": FORMAT,
        "study": study.id,
        "train_instances": simulated.train_instances,
        "accuracy": {name: list(shares) for name, shares in simulated.accuracy.items()},
    }
    (folder / SIMULATED).write_text(json.dumps(content, indent=1), encoding="utf-8")
    answers = folder / Path(SIMULATED).stem
    answers.mkdir(exist_ok=True)
    for annotator, values in simulated.files.items():
        (answers / f"{annotator}.json").write_text(json.dumps(values, indent=1), encoding="utf-8")


def read_simulated(folder: Path, study: Study) -> tuple[int, dict[str, list[float]]] | None:
    """How many train instances simulated annotators learned from, and their accuracy; None where there are none.

    Raises:
        DamagedFileError: where the file is not the study's.
    """
    file = folder / SIMULATED
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values["format"] != FORMAT or values["study"] != study.id:
            raise ValueError("it belongs to another study")
        names = [condition.name for condition in study.conditions]
        return int(values["train_instances"]), {name: [float(x) for x in values["accuracy"][name]] for name in names}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{str(file)!r} is damaged: {one_line(error)}; make the study again") from None
