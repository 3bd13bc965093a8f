"""A new study in words."""

from __future__ import annotations

from collections import Counter
from statistics import mean

from unirex_ray.report.table import ReportTable, number_text
from unirex_ray.study.manifest import Study
from unirex_ray.study.simulated import Simulated


def conditions_table(study: Study) -> ReportTable:
    """What is judged: how often each model predicts the target label, and how large rationales are."""
    numbers = sorted({number for task in study.tasks for number in study.shown_in(task.name)})
    conditions = [study.conditions[number] for number in numbers]
    right = [
        mean(of[number].label == instance.label for instance, of in zip(study.instances, study.rationales, strict=True))
        for number in numbers
    ]
    tokens = [mean(of[number].tokens for of in study.rationales) for number in numbers]
    kinds = [condition.kind for condition in conditions]
    return ReportTable(
        title=f"Study {study.id}: {len(study.instances)} instances of {study.corpus['name']}, {study.corpus['split']}",
        lead={"Method": [condition.name for condition in conditions]},
        scores={
            "Predicts the target (%)": [
                number_text(100 * share, 2) if kind == "method" else "-"
                for share, kind in zip(right, kinds, strict=True)
            ],
            "Tokens shown": [number_text(size, 1) for size in tokens],
            "Model": [condition.model.get("trial_id", "-") for condition in conditions],
        },
        raw={},
        remarks=[*design_in_words(study), *study.notes],
    )


def design_in_words(study: Study) -> list[str]:
    """Who judges how much, a sentence per task."""
    told = []
    for task in study.tasks:
        judged = Counter(name for sheet in study.sheets.values() for name in sheet[task.name])
        of_all = len(study.instances) * len(study.shown_in(task.name))
        raters = (
            f"{min(judged.values())}"
            if len({*judged.values()}) == 1
            else (f"{min(judged.values())} to {max(judged.values())}")
        )
        told.append(
            f"{task.title} {len(study.sheets)} annotators judge {len(study.instances)} items each, every text once: "
            f"{len(judged)} of the {of_all} pairs of text and condition, each by {raters}."
        )
    return told


def simulated_in_words(simulated: Simulated) -> str:
    """What simulated annotators are, and how often they were right."""
    shares = ", ".join(f"{name} {100 * mean(of):.1f}" for name, of in simulated.accuracy.items())
    return (
        f"Simulated annotators, no people (bags of words that learned from {simulated.train_instances} train "
        f"instances), accuracy in %: {shares}."
    )
