"""Draw a study's instances, extract what is to be judged, and say who judges it."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from unirex_ray.config import Config
from unirex_ray.data.instance import Instance
from unirex_ray.data.schema import Corpus, Split
from unirex_ray.errors import UserError
from unirex_ray.inference.evaluate import check_fit
from unirex_ray.inference.find import TrainedModel, find_models
from unirex_ray.report.table import method_label
from unirex_ray.study.design import assign
from unirex_ray.study.extract import Reader, extract, has_gold, options_of, read_model, shown_texts
from unirex_ray.study.manifest import Condition, Item, Mark, Rationale, Study, StudyInstance
from unirex_ray.study.rationales import parts_word
from unirex_ray.study.tasks import TASKS, TaskName
from unirex_ray.tracking.provenance import code_version

DEFAULT_INSTANCES = 50
"""The paper's."""
MOST_ANNOTATORS = 1000
_ALMOST_ALL = 0.9

Load = Callable[[], Reader]
"""Reads a model from disk: one at a time is held in memory."""

Rationales = tuple[tuple[Rationale, ...], ...]
"""By instance, then by condition."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for.

    Attributes:
        folders: of exported models, or sweeps' outputs.
        methods: of which models are taken; empty for all.
        instances: how many are drawn; None: `DEFAULT_INSTANCES`, or all where there are fewer.
        annotators: how many there are.
        raters: see `design.assign`.
        label_map: see `match_labels`.
        train_instances: most train instances that simulated annotators learn from; 0 for none.
    """

    folders: tuple[str, ...]
    methods: tuple[str, ...] = ()
    split: Split = "test"
    instances: int | None = None
    annotators: int = 5
    raters: int = 2
    tasks: tuple[TaskName, ...] = tuple(TASKS)
    seed: int = 0
    label_map: Mapping[str, str] | None = None
    train_instances: int = 0


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Instances of a split under all conditions.

    Attributes:
        tied: by model's condition, on how many instances the lower index decided, see `rationales.is_tied`.
        cut: by model's condition, how many instances are longer than the model reads.
    """

    instances: tuple[StudyInstance, ...]
    rationales: Rationales
    tied: tuple[int, ...]
    cut: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A study, and what simulated annotators may learn from."""

    study: Study
    train: Drawn


def make_study(request: Request, corpus: Corpus, config: Config, *, tell: Callable[[str], None]) -> Made:
    """All of a study but the files that annotators get.

    Args:
        config: the data, and how models compute.
        tell: is given a line for each model.

    Raises:
        UserError: as `find_models`; where a model cannot read the corpus; where the split has too few instances with
            gold rationales; where there are fewer annotators than raters, or too many.
    """
    if not 1 <= request.annotators <= MOST_ANNOTATORS:
        raise UserError(f"--annotators must be from 1 to {MOST_ANNOTATORS}, but got {request.annotators}")
    if not 1 <= request.raters <= request.annotators:
        raise UserError(f"--raters must be from 1 to the {request.annotators} annotators, but got {request.raters}")
    models = models_of(request, trust_remote_code=config.model.trust_remote_code)
    for _, trained in models:
        check_fit(trained, corpus, request.split)
    if not corpus.has_gold(request.split):
        raise UserError(
            f"{corpus.name}, {request.split} has no gold rationales, whose size all others are cut to; give a corpus "
            "that has them"
        )
    loads = [partial(read_model, trained, corpus, config, request.label_map) for _, trained in models]
    samples = [_draw(request, corpus, loads), _learned_from(request, corpus, loads)]
    test, train, digests = _extract(loads, samples, corpus, tell)
    conditions = _conditions(models, digests)
    items, sheets = _assigned(request, conditions, test)
    study = Study(
        seed=request.seed,
        raters=request.raters,
        corpus=_provenance(corpus, request.split, config),
        code=code_version(),
        conditions=conditions,
        instances=test.instances,
        rationales=test.rationales,
        items=items,
        sheets=sheets,
        notes=_notes(corpus, request.split, conditions, test),
    )
    return Made(study=study, train=train)


