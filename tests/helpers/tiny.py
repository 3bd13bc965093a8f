"""Tiny encoders with random weights, tiny corpora and made-up rows, for tests that need a model but not a good one."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from helpers.marks import slow
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from unirex_ray.config import Config, build_config, unflatten
from unirex_ray.data.batching import Batch, collate
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.encode import encode_split
from unirex_ray.data.encoded import EncodedSplit, SpecialTokens
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import Corpus, Split
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.models.design import Design
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.setup import prepare_trial, trial_identity
from unirex_ray.training.stage import StageTrainer, stages_from
from unirex_ray.training.state import TrialFiles
from unirex_ray.training.step import global_counts, loss_terms, weighted_sum

GOOD = [f"good{number}" for number in range(10)]
BAD = [f"bad{number}" for number in range(10)]
PLAIN = [f"w{number}" for number in range(120)]
FAMILIES = ("bert", "roberta")
FAST_FAMILIES = ("bert", *slow("roberta"))
MAX_LENGTH = 96
LABELS = ("negative", "positive")

_T = TypeVar("_T")


def vocabulary(*, bert: bool) -> dict[str, int]:
    """One token per word, and the special ones as BERT or as RoBERTa has them."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if bert else ["<s>", "<pad>", "</s>", "<unk>"]
    return {word: number for number, word in enumerate([*names, *GOOD, *BAD, *PLAIN])}


def save_tokenizer(folder: Path, *, bert: bool) -> None:
    """BERT's has token types, RoBERTa's two separators in a pair."""
    words = vocabulary(bert=bert)
    names = list(words)
    pad, unk, cls, sep = names[:4] if bert else (names[1], names[3], names[0], names[2])
    engine = Tokenizer(models.WordLevel(words, unk_token=unk))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pair = f"{cls} $A {sep} $B:1 {sep}:1" if bert else f"{cls} $A {sep} {sep} $B {sep}"
    engine.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pair, special_tokens=[(cls, words[cls]), (sep, words[sep])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=engine,
        cls_token=cls,
        sep_token=sep,
        pad_token=pad,
        unk_token=unk,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", *(["token_type_ids"] if bert else []), "attention_mask"],
    ).save_pretrained(folder)


def save_encoder(folder: Path, family: str) -> None:
    """An encoder of two layers and its tokenizer as a folder that the library loads."""
    bert = family == "bert"
    save_tokenizer(folder, bert=bert)
    words = vocabulary(bert=bert)
    shape: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.15,
        "pad_token_id": words["[PAD]" if bert else "<pad>"],
    }
    torch.manual_seed(0)
    if bert:
        model: Any = BertModel(BertConfig(**shape, max_position_embeddings=MAX_LENGTH))
    else:
        edges = {"bos_token_id": words["<s>"], "eos_token_id": words["</s>"]}
        model = RobertaModel(RobertaConfig(**shape, **edges, max_position_embeddings=MAX_LENGTH + 2, type_vocab_size=1))
    model.save_pretrained(folder)


def tiny_corpus(
    sizes: Sequence[int] = (24, 12, 12), *, choices: int = 1, pair: bool = False, gold: float = 0.75, seed: int = 0
) -> Corpus:
    """Texts of 3 to 20 words with more good or more bad words among plain ones; these are the gold rationale.

    With several choices, the right one holds the good words.
    """
    draw = random.Random(seed)

    def text(label: int, has_gold: bool) -> Input:
        words = draw.choices(PLAIN, k=draw.randint(1, 17)) + draw.choices((BAD, GOOD)[label], k=draw.randint(2, 3))
        draw.shuffle(words)
        cut = len(words) // 2 if pair else len(words)
        segments = [words[:cut], words[cut:]][: 1 + pair]
        spans = []
        for number, segment in enumerate(segments):
            start = 0
            for word in segment:
                if not word.startswith("w"):
                    spans.append((number, start, start + len(word)))
                start += len(word) + 1
        return Input(segments=tuple(" ".join(segment) for segment in segments), gold=tuple(spans) if has_gold else None)

    def instance(split: str, number: int) -> Instance:
        label = number % max(2, choices)
        has_gold = draw.random() < gold
        wanted = [label] if choices == 1 else [int(choice == label) for choice in range(choices)]
        inputs = tuple(text(want, has_gold) for want in wanted)
        return Instance(id=f"{split}-{number}", inputs=inputs, label=label)

    names: tuple[Split, ...] = ("train", "dev", "test")
    splits = {
        name: InstanceTable.from_instances(instance(name, number) for number in range(size))
        for name, size in zip(names, sizes, strict=True)
    }
    labels = LABELS if choices == 1 else tuple(f"choice {number}" for number in range(choices))
    return Corpus(name="tiny", labels=labels, splits=splits, multi_choice=choices > 1)


def tiny_config(encoder: str, **overrides: Any) -> Config:
    """Keys with `__` for a dot; small, quick, and nothing left in the home folder."""
    base = {
        "model.encoder": encoder,
        "train.epochs": 3,
        "train.batch_size": 8,
        "train.learning_rate": 3e-3,
        "train.threads": 1,
        "data.cache": str(Path(encoder).parent / "cache"),
    }
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    return build_config(unflatten({**base, **changed}))


