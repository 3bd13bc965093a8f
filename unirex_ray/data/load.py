"""Corpora by name: read, checked, and cut to `data.limit`."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from unirex_ray.config import DataConfig
from unirex_ray.data import eraser, treebank
from unirex_ray.data.sample import stratified_sample
from unirex_ray.data.schema import SPLITS, Corpus, Input, Instance
from unirex_ray.data.source import Source, open_source
from unirex_ray.errors import UserError


def load_corpus(config: DataConfig) -> Corpus:
    """Read the corpus that `data.name` names, and keep `data.limit` instances of each split.

    Raises:
        UserError: for an unknown name, a missing or wrong source, broken files, an empty split, a label that the train
            split lacks, or a rationale that reaches beyond its text.
    """
    check_name(config.name)
    if config.labels is not None and config.name != "eraser":
        raise UserError(f"data.labels is for data.name=eraser alone; leave it out for data.name={config.name}")
    corpus = _LOADERS[config.name](config)
    check_corpus(corpus)
    if config.limit is None:
        return corpus
    corpus = replace(
        corpus,
        splits={split: limit(instances, config.limit, seed=config.seed) for split, instances in corpus.splits.items()},
    )
    _check_labels(corpus, f"within data.limit = {config.limit}; raise it")
    return corpus


def check_name(name: str) -> None:
    """Refuse an unknown corpus.

    Raises:
        UserError: listing the known ones.
    """
    if name not in _LOADERS:
        close = difflib.get_close_matches(name, _LOADERS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UserError(f"unknown data.name = {name!r}{hint}; choose one of {', '.join(_LOADERS)}")


def limit(instances: Sequence[Instance], size: int, *, seed: int) -> tuple[Instance, ...]:
    """A seeded sample, stratified by label and nested, in the original order."""
    drawn = stratified_sample([instance.label for instance in instances], size, seed=seed)
    return tuple(instances[index] for index in drawn)


def check_corpus(corpus: Corpus) -> None:
    """Refuse a corpus that cannot be trained and evaluated on.

    Raises:
        UserError: naming the split or the instance, and what is wrong.
    """
    seen: set[str] = set()
    for split in SPLITS:
        if not corpus.splits[split]:
            raise UserError(f"the {split} split of {corpus.name} is empty; every split needs instances")
        for instance in corpus.splits[split]:
            where = f"{corpus.name}, {split}, instance {instance.id!r}"
            if instance.id in seen:
                raise UserError(f"{where}: the id comes twice")
            seen.add(instance.id)
            choices = len(corpus.labels) if corpus.multi_choice else 1
            if len(instance.inputs) != choices:
                raise UserError(f"{where}: must have {choices} inputs, but has {len(instance.inputs)}")
            if not 0 <= instance.label < len(corpus.labels):
                raise UserError(f"{where}: label {instance.label} must be from 0 to {len(corpus.labels) - 1}")
            for text in instance.inputs:
                _check_input(text, where)
    _check_labels(corpus, "")


def _check_input(text: Input, where: str) -> None:
    if not 1 <= len(text.segments) <= 2:
        raise UserError(f"{where}: must have one or two texts, but has {len(text.segments)}")
    for segment in text.segments:
        if not segment.strip():
            raise UserError(f"{where}: a text is empty")
        try:
            segment.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: character {error.start} is half of a surrogate pair, not a character") from None
    for number, start, end in text.gold or ():
        size = len(text.segments[number]) if 0 <= number < len(text.segments) else 0
        if not 0 <= start < end <= size:
            raise UserError(f"{where}: rationale [{start}, {end}) must be within its text of {size} characters")


def _check_labels(corpus: Corpus, where: str) -> None:
    counts = Counter(instance.label for instance in corpus.splits["train"])
    missing = [name for index, name in enumerate(corpus.labels) if not counts[index]]
    if missing:
        raise UserError(f"the train split of {corpus.name} has no instance of {', '.join(missing)} {where}".rstrip())


def _reviews(config: DataConfig) -> Corpus:
    from unirex_ray.data.reviews import make_reviews

    if config.source is not None:
        raise UserError(f"data.source = {config.source!r}: data.name=reviews is generated and reads no files")
    return make_reviews(config.seed)


def _sst(config: DataConfig) -> Corpus:
    return treebank.load_treebank(_source(config, treebank.FILES.values(), "give trainDevTestTrees_PTB.zip"))


def _movies(config: DataConfig) -> Corpus:
    return eraser.load_movies(_source(config, eraser.FILES.values(), "give ERASER's movies.tar.gz or its folder"))


def _cose(config: DataConfig) -> Corpus:
    return eraser.load_cose(_source(config, eraser.FILES.values(), "give ERASER's cose.tar.gz or its folder"))


def _eraser(config: DataConfig) -> Corpus:
    if config.labels is None:
        raise UserError("data.name=eraser needs data.labels: the values of 'classification', in class order")
    if len(set(config.labels)) != len(config.labels) or len(config.labels) < 2:
        raise UserError(f"data.labels must be at least two different labels, but got {', '.join(config.labels)!r}")
    remedy = "give an ERASER corpus as its .tar.gz or folder"
    return eraser.load_eraser(_source(config, eraser.FILES.values(), remedy), config.labels)


def _source(config: DataConfig, files: Collection[str], remedy: str) -> Source:
    if config.source is None:
        raise UserError(f"data.name={config.name} needs data.source; {remedy}")
    return open_source(config.source, tuple(files), remedy)


_LOADERS: dict[str, Callable[[DataConfig], Corpus]] = {
    "reviews": _reviews,
    "sst": _sst,
    "movies": _movies,
    "cose": _cose,
    "eraser": _eraser,
}
