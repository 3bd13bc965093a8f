"""Evaluating trained models on any corpus, of their own task or another one (paper, section 4.7)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from unirex_ray.config import Config, Tree, build_config, to_yaml
from unirex_ray.data.encode import encode_corpus
from unirex_ray.data.highlight import HighlightedInstance
from unirex_ray.data.load import load_corpus
from unirex_ray.data.schema import SPLITS, Corpus, Split
from unirex_ray.errors import UserError
from unirex_ray.files import writable_folder
from unirex_ray.inference.find import TrainedModel, find_models, of_method
from unirex_ray.inference.labels import labels_in_words, match_labels
from unirex_ray.metrics.instance_file import INSTANCES, to_parquet
from unirex_ray.metrics.table import EXTRACTION_S, TrialMetrics
from unirex_ray.report.html import rationale_page
from unirex_ray.tracking.choose import store_of
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.protocol import evaluation_settings
from unirex_ray.tracking.provenance import code_version
from unirex_ray.tracking.records import Evaluation
from unirex_ray.tracking.store import GIT_VERSION, RunStore
from unirex_ray.training.evaluate import make_evaluator
from unirex_ray.training.explain import highlight_results, shown_instances
from unirex_ray.training.runtime import LocalRuntime, forward_plan


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A model's metrics on a corpus.

    Attributes:
        instances: results by instance, see `metrics.instance_file`.
        highlights: some instances with their rationales.
        notes: what loading and truncation found worth telling.
    """

    evaluation: Evaluation
    instances: bytes
    highlights: tuple[HighlightedInstance, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EvaluatedFolder:
    """A folder's models on one split of one corpus.

    Attributes:
        file: that the evaluations were written to.
        store: that they were recorded in.
    """

    evaluations: Sequence[Evaluation]
    config: Config
    file: Path
    store: MlflowStore


def evaluate_folder(
    folder: str,
    tree: Tree,
    *,
    split: Split = "test",
    label_map: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = print,
) -> EvaluatedFolder:
    """Evaluate a folder's models, record them one by one, and write one file.

    Args:
        folder: see `find_models`.
        tree: as the user gave it; output and store are the sweep's where it names none, the methods all.
        tell: is given a line for each model.

    Raises:
        UserError: as `find_models` and `evaluate`; for an output that cannot be written.
    """
    found = find_models(Path(folder).expanduser(), trust_remote_code=build_config(tree).model.trust_remote_code)
    models = of_method(found.models, tree.get("method"))
    config = build_config({"output": str(found.output)}, tree)
    output, corpus = writable_folder(config.output), load_corpus(config.data)
    evaluations = evaluate(models, corpus, config, split=split, label_map=label_map)
    store, done = MlflowStore(store_of(config)), list[Evaluation]()
    for evaluated in evaluations:
        record(store, evaluated, config, folder)
        for note in () if done else evaluated.notes:
            tell(note)
        done.append(evaluated.evaluation)
        tell(f"{len(done)} of {len(models)}: {done[-1].method}, seed {done[-1].seed}")
    file = write_evaluations(output, done, config, folder)
    return EvaluatedFolder(evaluations=done, config=config, file=file, store=store)


def check_fit(trained: TrainedModel, corpus: Corpus, split: Split) -> None:
    """Refuse a model that cannot read a corpus.

    Raises:
        UserError: if one of them chooses between several inputs, or has pairs of texts, and the other does not; if the
            model's scores are gold rationales and the split has none.
    """
    if trained.card.multi_choice != corpus.multi_choice:
        kinds = {True: "chooses between several inputs", False: "has one input per instance"}
        raise UserError(
            f"{trained.name} {kinds[trained.card.multi_choice]}, but {corpus.name} {kinds[corpus.multi_choice]}"
        )
    if trained.card.segments not in (None, corpus.segments):
        texts = {1: "one text", 2: "two texts"}
        raise UserError(
            f"{trained.name} reads {texts[trained.card.segments]} per input, but {corpus.name} has "
            f"{texts[corpus.segments]}"
        )
    extractor = trained.card.designs[-1].extractor
    if extractor in ("gold", "inv") and not corpus.has_gold(split):
        raise UserError(f"{trained.name} scores tokens by their gold rationale, and {corpus.name}, {split} has none")


def evaluate(
    models: Sequence[TrainedModel],
    corpus: Corpus,
    config: Config,
    *,
    split: Split = "test",
    label_map: Mapping[str, str] | None = None,
) -> Iterator[Evaluated]:
    """All metrics of each model on a corpus, one model after the other.

    Texts are cut as in training, and never to more than the corpus' own limit; `train.precision = auto` is that of each
    model's training.

    Args:
        label_map: see `match_labels`.

    Raises:
        UserError: before the first model is read, where one of them does not fit.
    """
    class_map = []
    for trained in models:
        check_fit(trained, corpus, split)
        class_map.append(None if corpus.multi_choice else match_labels(trained.card.labels, corpus.labels, label_map))
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    runtime = LocalRuntime(config.output, gpu=bool(config.train.gpu))
    return (_evaluated(*pair, corpus, config, split, runtime) for pair in zip(models, class_map, strict=True))


def _evaluated(
    trained: TrainedModel,
    class_map: tuple[int, ...] | None,
    corpus: Corpus,
    config: Config,
    split: Split,
    runtime: LocalRuntime,
) -> Evaluated:
    model, tokenizer = trained.load()
    card = trained.card
    if config.train.precision == "auto":
        config = config.changed({"train.precision": trained.precision})
    length = config.data.max_length or min(card.max_length, corpus.max_length or card.max_length)
    encoded = encode_corpus(corpus, tokenizer, max_length=length, cache=config.data.cache)
    data = encoded.splits[split]
    plan = forward_plan(config.train, runtime.device)
    evaluator = make_evaluator(model.to(runtime.device), encoded, config, plan, runtime, class_map=class_map)
    results = evaluator(data, keep_scores=True)
    metrics = results.metrics
    for key, value in metrics.items():
        if not math.isfinite(value):
            raise UserError(
                f"{trained.name}: {split}/{key} is {value} on {corpus.name}; the model is damaged, train it again"
            )
    seconds = {EXTRACTION_S.key: evaluator.stopwatch.per_instance}
    evaluation = Evaluation(
        trial_id=trained.trial_id,
        method=card.method,
        seed=trained.seed,
        trained_on=trained.trained_on,
        trained_digest=trained.trained_digest,
        corpus=corpus.name,
        digest=corpus.digest(),
        split=split,
        labels=labels_in_words(card.labels, corpus.labels, class_map),
        metrics=TrialMetrics(**{split: metrics}, time=seconds),
        settings=evaluation_settings(max_length=length, bf16=evaluator.bf16),
        protocol=trained.protocol,
    )
    highlights = highlight_results(
        model, data, corpus.splits[split], corpus.labels, results, numbers=shown_instances(data)
    )
    if runtime.device.type == "cuda":
        del model, evaluator
        torch.cuda.empty_cache()
    about = {"method": card.method, "seed": trained.seed, "data_digest": encoded.digest}
    instances = to_parquet({split: results.instances}, encoded.labels, about)
    notes = tuple(note for note in encoded.notes if not note.startswith(tuple(f"{s}: " for s in SPLITS if s != split)))
    return Evaluated(evaluation=evaluation, instances=instances, highlights=highlights, notes=notes)


def record(store: RunStore, evaluated: Evaluated, config: Config, folder: str) -> None:
    """Put an evaluation into the store, with all that is needed to repeat it.

    Args:
        folder: that the model was found in.
    """
    evaluation = evaluated.evaluation
    title = (
        f"{evaluation.method}, seed {evaluation.seed}, trained on {evaluation.trained_on}: "
        f"{evaluation.corpus}, {evaluation.split}"
    )
    data = {key: value for key, value in config.flat().items() if key.startswith("data.")}
    store.log_evaluation(
        evaluation,
        params={"model": folder, **data, **evaluation.settings},
        tags={GIT_VERSION: code_version()},
        files={
            "rationales.html": rationale_page(evaluated.highlights, title=title).encode(),
            "config.yaml": to_yaml(config).encode(),
            INSTANCES: evaluated.instances,
        },
    )


def write_evaluations(output: Path, evaluations: Sequence[Evaluation], config: Config, folder: str) -> Path:
    """Write evaluations of a folder's models on one split of one corpus, with the configuration; returns the file."""
    first = evaluations[0]
    methods = dict.fromkeys(evaluation.method for evaluation in evaluations)
    settings = first.settings["data.max_length"], first.settings["train.precision"]
    where = Path(folder).absolute().name, first.corpus, first.digest[:8]
    parts = ("evaluation", *where, *settings, *(methods if len(methods) == 1 else ()), first.split)
    file = output / f"{'-'.join(parts)}.json"
    content = {
        "config": config.model_dump(mode="json"),
        "evaluations": [{**asdict(evaluation), "metrics": evaluation.metrics.flat()} for evaluation in evaluations],
    }
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return file


def trial_is_recorded(store: RunStore, evaluation: Evaluation) -> bool:
    """Whether the store knows the trial that trained the model, so that a comparison finds the evaluation."""
    sweeps = store.sweeps(evaluation.trained_on)
    return any(trial.spec.trial_id == evaluation.trial_id for sweep in sweeps for trial in sweep.trials)