def models_of(request: Request, *, trust_remote_code: bool = False) -> list[tuple[Path, TrainedModel]]:
    """The models to be judged, each with its sweep's output as `find_models` has it; the first seed of a configuration.

    Raises:
        UserError: as `find_models`; where no folder holds a method that was asked for.
    """
    found: dict[str, tuple[Path, TrainedModel]] = {}
    for folder in request.folders:
        models = find_models(Path(folder).expanduser(), trust_remote_code=trust_remote_code)
        for trained in models.models:
            found.setdefault(trained.trial_id.rpartition("-s")[0], (models.output.absolute(), trained))
    known = {trained.card.method for _, trained in found.values()}
    if unknown := [method for method in request.methods if method not in known]:
        raise UserError(
            f"no model of method {unknown[0]!r} lies in {', '.join(request.folders)}; choose --methods among "
            f"{', '.join(sorted(known))}"
        )
    return [pair for pair in found.values() if not request.methods or pair[1].card.method in request.methods]


def _draw(request: Request, corpus: Corpus, loads: Sequence[Load]) -> list[Instance]:
    instances = _judged(corpus.splits[request.split], loads)
    most = len(instances)
    if not most:
        raise UserError(f"of no gold rationale of {corpus.name}, {request.split} every model reads something")
    number = min(DEFAULT_INSTANCES, most) if request.instances is None else request.instances
    if not 1 <= number <= most:
        raise UserError(
            f"--instances must be from 1 to {most}, the instances of {corpus.name}, {request.split} of whose gold "
            f"rationale every model reads something, but got {number}"
        )
    drawn = random.Random(f"{request.seed}/instances").sample(range(most), number)
    return [instances[index] for index in sorted(drawn)]


def _learned_from(request: Request, corpus: Corpus, loads: Sequence[Load]) -> list[Instance]:
    if not request.train_instances or not corpus.has_gold("train"):
        return []
    order = list(range(len(corpus.splits["train"])))
    random.Random(f"{request.seed}/train").shuffle(order)
    table = [corpus.splits["train"][index] for index in order[: 2 * request.train_instances]]
    return _judged(table, loads)[: request.train_instances]


def _judged(table: Sequence[Instance], loads: Sequence[Load]) -> list[Instance]:
    """The instances of whose gold rationale every model reads something."""
    instances = list(table)
    read = np.ones(len(instances), dtype=bool)
    for load in loads:
        read &= has_gold(load().encode(instances), instances)
    return [instance for instance, may in zip(instances, read, strict=True) if may]


def _extract(
    loads: Sequence[Load], samples: Sequence[Sequence[Instance]], corpus: Corpus, tell: Callable[[str], None]
) -> tuple[Drawn, Drawn, list[str]]:
    """Both samples under all conditions, and digests of the models' weights; one model in memory at a time."""
    found, digests = [], list[str]()
    for load in loads:
        reader = load()
        found.append([extract(reader, sample) if sample else None for sample in samples])
        digests.append(reader.weights())
        tell(f"{len(found)} of {len(loads)}: {reader.trained.name}")
    drawn = []
    for number, sample in enumerate(samples):
        of_models = [one[number] for one in found]
        known = [one for one in of_models if one is not None]
        drawn.append(
            Drawn(
                instances=tuple(_shown(instance, corpus.labels) for instance in sample),
                rationales=tuple(
                    (*(one.rationales[index] for one in known), *_oracles(instance, known[0].gold[index]))
                    for index, instance in enumerate(sample)
                ),
                tied=tuple(one.tied for one in known),
                cut=tuple(one.cut for one in known),
            )
        )
    return drawn[0], drawn[1], digests


def _shown(instance: Instance, labels: Sequence[str]) -> StudyInstance:
    return StudyInstance(
        id=instance.id,
        texts=shown_texts(instance, labels),
        options=options_of(instance, labels),
        label=instance.label,
    )


def _oracles(instance: Instance, gold: tuple[Mark, ...]) -> tuple[Rationale, Rationale]:
    """Gold, and no rationale.

    Args:
        gold: what the first model reads of it: its tokens are counted, and no more is shown than models may keep.
    """
    size = len(gold)
    shown = Rationale(marks=gold, tokens=size, gold_tokens=size, label=instance.label)
    return shown, Rationale(marks=(), tokens=0, gold_tokens=size, label=instance.label)


