"""Corpora by name: read, checked, kept as Arrow, and cut to `data.limit`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from unirex_ray.config import DataConfig
from unirex_ray.config.plugins import code_of_others, load_registered, registered_names, registered_version
from unirex_ray.data.cache import cache_folder, read_corpus, read_or_make, write_corpus
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.corpora import eraser, hatexplain, labelled, table
from unirex_ray.data.corpora import sst as treebank
from unirex_ray.data.files.source import Source, fingerprint, open_source
from unirex_ray.data.files.splits import table_files
from unirex_ray.data.files.tables import READERS
from unirex_ray.data.instance import Input, Instance, is_blank
from unirex_ray.data.progress_bar import progress_bar
from unirex_ray.data.sample import stratified_sample
from unirex_ray.data.schema import SPLITS, Corpus
from unirex_ray.errors import UserError, did_you_mean

_RULES = 3  # of reading; a new number retires every corpus that was kept


@dataclass(frozen=True, kw_only=True)
class Loader:
    """How a corpus is read; what another distribution registers to have one of its own.

    Attributes:
        read: from its files and the options of `data`, to a corpus with the name that it is registered by.
        files: must be there.
        optional: files and folders that are read where they exist.
        select: which of a folder's files are read beside them.
        remedy: what to give as `data.source`.
        options: keys of `data` that are for this corpus beside name, source and seed.
    """

    read: Callable[[Source, DataConfig], Corpus]
    files: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    select: Callable[[Sequence[str]], Iterable[str]] | None = None
    remedy: str = ""
    options: tuple[str, ...] = ()


def load_corpus(config: DataConfig) -> Corpus:
    """Read the corpus that `data.name` names, and keep `data.limit` instances of each split.

    A corpus that was read before comes from the cache, if its files still hold the same bytes.

    Raises:
        UserError: for an unknown name, an option that is for another corpus, a missing or wrong source, broken files,
            an empty split, a label that the train split lacks, or a rationale that reaches beyond its text.
    """
    check_name(config.name)
    _check_options(config)
    loader = _loader(config.name)
    corpus = _generated(config) if loader is None else _from_files(config, loader)
    if config.limit is None:
        return corpus
    splits = {split: _limited(table, config.limit, seed=config.seed) for split, table in corpus.splits.items()}
    corpus = replace(corpus, splits=splits)
    _check_labels(corpus, f"within data.limit = {config.limit}; raise it")
    return corpus


def train_sample(corpus: Corpus, config: DataConfig) -> Corpus:
    """The corpus with the `data.train_limit` train instances that a trial learns from; dev and test stay as they are.

    Raises:
        UserError: if there are not so many, or none of them has one of the labels.
    """
    size = len(corpus.splits["train"])
    if config.train_limit is None or config.train_limit == size:
        return corpus
    if config.train_limit > size:
        raise UserError(f"data.train_limit = {config.train_limit}: {corpus.name} has {size} train instances; lower it")
    train = _limited(corpus.splits["train"], config.train_limit, seed=config.seed)
    corpus = replace(corpus, splits={**corpus.splits, "train": train})
    _check_labels(corpus, f"within data.train_limit = {config.train_limit}; raise it")
    return corpus


def check_name(name: str) -> None:
    """Refuse an unknown corpus.

    Raises:
        UserError: listing the known ones; for one that is registered by another distribution, but broken or taken.
    """
    _loader(name)


def _loader(name: str) -> Loader | None:
    """How a corpus is read; None for the one that is generated."""
    own = ("reviews", *_LOADERS)
    loader = load_registered("corpus", name, Loader, own) or _LOADERS.get(name)
    if loader is None and name != "reviews":
        known = (*own, *registered_names("corpus"))
        raise UserError(
            f"unknown data.name = {name!r}{did_you_mean(name, known)}; choose one of {', '.join(known)} (one that "
            "another package registers has to be installed on every node)"
        )
    return loader


def _check_options(config: DataConfig) -> None:
    loader = _loader(config.name)
    allowed = loader.options if loader else ()
    for option in dict.fromkeys(option for loader in _LOADERS.values() for option in loader.options):
        users = [name for name, loader in _LOADERS.items() if option in loader.options]
        if getattr(config, option) is not None and option not in allowed:
            raise UserError(
                f"data.{option} is for data.name={' and '.join(users)} alone; leave it out for data.name={config.name}"
            )
    if "labels" in allowed and config.labels is None:
        raise UserError(f"data.name={config.name} needs data.labels: the values of the label, in class order")
    if config.labels is not None and (len(set(config.labels)) != len(config.labels) or len(config.labels) < 2):
        raise UserError(f"data.labels must be at least two different labels, but got {', '.join(config.labels)!r}")
    if config.task_metric == "binary_f1" and len(config.labels or ()) != 2:
        raise UserError(
            "data.task_metric = binary_f1 is the F1 score of the second of two classes, "
            f"but data.labels has {len(config.labels or ())}"
        )


def _limited(table: InstanceTable, size: int, *, seed: int) -> InstanceTable:
    """A seeded sample, stratified by label and nested, in the original order."""
    drawn = stratified_sample(table.labels.tolist(), size, seed=seed)
    return InstanceTable.from_instances(table[index] for index in drawn)


def check_corpus(corpus: Corpus) -> None:
    """Refuse a corpus that cannot be trained and evaluated on.

    Raises:
        UserError: naming the split or the instance, and what is wrong.
    """
    seen: set[str] = set()
    for split in SPLITS:
        if not len(corpus.splits[split]):
            raise UserError(f"the {split} split of {corpus.name} is empty; every split needs instances")
        what = f"checking {corpus.name}, {split}"
        for instance in progress_bar(corpus.splits[split], what, len(corpus.splits[split])):
            if instance.id in seen:
                raise UserError(f"{_location(corpus, split, instance)}: duplicate id")
            seen.add(instance.id)
            problem = _problem(instance, corpus)
            if problem:
                raise UserError(f"{_location(corpus, split, instance)}: {problem}")
    _check_labels(corpus, "")


def _location(corpus: Corpus, split: str, instance: Instance) -> str:
    return f"{corpus.name}, {split}, instance {instance.id!r}"


def _problem(instance: Instance, corpus: Corpus) -> str | None:
    if _half_a_character(instance.id) is not None:
        return "the id holds half of a surrogate pair, not a character"
    choices = len(corpus.labels) if corpus.multi_choice else 1
    if len(instance.inputs) != choices:
        return f"must have {choices} inputs, but has {len(instance.inputs)}"
    if not 0 <= instance.label < len(corpus.labels):
        return f"label {instance.label} must be from 0 to {len(corpus.labels) - 1}"
    return next((problem for text in instance.inputs if (problem := _problem_of_input(text))), None)


def _problem_of_input(text: Input) -> str | None:
    if not 1 <= len(text.segments) <= 2:
        return f"must have one or two texts, but has {len(text.segments)}"
    for segment in text.segments:
        if is_blank(segment):
            return "a text is empty"
        place = _half_a_character(segment)
        if place is not None:
            return f"character {place} is half of a surrogate pair, not a character"
    for number, start, end in text.gold or ():
        size = len(text.segments[number]) if 0 <= number < len(text.segments) else 0
        if not 0 <= start < end <= size:
            return f"rationale [{start}, {end}) must be within its text of {size} characters"
    return None


def _half_a_character(text: str) -> int | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def _check_labels(corpus: Corpus, where: str) -> None:
    counts = Counter(corpus.splits["train"].labels.tolist())
    missing = [name for index, name in enumerate(corpus.labels) if not counts[index]]
    if missing:
        raise UserError(f"the train split of {corpus.name} has no instance of {', '.join(missing)} {where}".rstrip())


def _generated(config: DataConfig) -> Corpus:
    from unirex_ray.data.corpora.reviews import make_reviews

    if config.source is not None:
        raise UserError(f"data.source = {config.source!r}: data.name=reviews is generated and reads no files")
    return make_reviews(config.seed)


def _from_files(config: DataConfig, loader: Loader) -> Corpus:
    if config.source is None:
        raise UserError(f"data.name={config.name} needs data.source; {loader.remedy}")
    stamp = fingerprint(config.source, loader.files, loader.remedy, also=loader.optional, choose=loader.select)
    options = config.model_dump(mode="json", include={"name", "seed", *loader.options})
    reader = registered_version("corpus", config.name) or _RULES
    key = f"{reader}-{stamp}-{json.dumps(options, sort_keys=True)}"
    file = cache_folder(config.cache) / f"{config.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.corpus.arrow"

    def read_files() -> Corpus:
        source = open_source(config.source or "", loader.files, loader.remedy)
        with code_of_others("corpus", config.name, "read"):
            corpus = loader.read(source, config)
            if not isinstance(corpus, Corpus):
                raise TypeError(f"its reader must return a Corpus, but returns a {type(corpus).__name__}")
            if corpus.name != config.name:
                raise UserError(
                    f"data.name={config.name} reads a corpus that is named {corpus.name!r}; give it one name"
                )
            check_corpus(corpus)
        return corpus

    return read_or_make(
        config.cache, lambda: read_corpus(file, key), read_files, lambda corpus: write_corpus(file, key, corpus)
    )


_SPLIT_FILES = tuple(eraser.FILES.values())
_DOCUMENTS = ("docs.jsonl", "docs")


def _of_eraser(name: str, read: Callable[[Source], Corpus]) -> Loader:
    return Loader(
        read=lambda source, config: read(source),
        files=_SPLIT_FILES,
        optional=_DOCUMENTS,
        remedy=f"give ERASER's {name}.tar.gz or its folder",
    )


_LOADERS: dict[str, Loader] = {
    "sst": Loader(
        read=lambda source, config: treebank.load_treebank(source),
        files=tuple(treebank.FILES.values()),
        remedy="give trainDevTestTrees_PTB.zip",
    ),
    "movies": _of_eraser("movies", eraser.load_movies),
    "cose": _of_eraser("cose", eraser.load_cose),
    "multirc": _of_eraser("multirc", eraser.load_multirc),
    "esnli": _of_eraser("esnli", eraser.load_esnli),
    "yelp": Loader(
        read=labelled.load_yelp,
        files=("train.csv", "test.csv"),
        remedy="give yelp_review_polarity_csv.tar.gz (Zhang et al., 2015)",
    ),
    "amazon": Loader(
        read=labelled.load_amazon,
        files=("train.csv", "test.csv"),
        remedy="give amazon_review_polarity_csv.tar.gz (Zhang et al., 2015)",
    ),
    "stormfront": Loader(
        read=labelled.load_stormfront,
        files=("annotations_metadata.csv",),
        optional=("all_files",),
        remedy="give the folder of hate-speech-dataset (de Gibert et al., 2018), or an archive of it",
    ),
    "offenseval": Loader(
        read=labelled.load_offenseval,
        files=("olid-training-v1.0.tsv", "testset-levela.tsv", "labels-levela.csv"),
        remedy="give the folder of OLIDv1.0 (Zampieri et al., 2019), or an archive of it",
    ),
    "irony": Loader(
        read=labelled.load_irony,
        files=("SemEval2018-T3-train-taskA_emoji.txt", "SemEval2018-T3_gold_test_taskA_emoji.txt"),
        remedy="give a folder with the two task A files of SemEval-2018 task 3 (Van Hee et al., 2018)",
    ),
    "eraser": Loader(
        read=lambda source, config: eraser.load_eraser(source, config.labels or (), config.task_metric or "macro_f1"),
        files=_SPLIT_FILES,
        optional=_DOCUMENTS,
        remedy="give an ERASER corpus as its .tar.gz or folder",
        options=("labels", "task_metric"),
    ),
    "hatexplain": Loader(
        read=hatexplain.load_hatexplain,
        select=table_files,
        remedy="give a folder with train, validation and test as Hugging Face's `datasets` writes them",
    ),
    "table": Loader(
        read=lambda source, config: table.load_table(source, config, config.labels or ()),
        select=table_files,
        remedy=f"give a {', '.join(READERS)} file, or a folder or archive with one per split",
        options=("labels", "text_columns", "label_column", "rationale_columns", "task_metric"),
    ),
}
