"""Small studies that no model was needed for."""

from __future__ import annotations

import random
from collections.abc import Sequence

from unirex_ray.study.answers import Answer, Answers
from unirex_ray.study.design import assign
from unirex_ray.study.manifest import Condition, Item, Rationale, Study, StudyInstance, Text
from unirex_ray.study.tasks import TASKS, QuestionName, TaskName

WORDS = [
    "the",
    "plot",
    "was",
    "a",
    "clever",
    "and",
    "moving",
    "surprise",
    "but",
    "its",
    "acting",
    "felt",
    "dull",
    "to",
    "everyone",
    "who",
    "came",
]


def made_study(
    *,
    instances: int = 6,
    methods: Sequence[str] = ("unirex-dlm-fp", "aa-ig"),
    annotators: int = 3,
    raters: int = 1,
    tasks: Sequence[TaskName] = ("forward", "rating"),
    options: tuple[str, ...] = ("negative", "positive"),
    texts: Sequence[str] | None = None,
    seed: int = 0,
) -> Study:
    """A study whose models predict at random and mark one word each."""
    draw = random.Random(seed)
    texts = texts or [" ".join(draw.sample(WORDS, 8)) for _ in range(instances)]
    shown = tuple(
        StudyInstance(id=f"i{n}", texts=(Text(segments=(text,)),), options=options, label=draw.randrange(len(options)))
        for n, text in enumerate(texts)
    )
    conditions = (
        *(
            Condition(name=f"Method {name}", kind="method", model={"method": name, "trial_id": f"s-{name}-0000-s0"})
            for name in methods
        ),
        Condition(name="Gold", kind="gold"),
        Condition(name="No Rationale", kind="none"),
    )
    rationales = tuple(
        tuple(
            Rationale(
                marks=() if condition.kind == "none" else (_a_word(instance.texts[0].segments[0], draw),),
                tokens=int(condition.kind != "none"),
                gold_tokens=1,
                label=draw.randrange(len(options)) if condition.kind == "method" else instance.label,
            )
            for condition in conditions
        )
        for instance in shown
    )
    items, sheets = dict[str, Item](), {f"a{n + 1}": dict[TaskName, tuple[str, ...]]() for n in range(annotators)}
    for name in (name for name in TASKS if name in tasks):
        of_task = [n for n, one in enumerate(conditions) if one.kind != "none" or TASKS[name].without_rationale]
        plan = assign(annotators, len(texts), len(of_task), raters=raters, seed=f"{seed}/{name}")
        for annotator, pairs in zip(sheets, plan, strict=True):
            given = [
                Item(id=f"{name}-{instance}-{of_task[column]}", task=name, instance=instance, condition=of_task[column])
                for instance, column in pairs
            ]
            items |= {item.id: item for item in given}
            sheets[annotator][name] = tuple(item.id for item in given)
    return Study(
        seed=seed,
        raters=raters,
        corpus={"name": "reviews", "digest": "0" * 16, "split": "test"},
        code="0",
        conditions=conditions,
        instances=shown,
        rationales=rationales,
        items=tuple(items.values()),
        sheets=sheets,
    )


def answered(study: Study, *, seed: int = 0, seconds: float | None = 4.0, simulated: bool = False) -> Answers:
    """Answers at random to every item."""
    draw = random.Random(seed)

    def values(item: Item) -> dict[QuestionName, int]:
        options = len(study.instances[item.instance].options)
        return {question.name: draw.choice(question.allowed(options)) for question in TASKS[item.task].questions}

    return Answers(
        answers=tuple(
            Answer(annotator=annotator, item=study.by_id[name], values=values(study.by_id[name]), seconds=seconds)
            for annotator, sheet in study.sheets.items()
            for ids in sheet.values()
            for name in ids
        ),
        simulated=simulated,
    )


def _a_word(text: str, draw: random.Random) -> tuple[int, int, int, int]:
    word = draw.choice(text.split())
    start = text.index(word)
    return 0, 0, start, start + len(word)