def _conditions(models: Sequence[tuple[Path, TrainedModel]], digests: Sequence[str]) -> tuple[Condition, ...]:
    labels = [method_label(trained.card.method) for _, trained in models]
    found = []
    for (output, trained), label, digest in zip(models, labels, digests, strict=True):
        twice = labels.count(label) > 1
        about = {
            "method": trained.card.method,
            "seed": str(trained.seed),
            "trial_id": trained.trial_id,
            "output": str(output),
            "weights": digest,
            "trained_on": trained.trained_on,
            "trained_digest": trained.trained_digest or "",  # not recorded in early exports
            "protocol": trained.protocol or "",
        }
        found.append(Condition(name=f"{label}, {trained.trial_id}" if twice else label, kind="method", model=about))
    return (*found, Condition(name="Gold", kind="gold"), Condition(name="No Rationale", kind="none"))


def _provenance(corpus: Corpus, split: Split, config: Config) -> dict[str, str]:
    settings = {key: json.dumps(value) for key, value in config.flat().items() if key.startswith("data.")}
    return {"name": corpus.name, "digest": corpus.digest(), "split": split, **settings}


def _assigned(
    request: Request, conditions: Sequence[Condition], drawn: Drawn
) -> tuple[tuple[Item, ...], dict[str, dict[TaskName, tuple[str, ...]]]]:
    """Items and sheets, as `Study` has them."""
    # Of the models' weights and the data: whoever knows neither cannot tell a condition from an item's name.
    known = [(condition.name, condition.model.get("weights")) for condition in conditions]
    secret = hashlib.sha256(repr((request.seed, known, drawn.instances)).encode()).hexdigest()
    items: dict[str, Item] = {}
    sheets: dict[str, dict[TaskName, tuple[str, ...]]] = {f"a{n + 1}": {} for n in range(request.annotators)}
    for name in (name for name in TASKS if name in request.tasks):
        shown = [n for n, one in enumerate(conditions) if one.kind != "none" or TASKS[name].without_rationale]
        plan = assign(
            request.annotators,
            len(drawn.instances),
            len(shown),
            raters=request.raters,
            seed=f"{request.seed}/{name}",
        )
        for annotator, pairs in zip(sheets, plan, strict=True):
            of_annotator = []
            for instance, column in pairs:
                condition = shown[column]
                key = hashlib.sha256(f"{secret}/{name}/{instance}/{condition}".encode()).hexdigest()[:12]
                items[key] = Item(id=key, task=name, instance=instance, condition=condition)
                of_annotator.append(key)
            sheets[annotator][name] = tuple(of_annotator)
    return tuple(sorted(items.values(), key=lambda item: item.id)), sheets


def _notes(corpus: Corpus, split: Split, conditions: Sequence[Condition], drawn: Drawn) -> tuple[str, ...]:
    notes = [f"{split}: models were trained on instances of this split"] if split == "train" else []
    for number, (condition, tied) in enumerate(zip(conditions, drawn.tied, strict=False)):  # the oracles come last
        if condition.model["trained_on"] != corpus.name:
            notes.append(f"{condition.name}: trained on {condition.model['trained_on']}, not on {corpus.name}")
        if drawn.cut[number]:
            notes.append(
                f"{condition.name}: {drawn.cut[number]} of {len(drawn.instances)} texts are longer than it reads; they "
                "are shown whole, with no highlight beyond what it reads (of Gold, beyond what "
                f"{conditions[0].name} reads)"
            )
        if tied:
            notes.append(
                f"{condition.name}: on {tied} of {len(drawn.instances)} instances tokens of equal score compete for "
                "the last places, and the first in the text are shown"
            )
        parted = sum(_parts_word(one, of[number]) for one, of in zip(drawn.instances, drawn.rationales, strict=True))
        if parted:
            notes.append(
                f"{condition.name}: on {parted} of {len(drawn.instances)} texts the highlight begins or ends within a "
                "word, as the model reads pieces of words; that may tell it from Gold"
            )
        label, times = Counter(of[number].label for of in drawn.rationales).most_common(1)[0]
        if times >= _ALMOST_ALL * len(drawn.rationales) and not corpus.multi_choice:
            notes.append(
                f"{condition.name}: predicts {corpus.labels[label]!r} on {times} of {len(drawn.rationales)} "
                "instances; whoever always answers so simulates it as well as that"
            )
        short = sum(of[number].tokens < of[number].gold_tokens for of in drawn.rationales)
        if short:
            notes.append(f"{condition.name}: {short} texts have fewer tokens than their gold rationale")
    return tuple(notes)


def _parts_word(instance: StudyInstance, rationale: Rationale) -> bool:
    return any(
        parts_word(content, rationale.spans(content, number, segment))
        for number, text in enumerate(instance.texts)
        for segment, content in enumerate(text.segments)
    )
