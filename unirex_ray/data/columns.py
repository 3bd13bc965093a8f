"""Instances as a few flat arrays: a million of them fit into memory, travel between processes, and map from a file."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from unirex_ray.data.instance import Input, Instance

Column = NDArray[Any]
Columns = Mapping[str, Column]
"""One-dimensional arrays by name."""

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Strings(Sequence[str]):
    """Texts as UTF-8, one behind the other.

    Attributes:
        utf8: uint8 [bytes].
        offsets: text i lies at offsets[i] to offsets[i + 1]; int64 [texts + 1].
    """

    utf8: Column
    offsets: Column

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> Self:
        """Take texts as they come."""
        utf8, offsets = bytearray(), array("q", [0])
        for text in texts:
            utf8 += text.encode("utf-8", "surrogatepass")
            offsets.append(len(utf8))
        return cls(_frozen(utf8, np.uint8), _frozen(offsets, np.int64))

    @classmethod
    def from_columns(cls, columns: Columns, name: str) -> Self:
        """What `columns` gave."""
        return cls(columns[f"{name}/utf8"], columns[f"{name}/offsets"])

    def columns(self, name: str) -> dict[str, Column]:
        """The arrays by name."""
        return {f"{name}/utf8": self.utf8, f"{name}/offsets": self.offsets}

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        return self.utf8[self.offsets[index] : self.offsets[index + 1]].tobytes().decode("utf-8", "surrogatepass")


@dataclass(frozen=True, eq=False)
class InstanceTable(Sequence[Instance]):
    """Instances that are put together only when they are asked for.

    Attributes:
        labels: int64 [instances].
        inputs: inputs of instance i are inputs[i] to inputs[i + 1]; int64 [instances + 1].
        segments: segments of input j likewise; int64 [inputs + 1].
        texts: all segments.
        known: whether input j has a gold rationale, be it empty; bool [inputs].
        gold: spans of input j are gold[j] to gold[j + 1]; int64 [inputs + 1].
        spans: segment, start and end; int64 [3 * spans].
    """

    ids: Strings
    labels: Column
    inputs: Column
    segments: Column
    texts: Strings
    known: Column
    gold: Column
    spans: Column

    @classmethod
    def from_instances(cls, instances: Iterable[Instance]) -> InstanceTable:
        """Take instances as they come; none of them is kept."""
        if isinstance(instances, InstanceTable):
            return instances
        labels, inputs, segments = array("q"), array("q", [0]), array("q", [0])
        known, gold, spans = bytearray(), array("q", [0]), array("q")
        ids: list[str] = []

        def segments_of(instances: Iterable[Instance]) -> Iterator[str]:
            for instance in instances:
                ids.append(instance.id)
                labels.append(instance.label)
                for text in instance.inputs:
                    known.append(text.gold is not None)
                    for span in text.gold or ():
                        spans.extend(span)
                    gold.append(len(spans) // 3)
                    segments.append(segments[-1] + len(text.segments))
                    yield from text.segments
                inputs.append(len(known))

        texts = Strings.from_texts(segments_of(instances))
        return cls(
            ids=Strings.from_texts(ids),
            labels=_frozen(labels, np.int64),
            inputs=_frozen(inputs, np.int64),
            segments=_frozen(segments, np.int64),
            texts=texts,
            known=_frozen(known, np.bool_),
            gold=_frozen(gold, np.int64),
            spans=_frozen(spans, np.int64),
        )

    @classmethod
    def from_columns(cls, columns: Columns) -> InstanceTable:
        """What `columns` gave."""
        plain = {name: columns[name] for name in ("labels", "inputs", "segments", "known", "gold", "spans")}
        ids, texts = (Strings.from_columns(columns, name) for name in ("ids", "texts"))
        return cls(ids=ids, texts=texts, **plain)

    def columns(self) -> dict[str, Column]:
        """The arrays by name."""
        return {
            **self.ids.columns("ids"),
            **self.texts.columns("texts"),
            "labels": self.labels,
            "inputs": self.inputs,
            "segments": self.segments,
            "known": self.known,
            "gold": self.gold,
            "spans": self.spans,
        }

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Instance: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Instance, ...]: ...

    def __getitem__(self, index: int | slice) -> Instance | tuple[Instance, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        return next(self._between(index, index + 1))

    def __iter__(self) -> Iterator[Instance]:
        for start in range(0, len(self), _CHUNK):
            yield from self._between(start, min(start + _CHUNK, len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InstanceTable):
            return NotImplemented
        theirs = other.columns()
        return all(np.array_equal(column, theirs[name]) for name, column in self.columns().items())

    __hash__ = None  # type: ignore[assignment]

    def _between(self, start: int, end: int) -> Iterator[Instance]:
        labels, inputs = self.labels[start:end].tolist(), self.inputs[start : end + 1].tolist()
        first, last = inputs[0], inputs[-1]
        segments, gold = (column[first : last + 1].tolist() for column in (self.segments, self.gold))
        known = self.known[first:last].tolist()
        spans = self.spans[3 * gold[0] : 3 * gold[-1]].reshape(-1, 3).tolist()

        def read(number: int) -> Input:
            found = spans[gold[number] - gold[0] : gold[number + 1] - gold[0]]
            return Input(
                segments=self.texts[segments[number] : segments[number + 1]],
                gold=tuple((segment, begin, stop) for segment, begin, stop in found) if known[number] else None,
            )

        for place, label in enumerate(labels):
            numbers = range(inputs[place] - first, inputs[place + 1] - first)
            yield Instance(id=self.ids[start + place], inputs=tuple(map(read, numbers)), label=label)


def _frozen(values: bytearray | array[int], dtype: Any) -> Column:
    column = np.frombuffer(values, dtype=dtype) if len(values) else np.zeros(0, dtype=dtype)
    column.flags.writeable = False
    return column