def encode(config: Config, instances: Sequence[Instance]) -> tuple[EncodedSplit, SpecialTokens]:
    tokenizer = load_tokenizer(config.model)
    split = encode_split(instances, tokenizer, max_length=MAX_LENGTH, truncation="head")
    return split, SpecialTokens(pad_id=tokenizer.pad_token_id, sep_id=tokenizer.sep_token_id)


def make_split(
    rows: Sequence[Sequence[int]],
    labels: Sequence[int],
    gold: Sequence[Sequence[bool]] | None = None,
    types: Sequence[Sequence[int]] | None = None,
    choices: int = 1,
) -> EncodedSplit:
    """A split of made-up rows of token ids."""
    flags = gold or [[False] * len(row) for row in rows]
    lengths = torch.tensor([0, *(len(row) for row in rows)])
    return EncodedSplit(
        ids=tuple(str(number) for number in range(len(labels))),
        labels=torch.tensor(list(labels)),
        input_ids=torch.tensor([id_ for row in rows for id_ in row], dtype=torch.int32),
        token_types=torch.tensor(
            [t for row in (types or [[0] * len(row) for row in rows]) for t in row], dtype=torch.int8
        ),
        gold=torch.tensor([flag for row in flags for flag in row], dtype=torch.bool),
        offsets=lengths.cumsum(0),
        has_gold=torch.tensor([any(row) for row in flags]),
        cut=torch.zeros(len(rows), 3, dtype=torch.int32),
        last_window=torch.zeros(len(rows), dtype=torch.bool),
        spans=torch.zeros(int(lengths.sum()), 3, dtype=torch.int32),
        choices=choices,
    )


def whole_batch(split: EncodedSplit, tokens: SpecialTokens) -> Batch:
    return collate(split, range(len(split)), tokens)


def trained_model(config: Config, extractor: str, corpus: Corpus, *, steps: int = 12, size: int = 8) -> RationaleModel:
    """A model after some steps on every loss, dropout on."""
    torch.manual_seed(0)
    outputs = 1 if corpus.multi_choice else len(corpus.labels)
    model = RationaleModel(config.model, Design(extractor=extractor), outputs)
    split, tokens = encode(config, corpus.splits["train"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.learning_rate)
    for step in range(steps):
        chosen = [number % len(split) for number in range(step * size, (step + 1) * size)]
        counts = global_counts(split, chosen)
        criteria = ("task", "comp", "suff", *(() if extractor.startswith("aa-") else ("plaus",)))
        terms = loss_terms(model, collate(split, chosen, tokens), counts, criteria, config.loss, ForwardPlan())
        optimizer.zero_grad()
        weighted_sum(terms, config.loss).backward()
        optimizer.step()
    return model


def relative_difference(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Norm of the difference of two lists of tensors, relative to the second's."""
    ones, others = (torch.cat([tensor.double().flatten() for tensor in tensors]) for tensors in (left, right))
    return float((ones - others).norm() / others.norm().clamp(min=1e-30))


class ThreadRuntime:
    """One of several workers that are threads of this process; sums in the order of the ranks."""

    device = torch.device("cpu")
    shared = None

    def __init__(self, rank: int, group: "Group") -> None:
        self.rank, self.world, self._group = rank, group.world, group
        self.checkpoints = group.checkpoints

    def all_reduce(self, tensor: Tensor) -> None:
        self._group.sum(self.rank, tensor)

    def report(self, metrics: TrialMetrics, *, epoch: int, stage: str = "") -> None:
        self._group.reports[self.rank].append((epoch, metrics))


class Group:
    """`world` workers; `run` calls a function once per worker, all at the same time."""

    def __init__(self, world: int, folder: Path | str) -> None:
        self.world = world
        self.checkpoints = CheckpointStore(folder)
        self.reports: list[list[tuple[int, TrialMetrics]]] = [[] for _ in range(world)]
        self._barrier = threading.Barrier(world, timeout=60)
        self._given: list[Tensor] = [torch.empty(0)] * world

    def runtime(self, rank: int) -> ThreadRuntime:
        return ThreadRuntime(rank, self)

    def sum(self, rank: int, tensor: Tensor) -> None:
        self._given[rank] = tensor.clone()
        self._barrier.wait()
        total = torch.stack(self._given).sum(0)
        self._barrier.wait()
        tensor.copy_(total)

    def run(self, work: Callable[[int], _T]) -> list[_T]:
        results: list[Any] = [None] * self.world
        errors: list[BaseException] = []

        def call(rank: int) -> None:
            try:
                results[rank] = work(rank)
            except BaseException as error:
                errors.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=call, args=(rank,)) for rank in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


def stages(config: Config, corpus: Corpus, runtime: Runtime) -> Iterator[StageTrainer]:
    """A trial's stages, from its checkpoint on; whoever takes the next one has trained the one before."""
    setup, files = prepare_trial(config, corpus, runtime.device), TrialFiles(runtime, trial_identity(config, corpus))
    return stages_from(files.last_checkpoint(), setup, files, runtime)


def first_stage(config: Config, corpus: Corpus, runtime: Runtime) -> StageTrainer:
    """The first stage of a trial, about to be trained."""
    return next(stages(config, corpus, runtime))


def last_stage(config: Config, corpus: Corpus, runtime: Runtime) -> StageTrainer:
    """The last stage of a trial, about to be trained; those before it are."""
    for trainer in stages(config, corpus, runtime):
        if trainer.is_last:
            return trainer
        trainer.train()
    raise AssertionError("a method has a last stage")
