"""A model's predictions and its rationales of the gold one's size, on chosen instances.

Where all choices of an instance share their first text (CoS-E's question), that text alone is shown, and its tokens
alone compete: marks in an answer would tell the prediction. It is shown with the rationale of the predicted choice.
Otherwise each choice is shown with its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from unirex_ray.config import Config
from unirex_ray.data.encode import encode_split
from unirex_ray.data.encoded import EncodedSplit, SpecialTokens
from unirex_ray.data.instance import Instance
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.inference.explain import explain_split
from unirex_ray.inference.find import TrainedModel
from unirex_ray.inference.labels import match_labels
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.study.manifest import Mark, Rationale, Text
from unirex_ray.study.rationales import is_tied, of_size
from unirex_ray.training.runtime import LocalRuntime, forward_plan, uses_bf16

_PERCENT = 20
"""Of no effect: neither predictions nor scores depend on it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """A model that is ready to read instances of a corpus.

    Attributes:
        config: with the precision that the model is used in.
        class_map: the corpus' label for each of the model's; None for multi-choice.
        max_length: tokens per input.
    """

    trained: TrainedModel
    model: RationaleModel
    tokenizer: PreTrainedTokenizerBase
    config: Config
    class_map: tuple[int, ...] | None
    max_length: int
    device: torch.device

    def encode(self, instances: Sequence[Instance]) -> EncodedSplit:
        """Tokenise as in training, and never to more than the corpus' own limit."""
        return encode_split(
            instances, self.tokenizer, max_length=self.max_length, truncation=self.trained.card.truncation
        )

    def weights(self) -> str:
        """SHA-256 of the model's weights, the first 16 hex digits."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A model on instances.

    Attributes:
        rationales: of each instance.
        gold: the gold tokens of each that the model reads; of choices that share a text, the labelled one's.
        tied: how many rationales leave a token out whose score is that of one that they keep.
        cut: how many instances are longer than the model reads.
    """

    rationales: tuple[Rationale, ...]
    gold: tuple[tuple[Mark, ...], ...]
    tied: int
    cut: int


def read_model(
    trained: TrainedModel, corpus: Corpus, config: Config, label_map: Mapping[str, str] | None = None
) -> Reader:
    """Load a model.

    Args:
        label_map: see `match_labels`.

    Raises:
        UserError: where its labels are not the corpus'.
    """
    card = trained.card
    class_map = None if corpus.multi_choice else match_labels(card.labels, corpus.labels, label_map)
    if config.train.precision == "auto":
        config = config.changed({"train.precision": trained.precision})
    device = LocalRuntime(config.output, gpu=bool(config.train.gpu)).device
    model, tokenizer = trained.load()
    return Reader(
        trained=trained,
        model=model.eval().to(device),
        tokenizer=tokenizer,
        config=config,
        class_map=class_map,
        max_length=config.data.max_length or min(card.max_length, corpus.max_length or card.max_length),
        device=device,
    )


def shares_text(instance: Instance) -> bool:
    """Whether the first text is the same for all choices, of which there are several."""
    return (
        len(instance.inputs) > 1
        and all(len(text.segments) > 1 for text in instance.inputs)
        and len({text.segments[0] for text in instance.inputs}) == 1
    )


def shown_texts(instance: Instance, labels: Sequence[str]) -> tuple[Text, ...]:
    """What is shown of an instance, see above.

    Args:
        labels: of the corpus.
    """
    if shares_text(instance):
        return (Text(segments=instance.inputs[0].segments[:1]),)
    names = labels if len(instance.inputs) > 1 else [""]
    return tuple(Text(segments=text.segments, choice=name) for text, name in zip(instance.inputs, names, strict=True))


def options_of(instance: Instance, labels: Sequence[str]) -> tuple[str, ...]:
    """The answers to which label was predicted, in words; no two are the same.

    Args:
        labels: of the corpus.
    """
    if not shares_text(instance):
        return tuple(labels)
    answers = [" / ".join(text.segments[1:]) for text in instance.inputs]
    return tuple(f"{label}: {answer}" for label, answer in zip(labels, answers, strict=True))


def has_gold(split: EncodedSplit, instances: Sequence[Instance]) -> list[bool]:
    """Whether each instance has gold tokens that are both shown and read, for every choice whose text is shared."""
    found = []
    for number, instance in enumerate(instances):
        rows = [any(row.gold) for row in _rows(split, number, instance)]
        found.append(all(rows) if shares_text(instance) else any(rows))
    return found


def extract(reader: Reader, instances: Sequence[Instance]) -> Extracted:
    """Predict instances, and keep as many tokens of each as its gold rationale has.

    Raises:
        UserError: where the model gives something that is no number.
    """
    split, tokenizer = reader.encode(instances), reader.tokenizer
    found = explain_split(
        reader.model,
        split,
        SpecialTokens(pad_id=tokenizer.pad_token_id, sep_id=tokenizer.sep_token_id or tokenizer.eos_token_id),
        top_k_percent=_PERCENT,
        plan=forward_plan(reader.config.train, reader.device),
        device=reader.device,
        bf16=uses_bf16(reader.config.train, reader.device),
    )
    rationales, gold, tied = [], [], 0
    for number, instance in enumerate(instances):
        rows = list(_rows(split, number, instance))
        scores = found.scores[number * split.choices : (number + 1) * split.choices]
        if not all(np.isfinite(values).all() for values in (found.probabilities[number], *scores)):
            raise UserError(f"{reader.trained.name} is damaged: it scores {instance.id!r} by no number; train it again")
        predicted = int(found.probabilities[number].argmax())
        shared = shares_text(instance)
        shown = [predicted] if shared else range(len(rows))
        labelled = [rows[instance.label]] if shared else rows
        gold.append(
            tuple(
                (text, *span)
                for text, row in enumerate(labelled)
                for span, flag in zip(row.spans, row.gold, strict=True)
                if flag
            )
        )
        marks, kept, ties = list[Mark](), 0, False
        for text, row, values in ((text, rows[choice], scores[choice].tolist()) for text, choice in enumerate(shown)):
            chosen = of_size(values, row.eligible, sum(row.gold))
            marks += [(text, *span) for span, keep in zip(row.spans, chosen, strict=True) if keep]
            kept, ties = kept + sum(chosen), ties or is_tied(values, row.eligible, chosen)
        rationales.append(
            Rationale(
                marks=tuple(marks),
                tokens=kept,
                gold_tokens=sum(sum(rows[choice].gold) for choice in shown),
                label=predicted if reader.class_map is None else reader.class_map[predicted],
            )
        )
        tied += ties
    cut = int(split.truncated.view(-1, split.choices).any(1).sum())
    return Extracted(rationales=tuple(rationales), gold=tuple(gold), tied=tied, cut=cut)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Tokens of an input: what each covers, which may be in a rationale, and which of these are gold."""

    spans: list[tuple[int, int, int]]
    eligible: list[bool]
    gold: list[bool]


def _rows(split: EncodedSplit, number: int, instance: Instance) -> Iterator[_Row]:
    shown = (0,) if shares_text(instance) else (0, 1)
    for row in range(number * split.choices, (number + 1) * split.choices):
        part = slice(int(split.offsets[row]), int(split.offsets[row + 1]))
        spans = [(segment, start, end) for segment, start, end in split.spans[part].tolist()]
        eligible = [segment in shown and start < end for segment, start, end in spans]
        gold = [flag and may for flag, may in zip(split.gold[part].tolist(), eligible, strict=True)]
        yield _Row(spans=spans, eligible=eligible, gold=gold)
