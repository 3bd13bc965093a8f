"""SST: the Stanford Sentiment Treebank, with rationales derived from its phrase labels (Carton et al. 2020)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.files.source import Source
from unirex_ray.data.files.spans import gold_spans
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import SPLITS, Corpus, Split
from unirex_ray.errors import UserError

FILES: dict[Split, str] = {split: f"{split}.txt" for split in SPLITS}

_NEUTRAL = 2
_LABELS = ("0", "1", "2", "3", "4")
_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
# Only blanks and tabs part tokens: a no-break space belongs to its token.
_LEXEME = re.compile(r"[()]|[^() \t]+")


class Node(NamedTuple):
    """A phrase.

    Attributes:
        label: 0 (very negative) to 4 (very positive).
        start, end: the tokens that it covers, half-open.
        below: the largest strength anywhere below it; -1 for a leaf.
    """

    label: int
    start: int
    end: int
    below: int


def strength(label: int) -> int:
    """Twice the absolute value of the normalised label (label - 2) / 2: 0, 1 or 2."""
    return abs(label - _NEUTRAL)


@dataclass(frozen=True)
class Tree:
    """A parsed sentence: its tokens as written, and its phrases with every phrase behind those below it."""

    tokens: tuple[str, ...]
    nodes: tuple[Node, ...]

    @property
    def root(self) -> Node:
        """The whole sentence."""
        return self.nodes[-1]


def parse_tree(line: str) -> Tree:
    """Parse `(label token)` leaves and `(label child ...)` phrases of any depth.

    Raises:
        ValueError: saying what is broken.
    """
    tokens: list[str] = []
    nodes: list[Node] = []
    still_open: list[list[int]] = []  # label, start, strongest below
    lexemes = iter(_LEXEME.findall(line))
    for lexeme in lexemes:
        if not still_open and (nodes or lexeme != "("):
            raise ValueError(f"{lexeme!r} stands outside the tree")
        if lexeme == "(":
            if still_open and still_open[-1][2] < 0 and still_open[-1][1] < len(tokens):
                raise ValueError(f"token {tokens[-1]!r} must be alone in its phrase")
            label = next(lexemes, "nothing")
            if label not in _LABELS:
                raise ValueError(f"a phrase must begin with a label from 0 to 4, but begins with {label!r}")
            still_open.append([int(label), len(tokens), -1])
        elif lexeme == ")":
            node = Node(still_open[-1][0], still_open[-1][1], len(tokens), still_open[-1][2])
            if node.start == node.end:
                raise ValueError("a phrase holds no token")
            nodes.append(node)
            still_open.pop()
            if still_open:
                still_open[-1][2] = max(still_open[-1][2], node.below, strength(node.label))
        else:
            if still_open[-1][1] < len(tokens):
                raise ValueError(f"token {lexeme!r} must be alone in its phrase")
            tokens.append(lexeme)
    if still_open or not nodes:
        raise ValueError("a bracket is not closed" if still_open else "there is no tree")
    return Tree(tuple(tokens), tuple(nodes))


def rationale(tree: Tree) -> tuple[bool, ...]:
    """Which tokens lie in an explanatory phrase of strength 0.5 or more (Carton et al. 2020).

    Returns:
        One flag per token; at least one is True wherever the root is not neutral.
    """
    gold: list[bool | None] = [None] * len(tree.tokens)
    # Backwards, each phrase comes before those below it, so the first to claim a token is the highest.
    for node in reversed(tree.nodes):
        if strength(node.label) > node.below and gold[node.start] is None:
            gold[node.start : node.end] = [strength(node.label) >= 1] * (node.end - node.start)
    return tuple(bool(flag) for flag in gold)


def clean_token(token: str) -> str:
    """A token as people write it, lower-cased: brackets restored, backslashes removed."""
    return _BRACKETS.get(token, token).replace("\\", "").lower()


def load_treebank(source: Source) -> Corpus:
    """Read `train.txt`, `dev.txt` and `test.txt`; sentences with a neutral root are dropped.

    Raises:
        UserError: for a broken tree, with its file and line.
    """
    splits: dict[Split, InstanceTable] = {}
    notes: list[str] = []
    for split, file in FILES.items():
        trees = list(_trees(source, file))
        splits[split] = InstanceTable.from_instances(
            _instance(f"{split}-{number}", tree) for number, tree in trees if tree.root.label != _NEUTRAL
        )
        notes.append(f"{split}: {len(trees) - len(splits[split])} of {len(trees)} sentences are neutral and left out")
    return Corpus(name="sst", labels=("negative", "positive"), splits=splits, notes=tuple(notes))


def _trees(source: Source, file: str) -> Iterator[tuple[int, Tree]]:
    for number, line in source.lines(file):
        if not line.strip():
            continue
        try:
            tree = parse_tree(line)
            if not all(clean_token(token).strip() for token in tree.tokens):
                raise ValueError("a token is empty")
        except ValueError as error:
            raise UserError(f"{source.label}: {file}, line {number}: {error}") from None
        yield number, tree


def _instance(id_: str, tree: Tree) -> Instance:
    tokens = tuple(clean_token(token) for token in tree.tokens)
    text = Input(segments=(" ".join(tokens),), gold=gold_spans(tokens, rationale(tree)))
    return Instance(id=id_, inputs=(text,), label=int(tree.root.label > _NEUTRAL))
