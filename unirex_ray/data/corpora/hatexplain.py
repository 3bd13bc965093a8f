"""HateXplain (Mathew et al. 2021) as Hugging Face's `datasets` has it, and corpora in its shape."""

from __future__ import annotations

from collections import Counter
from typing import Any

from unirex_ray.config import DataConfig
from unirex_ray.data.corpora.table import read_splits
from unirex_ray.data.files.rationales import gold_of, plain_text
from unirex_ray.data.files.source import Source
from unirex_ray.data.files.tables import TableRow, brief
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError

LABELS = ("hatespeech", "normal", "offensive")
_TOKENS, _ANNOTATORS, _RATIONALES = _COLUMNS = ("post_tokens", "annotators", "rationales")


def load_hatexplain(source: Source, config: DataConfig) -> Corpus:
    """Read posts that several people labelled and explained.

    `post_tokens` are the words; the label is the one that most of `annotators` chose, by its name or number, and posts
    without one such label are left out and counted. `rationales` holds lists of a 0 or 1 per word, one of each
    annotator who gave any: a word is gold if at least half of them marked it.

    Raises:
        UserError: for anything broken, with its file and line (in Parquet and Arrow: row).
    """
    undecided: Counter[str] = Counter()

    def instance(id_: str, row: TableRow) -> Instance | None:
        votes = Counter(_label(row, chosen) for chosen in _chosen(row)).most_common(2)
        if len(votes) == 2 and votes[0][1] == votes[1][1]:
            undecided[id_.partition("-")[0]] += 1
            return None
        text = plain_text(row, _TOKENS)
        majority = row.changed(**{_RATIONALES: _majority(row)})
        gold = tuple((0, start, end) for start, end in gold_of(majority, _RATIONALES, text, _TOKENS))
        return Instance(id=id_, inputs=(Input(segments=(text,), gold=gold or None),), label=votes[0][0])

    splits, notes = read_splits(source, config, _COLUMNS, instance)
    left_out = (f"{split}: {count} posts without a majority label are left out" for split, count in undecided.items())
    return Corpus(name="hatexplain", labels=LABELS, splits=splits, task_metric="macro_f1", notes=(*notes, *left_out))


def _chosen(row: TableRow) -> list[Any]:
    """The label of each annotator: of a list of records, or of a record of lists, as `datasets` writes either."""
    annotators = row.values[_ANNOTATORS]
    if isinstance(annotators, dict) and isinstance(annotators.get("label"), list):
        chosen: list[Any] = annotators["label"]
    elif isinstance(annotators, list) and all(isinstance(one, dict) and "label" in one for one in annotators):
        chosen = [one["label"] for one in annotators]
    else:
        chosen = []
    if not chosen:
        raise UserError(
            f"{row.location}: {_ANNOTATORS!r} must have the label of at least one annotator, as "
            f'{{"label": [0, 2, 2]}} does, but is {brief(annotators)}'
        )
    return chosen


def _label(row: TableRow, chosen: Any) -> int:
    if type(chosen) is int and 0 <= chosen < len(LABELS):
        return chosen
    return row.changed(label=chosen).index("label", LABELS)


def _majority(row: TableRow) -> list[int]:
    """One mask of all: 1 where at least half of those who gave one have it."""
    masks = row.values[_RATIONALES] or []
    if not isinstance(masks, list) or not all(isinstance(mask, list) and set(mask) <= {0, 1} for mask in masks):
        raise UserError(f"{row.location}: {_RATIONALES!r} must be lists of a 0 or 1 per word, but is {brief(masks)}")
    size = len(row.values[_TOKENS])
    for mask in masks:
        if len(mask) != size:
            raise UserError(
                f"{row.location}: {_RATIONALES!r} must have one 0 or 1 for each of the {size} words of {_TOKENS!r}, "
                f"but one has {len(mask)}"
            )
    return [int(2 * sum(flags) >= len(masks)) for flags in zip(*masks, strict=True)]
