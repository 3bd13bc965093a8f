"""From texts with character spans to token ids with gold flags, for any fast tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from unirex_ray.data.cache import Stored, cache_folder, read_or_make, read_splits, write_splits
from unirex_ray.data.columns import Strings
from unirex_ray.data.encoded import EncodedCorpus, EncodedSplit, SpecialTokens
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.progress_bar import progress_bar
from unirex_ray.data.schema import SPLITS, Corpus, Split
from unirex_ray.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["EncodedCorpus", "EncodedSplit", "encode_corpus", "encode_split"]

Truncation = Literal["head", "rationale"]

_CHUNK = 512  # rows tokenised at once: enough to keep the tokenizer busy, little enough to keep memory flat
_NAMED = 10  # instances that a note names
_NO_LIMIT = 1 << 20  # a tokenizer that knows no limit gives a huge number
_RULES = 3  # of alignment and truncation; a new number retires every cached corpus

WINDOWS_VERSION = 2
"""Of the rules by which corpora that keep rationales (`truncation="rationale"`) choose the window of a long text."""


def encode_split(
    instances: Sequence[Instance], tokenizer: PreTrainedTokenizerBase, *, max_length: int, truncation: Truncation
) -> EncodedSplit:
    """Tokenise instances and mark the tokens that hold their gold rationale.

    A token is gold if its characters hold at least one of a gold span that is not a blank. Special tokens come from the
    tokenizer's template: where the text spells their names, it stays text (unless they are pieces of a Unigram model).
    Rows longer than `max_length` are cut by
    taking tokens from the longer segment first.

    Args:
        instances: at least one, all with equally many inputs.
        max_length: tokens per row, special tokens included.
        truncation: `head` keeps the first tokens of each segment; `rationale` keeps the last ones instead where gold
            tokens are known and none is among the first.

    Raises:
        UserError: for a tokenizer without offsets or without CLS, SEP and PAD, or a `max_length` too small for it.
    """
    return _encode(instances, _Backend.from_tokenizer(tokenizer), max_length, truncation)


def encode_corpus(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None, cache: str | Path | None
) -> EncodedCorpus:
    """Tokenise a corpus, or map it from the cache where the same corpus was tokenised in the same way before.

    Args:
        max_length: tokens per row; None: the corpus' own limit, at most `tokenizer.model_max_length`.
        cache: folder; None: the default one, where it can be written.

    Raises:
        UserError: as `encode_split`; for a `max_length` beyond the tokenizer's; for a `cache` that cannot be written.
    """
    backend = _Backend.from_tokenizer(tokenizer)
    length = _effective_length(corpus, tokenizer.model_max_length, max_length)
    digest = corpus.digest()
    key = f"{_RULES}-{digest}-{backend.digest()}-{length}-{corpus.truncation}"
    file = cache_folder(cache) / f"{corpus.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.arrow"

    def tokenise() -> Stored:
        splits: dict[Split, EncodedSplit] = {}
        for split in SPLITS:
            description = f"tokenising {corpus.name}, {split}"
            splits[split] = _encode(corpus.splits[split], backend, length, corpus.truncation, description)
        return splits, tuple(note for split in SPLITS for note in _truncation_note(split, splits[split], length))

    splits, notes = read_or_make(
        cache, lambda: read_splits(file, key), tokenise, lambda stored: write_splits(file, key, *stored)
    )
    return EncodedCorpus(
        name=corpus.name,
        labels=corpus.labels,
        task_metric=corpus.task_metric,
        multi_choice=corpus.multi_choice,
        splits=splits,
        special_tokens=SpecialTokens(pad_id=backend.pad_id, sep_id=backend.sep_id),
        max_length=length,
        digest=digest,
        notes=(*corpus.notes, *notes),
    )


def _effective_length(corpus: Corpus, limit: int, requested: int | None) -> int:
    if requested is not None:
        if requested > limit:
            raise UserError(f"data.max_length = {requested}: this encoder takes at most {limit} tokens")
        return requested
    return min(limit, corpus.max_length or _NO_LIMIT, _NO_LIMIT)


def _truncation_note(split: Split, encoded: EncodedSplit, length: int) -> Iterator[str]:
    cut, last_windows = int(encoded.truncated.sum()), int(encoded.last_window.sum())
    if cut:
        shown = f", {last_windows} of them to their last window" if last_windows else ""
        yield f"{split}: {cut} of {encoded.truncated.numel()} inputs are cut to {length} tokens{shown}"
    lost = torch.unique(torch.nonzero(encoded.gold_lost).flatten() // encoded.choices).tolist()
    if lost:
        names = ", ".join(encoded.ids[instance] for instance in lost[:_NAMED])
        rest = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        yield f"{split}: no gold token is left of {names}{rest}; they count as without a gold rationale"


@dataclass(frozen=True)
class _Backend:
    """The tokenizer's own engine, with its truncation, padding and special tokens in the text switched off."""

    engine: Tokenizer
    has_token_types: bool
    pad_id: int
    sep_id: int

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> _Backend:
        name = tokenizer.name_or_path or type(tokenizer).__name__
        if not tokenizer.is_fast:
            raise UserError(f"the tokenizer of {name!r} gives no character offsets; use an encoder with a fast one")
        firsts = _known(tokenizer.cls_token_id, tokenizer.bos_token_id)
        lasts = _known(tokenizer.sep_token_id, tokenizer.eos_token_id)
        pads = _known(tokenizer.pad_token_id)
        missing = [token for token, ids in (("CLS", firsts), ("SEP", lasts), ("PAD", pads)) if not ids]
        if missing:
            raise UserError(f"the tokenizer of {name!r} has no {', '.join(missing)} token; use another encoder")
        # A copy: the one that was given may be used elsewhere, with settings of its own.
        try:
            engine = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        except Exception as error:  # the library raises nothing narrower where a part is written in Python
            raise UserError(f"the tokenizer of {name!r} cannot be copied ({error}); use another encoder") from None
        engine.no_truncation()
        engine.no_padding()
        engine.encode_special_tokens = True
        probe = engine.encode("a")
        if probe.sequence_ids[:1] != [None] or probe.ids[0] not in firsts:
            raise UserError(f"the tokenizer of {name!r} does not begin its inputs with CLS; use another encoder")
        return cls(engine, "token_type_ids" in tokenizer.model_input_names, pads[0], lasts[0])

    def digest(self) -> str:
        """16 hex digits over everything that decides which tokens come out."""
        text = json.dumps([self.engine.to_str(), self.has_token_types])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _known(*ids: int | None) -> list[int]:
    return [id_ for id_ in ids if id_ is not None]


