"""Sources made of strings, and what every corpus with labels alone has to keep."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import pytest

from unirex_ray.config import DataConfig
from unirex_ray.data.files.source import Source
from unirex_ray.data.schema import SPLITS, Corpus
from unirex_ray.errors import UserError


def source(files: Mapping[str, str | bytes]) -> Source:
    data = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
    return Source("corpus", data.get, tuple(data))


def rows(corpus: Corpus, *splits: str) -> list[tuple[str, tuple[str, ...], int]]:
    """Id, segments and label of every instance of these splits."""
    instances = chain.from_iterable(corpus.splits[split] for split in SPLITS if split in splits or not splits)
    return [(instance.id, instance.inputs[0].segments, instance.label) for instance in instances]


def sizes(corpus: Corpus) -> list[int]:
    return [len(corpus.splits[split]) for split in SPLITS]


def assert_sound(corpus: Corpus, total: int) -> None:
    """Nothing is lost, nothing comes twice, nothing has gold."""
    instances = [instance for split in SPLITS for instance in corpus.splits[split]]
    assert len({instance.id for instance in instances}) == len(instances) == total
    assert all(len(instance.inputs) == 1 and instance.inputs[0].gold is None for instance in instances)
    assert not any(corpus.has_gold(split) for split in SPLITS)


def refused(load: Any, files: Mapping[str, str | bytes], **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(source(files), DataConfig(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)
