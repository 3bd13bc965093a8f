from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.data.corpora.sst import clean_token, load_treebank, parse_tree, rationale
from unirex_ray.data.files.source import Source
from unirex_ray.data.files.spans import gold_spans
from unirex_ray.errors import UserError

# A nested tree: (label, token) or (label, [trees]).
Nested = tuple[int, Any]

labels = st.integers(0, 4)
words = st.text(st.characters(exclude_characters="() \t\n\r", exclude_categories=["Cs"]), min_size=1, max_size=5)
leaves = st.tuples(labels, words)
trees = st.recursive(leaves, lambda below: st.tuples(labels, st.lists(below, min_size=1, max_size=4)), max_leaves=20)


def written(tree: Nested) -> str:
    label, below = tree
    return f"({label} {below})" if isinstance(below, str) else f"({label} {' '.join(map(written, below))})"


def tokens_of(tree: Nested) -> list[str]:
    return [tree[1]] if isinstance(tree[1], str) else [token for child in tree[1] for token in tokens_of(child)]


def labels_below(tree: Nested) -> list[float]:
    """Normalised labels of every phrase under this one."""
    if isinstance(tree[1], str):
        return []
    return [label for child in tree[1] for label in [(child[0] - 2) / 2, *labels_below(child)]]


def naive_values(tree: Nested) -> list[float]:
    """Each token's value, word for word from the definition."""
    value, below = abs((tree[0] - 2) / 2), labels_below(tree)
    if isinstance(tree[1], str) or (value > abs(max(below)) and value > abs(min(below))):
        return [value] * len(tokens_of(tree))
    return [inner for child in tree[1] for inner in naive_values(child)]


@pytest.mark.slow
@settings(deadline=None)
@given(trees)
def test_parser_and_rationale_agree_with_the_recursive_definition(tree):
    parsed = parse_tree(written(tree))
    assert parsed.tokens == tuple(tokens_of(tree))
    assert parsed.root.label == tree[0]
    assert rationale(parsed) == tuple(value >= 0.5 for value in naive_values(tree))


@pytest.mark.slow
@settings(deadline=None)
@given(trees)
def test_a_tree_with_a_sentiment_has_a_rationale(tree):
    assert any(rationale(parse_tree(written(tree)))) or tree[0] == 2


def test_rationale_by_hand():
    # The root (+2) is no stronger than "awful" (-2) below it; "not awful" (+1) neither; "good film" (+1) is.
    line = "(4 (3 (1 not) (0 awful)) (2 (2 ,) (3 (2 good) (2 film))))"
    assert rationale(parse_tree(line)) == (True, True, False, True, True)
    # "very good" (+2) beats everything below it, so "very" is gold though neutral by itself.
    assert rationale(parse_tree("(3 (4 (2 very) (3 good)) (2 .))")) == (True, True, False)
    assert rationale(parse_tree("(3 (2 a) (2 b))")) == (True, True)


def test_deep_trees_need_no_recursion():
    depth = 20_000
    parsed = parse_tree("(3 " * depth + "x" + ")" * depth)
    assert (parsed.tokens, rationale(parsed)) == (("x",), (True,))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("(3 (2 a) (2 b)", "not closed"),
        ("(3 (2 a)))", r"'\)' stands outside the tree"),
        ("(3 a) b", "'b' stands outside the tree"),
        ("word", "'word' stands outside the tree"),
        (")", "outside"),
        ("(5 a)", "label from 0 to 4, but begins with '5'"),
        ("(a (2 b))", "label from 0 to 4"),
        ("(", "begins with 'nothing'"),
        ("(2)", "holds no token"),
        ("(2 ())", "label from 0 to 4"),
        ("(2 a b)", "'b' must be alone"),
        ("(2 (2 a) b)", "'b' must be alone"),
        ("(2 a (2 b))", "'a' must be alone"),
        ("", "no tree"),
    ],
)
def test_broken_trees_are_refused(line, message):
    with pytest.raises(ValueError, match=message):
        parse_tree(line)


@settings(deadline=None)
@given(st.text(alphabet="(2 a)", max_size=30))
def test_no_line_breaks_the_parser_itself(line):
    try:
        parsed = parse_tree(line)
    except ValueError:
        return
    assert parse_tree(" ".join(line.split())) == parsed
    assert line.count("(") == line.count(")") == len(parsed.nodes)


def source_of(**files: str) -> Source:
    return Source("trees.zip", {f"{name}.txt": text.encode() for name, text in files.items()}.get)


def test_tokens_are_cleaned_and_neutral_roots_dropped():
    line = "(4 (2 -LRB-) (4 (4 8\u00a01\\/2) (2 (2 FUN\u00c9) (2 -RRB-))))"
    corpus = load_treebank(source_of(train=f"(2 so)\r\n{line}\r\n", dev="(1 bad)\n\n", test="(3 ok)"))
    (instance,) = corpus.splits["train"]
    assert instance.id == "train-2"
    assert instance.label == 1
    assert instance.inputs[0].segments == ("( 8\u00a01/2 fun\u00e9 )",)
    assert instance.inputs[0].gold == ((0, 2, 7),)
    assert corpus.splits["dev"][0].label == 0
    assert corpus.labels == ("negative", "positive")
    assert corpus.notes[0] == "train: 1 of 2 sentences are neutral and left out"


@pytest.mark.parametrize(("token", "clean"), [("-LSB-", "["), ("-RCB-", "}"), ("a\\/B", "a/b"), ("\\*\\*", "**")])
def test_clean_token(token, clean):
    assert clean_token(token) == clean


@pytest.mark.parametrize("line", ["(3 (2 a)", "(3 \\)"])
def test_broken_files_are_named_with_their_line(line):
    with pytest.raises(UserError, match=r"^trees\.zip: dev\.txt, line 3: "):
        load_treebank(source_of(train="(3 a)", dev=f"(3 a)\n\n{line}", test="(3 a)"))


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(words, st.booleans()), min_size=1))
def test_gold_spans_cover_exactly_the_gold_tokens(pairs):
    tokens, gold = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    text = " ".join(tokens)
    covered = {index for _, start, end in gold_spans(tokens, gold) for index in range(start, end)}
    position = 0
    for token, is_gold in pairs:
        inside = set(range(position, position + len(token)))
        assert inside <= covered if is_gold else not inside & covered
        position += len(token) + 1
    assert all(0 <= index < len(text) for index in covered)


def test_gold_spans_by_hand():
    assert gold_spans(["a", "bc", "d", "ef"], [True, True, False, True]) == ((0, 0, 4), (0, 7, 9))
