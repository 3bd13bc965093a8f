"""A trained model in Python: loaded by one call, and asked about any number of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from unirex_ray.config import TrainConfig, build_config
from unirex_ray.data.encode import encode_split
from unirex_ray.data.encoded import EncodedSplit, SpecialTokens
from unirex_ray.data.instance import Instance
from unirex_ray.errors import UserError, one_line
from unirex_ray.files import load_yaml
from unirex_ray.inference.explain import ExplainedSplit, explain_split
from unirex_ray.inference.explanation import ExplainedInput, Explanation, Explanations, check_percent
from unirex_ray.inference.texts import Text, instances_of, listed_texts
from unirex_ray.methods import get_method
from unirex_ray.models import store
from unirex_ray.models.card import MODEL, ModelCard, SavedModel, damaged, read_saved
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.completed import completed_model
from unirex_ray.training.result_file import RESULT
from unirex_ray.training.runtime import forward_plan, uses_bf16

SETTINGS = "best_config.yaml"
"""The resolved configuration that lies beside an exported model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A task model with its rationale extractor, ready to be asked.

    Attributes:
        folder: that it was read from.
        card: what it was trained as: method, labels, what an input consists of.
        train: precision and token budget that its recorded numbers were computed with.
        device: where it computes.
    """

    folder: Path
    card: ModelCard
    model: RationaleModel
    tokenizer: PreTrainedTokenizerBase
    train: TrainConfig
    device: torch.device

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names; for multi-choice the names of the choices."""
        return self.card.labels

    def explain(self, texts: str | Iterable[Text | Sequence[Text]], *, top_k_percent: int = 20) -> Explanations:
        """Predict texts, and extract their rationales.

        Args:
            texts: any number of them, as a list, a column of a frame or an array; a single string is one text. Each is
                a string; for a model that was trained on pairs, two strings; for multi-choice, a list with each choice
                in the order of `labels`, which is a string or two likewise.
            top_k_percent: size of the rationale, in whole percent of the tokens; of no effect on one that has a size
                of its own (FRESH). Other sizes can be read off each explanation.

        Raises:
            UserError: for an empty or undecodable text, or one that is not what the model reads, by its index; for a
                mapping, a frame, or a tuple of two texts where the model reads pairs; for a model that scores tokens by
                their gold rationale.
        """
        k = self.model.design.top_k_percent or check_percent(top_k_percent)
        if self.model.design.extractor in ("gold", "inv"):
            raise UserError(f"{str(self.folder)!r} scores tokens by their gold rationale, and these texts have none")
        name = repr(str(self.folder))
        instances = instances_of(listed_texts(texts, self.card, name), self.card, name)
        if not instances:
            return Explanations(())
        split = encode_split(
            instances, self.tokenizer, max_length=self.card.max_length, truncation=self.card.truncation
        )
        tokenizer = self.tokenizer
        special = SpecialTokens(pad_id=tokenizer.pad_token_id, sep_id=tokenizer.sep_token_id or tokenizer.eos_token_id)
        plan, bf16 = forward_plan(self.train, self.device), uses_bf16(self.train, self.device)
        found = explain_split(self.model, split, special, top_k_percent=k, plan=plan, device=self.device, bf16=bf16)
        return Explanations([self._explanation(n, instance, split, found, k) for n, instance in enumerate(instances)])

    def _explanation(
        self, number: int, instance: Instance, split: EncodedSplit, found: ExplainedSplit, top_k_percent: int
    ) -> Explanation:
        probabilities = dict(zip(self.labels, found.probabilities[number].tolist(), strict=True))
        rows = [number * split.choices + choice for choice in range(split.choices)]
        return Explanation(
            inputs=tuple(self._explained(row, row % split.choices, instance, split, found) for row in rows),
            probabilities=probabilities,
            predicted=max(probabilities, key=probabilities.__getitem__),
            top_k_percent=top_k_percent,
            complement_probability=float(found.complement[number]),
            rationale_probability=float(found.rationale[number]),
            any_k=self.model.design.top_k_percent is None,
        )

    def _explained(
        self, row: int, choice: int, instance: Instance, split: EncodedSplit, found: ExplainedSplit
    ) -> ExplainedInput:
        part = slice(int(split.offsets[row]), int(split.offsets[row + 1]))
        segments, spans = instance.inputs[choice].segments, split.spans[part].numpy()
        columns = zip(spans.tolist(), split.input_ids[part].tolist(), strict=True)
        return ExplainedInput(
            segments=segments,
            tokens=tuple(
                self.tokenizer.convert_ids_to_tokens(number) if segment < 0 else segments[segment][start:end]
                for (segment, start, end), number in columns
            ),
            spans=spans,
            scores=found.scores[row],
            choice=self.labels[choice] if split.choices > 1 else "",
            note=split.truncation_note(row),
        )

    def __repr__(self) -> str:
        texts = {1: "a text", 2: "a pair of texts", None: "a text or a pair"}[self.card.segments]
        reads = f"{len(self.labels)} choices of {texts}" if self.card.multi_choice else texts
        return f"LoadedModel({self.card.method} in {str(self.folder)!r}: reads {reads}, gives {', '.join(self.labels)})"


def load_model(folder: str | Path, *, device: str = "cpu", trust_remote_code: bool = False) -> LoadedModel:
    """Load an exported model, or one that `train` has just left in its output.

    Args:
        device: as torch names it: `cpu`, `cuda`, `cuda:1`.
        trust_remote_code: whether the encoder's own Python code may run, where the folder asks for it.

    Raises:
        UserError: if the folder is no model, is damaged, or asks for code that may not run; if there is no such device.
    """
    if not isinstance(folder, str | PathLike):
        raise UserError(
            f"the model's folder must be a path, but is {folder!r:.80}; give what export_best or train wrote"
        )
    folder, place = Path(folder).expanduser(), _device(device)
    if (folder / MODEL).is_file() or not (folder / RESULT).is_file():
        read_known(folder)
        model, tokenizer, card = store.load_model(folder, trust_remote_code=trust_remote_code)
        train = _recorded_settings(folder)
    else:
        completed = completed_model(CheckpointStore(folder), trust_remote_code=trust_remote_code)
        if completed is None:
            raise UserError(f"{str(folder)!r} holds no trained weights; train there again, or give another folder")
        config, model, card = completed
        tokenizer, train = load_tokenizer(config.model), config.train
    return LoadedModel(
        folder=folder, card=card, model=model.eval().to(place), tokenizer=tokenizer, train=train, device=place
    )


def read_known(folder: Path) -> SavedModel:
    """What an exported folder says of itself, where its method is one of ours.

    Raises:
        UserError: as `read_saved`; for an unknown method.
    """
    saved = read_saved(folder)
    try:
        get_method(saved.card.method)
    except UserError as error:
        raise damaged(folder, f"{MODEL}: {one_line(error)}") from None
    return saved


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(
            f"device = {name!r} cannot be used here: {one_line(error)}; use cpu, or cuda on a GPU"
        ) from None
    return device


def _recorded_settings(folder: Path) -> TrainConfig:
    """What an exported model's numbers were computed with; single precision where the folder does not say."""
    if not (folder / SETTINGS).is_file():
        return TrainConfig(precision="fp32")
    return build_config(load_yaml(folder / SETTINGS)).train