_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class _Rows:
    """A chunk of rows before truncation; `segments` is -1 on special tokens."""

    ids: _Ints
    types: _Ints
    segments: _Ints
    starts: _Ints
    ends: _Ints
    gold: _Flags
    lengths: _Ints


def _encode(
    instances: Sequence[Instance], backend: _Backend, max_length: int, truncation: Truncation, what: str = "tokenising"
) -> EncodedSplit:
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _PARTS}
    choices = len(instances[0].inputs)
    size = max(1, _CHUNK // choices)
    chunks = range(0, len(instances), size)
    for begin in progress_bar(chunks, what, len(instances), size=size):
        rows = _tokenise([text for instance in instances[begin : begin + size] for text in instance.inputs], backend)
        for name, column in _cut(rows, max_length, truncation).items():
            parts[name].append(column)
    # One after the other, so that a column lies in memory twice at most.
    columns = {name: torch.from_numpy(np.concatenate(parts.pop(name))) for name in _PARTS}
    lengths, gold_counts = columns.pop("lengths"), columns.pop("gold_counts")
    return EncodedSplit(
        ids=Strings.from_texts(instance.id for instance in instances),
        labels=torch.tensor([instance.label for instance in instances], dtype=torch.int64),
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        has_gold=gold_counts > 0,
        choices=choices,
        **columns,
    )


_PARTS = ("input_ids", "token_types", "gold", "spans", "cut", "last_window", "lengths", "gold_counts")


def _cut(rows: _Rows, max_length: int, truncation: Truncation) -> dict[str, NDArray[Any]]:
    """What is left of a chunk of rows, by column, and what was cut."""
    kept = np.ones(len(rows.ids), dtype=bool)
    cut = np.zeros((len(rows.lengths), 3), dtype=np.int32)
    last_window = np.zeros(len(rows.lengths), dtype=bool)
    ends = np.cumsum(rows.lengths)
    for row in np.flatnonzero(rows.lengths > max_length):
        part = slice(ends[row] - rows.lengths[row], ends[row])
        kept[part], last_window[row] = _window(rows.segments[part], rows.gold[part], max_length, truncation)
        lost = ~kept[part]
        cut[row] = [np.sum(lost & (rows.segments[part] == segment)) for segment in (0, 1)] + [
            np.sum(lost & rows.gold[part])
        ]
    special = rows.segments < 0
    spans = np.stack([rows.segments, np.where(special, 0, rows.starts), np.where(special, 0, rows.ends)], axis=1)
    lengths = _per_row(kept, rows.lengths)
    gold = rows.gold[kept]
    return {
        "input_ids": rows.ids[kept].astype(np.int32),
        "token_types": rows.types[kept].astype(np.int8),
        "gold": gold,
        "spans": spans[kept].astype(np.int32),
        "cut": cut,
        "last_window": last_window,
        "lengths": lengths,
        "gold_counts": _per_row(gold, lengths),
    }


def _tokenise(inputs: Sequence[Input], backend: _Backend) -> _Rows:
    texts = [text.segments[0] if len(text.segments) == 1 else text.segments for text in inputs]
    encodings: list[Encoding] = backend.engine.encode_batch(texts)
    lengths = np.array([len(encoding) for encoding in encodings], dtype=np.int64)
    total = int(lengths.sum())
    segments = _column(
        (-1 if segment is None else segment for encoding in encodings for segment in encoding.sequence_ids), total
    )
    spans = _column(
        (edge for encoding in encodings for offset in encoding.offsets for edge in offset), 2 * total
    ).reshape(-1, 2)
    starts, ends = spans[:, 0], spans[:, 1]
    types = (type_id for encoding in encodings for type_id in encoding.type_ids)
    return _Rows(
        ids=_column((id_ for encoding in encodings for id_ in encoding.ids), total),
        types=_column(types, total) if backend.has_token_types else np.zeros(total, dtype=np.int64),
        segments=segments,
        starts=starts,
        ends=ends,
        gold=_gold(inputs, np.repeat(np.arange(len(inputs)), lengths), segments, starts, ends),
        lengths=lengths,
    )


def _column(values: Iterable[int], size: int) -> _Ints:
    return np.fromiter(values, dtype=np.int64, count=size)


def _gold(inputs: Sequence[Input], rows: _Ints, segments: _Ints, starts: _Ints, ends: _Ints) -> _Flags:
    """Which tokens hold a character of a gold span that is not a blank.

    Args:
        rows: input of each token.
    """
    # All texts in one row of characters; counts[c] is the number of gold ones before character c.
    sizes = np.array([[len(text) for text in (*item.segments, "")[:2]] for item in inputs], dtype=np.int64)
    bases = (np.cumsum(sizes) - sizes.ravel()).reshape(-1, 2)
    flags = np.zeros(int(sizes.sum()), dtype=np.int64)
    for item, base in zip(inputs, bases.tolist(), strict=True):
        for segment, start, end in item.gold or ():
            text = item.segments[segment]
            flags[base[segment] + start : base[segment] + end] = [not char.isspace() for char in text[start:end]]
    counts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(flags)])
    base_of_token = bases[rows, np.maximum(segments, 0)]
    held: _Ints = counts[base_of_token + ends] - counts[base_of_token + starts]
    flags_of_token: _Flags = (segments >= 0) & (held > 0)
    return flags_of_token


def _window(segments: _Ints, gold: _Flags, max_length: int, truncation: Truncation) -> tuple[_Flags, bool]:
    """Which tokens of one row to keep, and whether they are the last window."""
    places = [np.flatnonzero(segments == segment) for segment in (0, 1)]
    room = max_length - int((segments < 0).sum())
    if room < sum(len(place) > 0 for place in places):
        raise UserError(f"data.max_length = {max_length} leaves no room for text beside the special tokens; raise it")
    first, second = _longest_first(len(places[0]), len(places[1]), room)
    head = segments < 0
    head[places[0][:first]] = True
    head[places[1][:second]] = True
    if truncation == "head" or gold[head].any() or not gold.any():
        return head, False
    tail = segments < 0
    tail[places[0][len(places[0]) - first :]] = True
    tail[places[1][len(places[1]) - second :]] = True
    return tail, True


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Shares of two segments when tokens are taken from the longer one until both fit into `room`."""
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    if 2 * shorter <= room:
        return (shorter, room - shorter) if first <= second else (room - shorter, shorter)
    half, rest = room // 2, room - room // 2
    return (half, rest) if first <= second else (rest, half)


def _per_row(flags: _Flags, lengths: _Ints) -> _Ints:
    """How many flags are set in each row."""
    counts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(flags)])
    ends = np.cumsum(lengths)
    per_row: _Ints = counts[ends] - counts[ends - lengths]
    return per_row
