"""Encoders are taken for what they compute, not for what they are called."""

import json
import math

import pytest
import torch
from helpers.families import ALL_FAMILIES, save_family
from helpers.marks import slow_but
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.config import ModelConfig
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.models import acceptance as module
from unirex_ray.models.acceptance import TOLERANCE, Acceptance, EncoderError, accept_encoder, check_encoder
from unirex_ray.models.encoder import Encoder, load_encoder, load_tokenizer, made_up_row
from unirex_ray.models.rationale_model import build_model
from unirex_ray.models.store import load_model, save_model
from unirex_ray.training.prepare import prepare
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.setup import prepare_trial
from unirex_ray.training.trial import train_trial

LENGTH = 90

NAMES_OF_DROPPED = (
    "bert roberta xlm-roberta camembert distilbert albert electra rembert big_bird eurobert squeezebert xmod ernie "
    "nomic_bert megatron-bert"
)
NAMES_OF_MASKED = "mpnet deberta deberta-v2 modernbert longformer bart mbart t5 mt5 umt5 roformer xlnet"
DROPPED, MASKED = NAMES_OF_DROPPED.split(), NAMES_OF_MASKED.split()
FAST = ("bert", "longformer", "t5")
WITHOUT_GATES = [
    "rembert",
    "big_bird",
    "squeezebert",
    "megatron-bert",
    "mpnet",
    "deberta",
    "deberta-v2",
    "modernbert",
    "longformer",
    "roformer",
    "xlnet",
]
"""They compute attention by themselves, or within windows."""
ACCEPTED = slow_but(FAST, (*DROPPED, *MASKED))
REFUSED = {
    "gpt2": "as in a causal model",
    "llama": "as in a causal model",
    "modernbert-decoder": "as in a causal model",
    "fnet": "its attention mask hides nothing",
    "funnel": "tokens that the attention mask hides still change the others",
    "convbert": "tokens that the attention mask hides still change the others",
    "mobilebert": "tokens that the attention mask hides still change the others",
    "switch_transformers": "tokens that the attention mask hides still change the others",
    "esm": "word embeddings give other states than their tokens",
    "nystromformer": "it fails on a text of 90 tokens",
    "ibert": "its word embeddings are no table",
    "xmod-without-language": "it fails on a text of 90 tokens in double precision (Input language unknown",
}


def accept(folder, length=LENGTH):
    config = ModelConfig(encoder=str(folder))
    return accept_encoder(config, length, folder.parent / "cache")


@pytest.mark.parametrize("family", ACCEPTED)
def test_a_family_is_accepted_by_what_it_computes(tmp_path, family):
    save_family(tmp_path / family, family)
    acceptance = accept(tmp_path / family)
    assert acceptance.dropping_is_exact == (family in DROPPED), acceptance
    assert acceptance.gates_are_exact == (family not in WITHOUT_GATES), acceptance
    assert ("losses drop them" if family in DROPPED else "losses mask them") in acceptance.describe()


@pytest.mark.parametrize("family", ACCEPTED)
def test_gradients_agree_that_hidden_and_padding_tokens_do_nothing(tmp_path, family):
    """Another way to ask: what is hidden has no gradient at all, and the last token of a long text has one."""
    save_family(tmp_path / family, family)
    config = ModelConfig(encoder=str(tmp_path / family))
    encoder = load_encoder(config).double().eval()
    ids = made_up_row(load_tokenizer(config), encoder, LENGTH, 3)[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, 5:80:3] = False
    mask[0, -4:] = False
    embeds = encoder.word_embeddings(ids).detach().requires_grad_()

    def gradients(mask, output):
        states, pooled = encoder(
            inputs_embeds=embeds,
            position_ids=torch.arange(LENGTH)[None],
            token_types=torch.zeros_like(ids),
            attention_mask=mask,
        )
        (gradient,) = torch.autograd.grad(output(states, pooled).sum(), embeds)
        return gradient[0].abs().amax(-1)

    weights = torch.randn(encoder.hidden_size, dtype=torch.float64)
    hidden = gradients(mask, lambda states, _: (states[mask] * weights).sum())
    assert (hidden[~mask[0]] < TOLERANCE * hidden.max()).all()
    assert (hidden[mask[0]] > 0).all()
    first = gradients(None, lambda states, pooled: (states[:, 0] if pooled is None else pooled) * weights)
    assert (first[[1, LENGTH - 2]] > 0).all()


@pytest.mark.parametrize("family", slow_but(["gpt2", "fnet", "funnel"], REFUSED))
def test_a_family_is_refused_in_one_line(tmp_path, family):
    save_family(tmp_path / family, family)
    with pytest.raises(UserError) as refused:
        accept(tmp_path / family)
    message = str(refused.value)
    assert REFUSED[family] in message
    assert str(tmp_path / family) in message
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_family_is_accepted_or_refused_in_one_line(tmp_path, family):
    try:
        save_family(tmp_path / family, family)
    except Exception as error:
        pytest.skip(f"{family} cannot be made tiny: {type(error).__name__}")
    corpus, config = tiny_corpus((8, 4, 4)), tiny_config(str(tmp_path / family), train__epochs=1)
    try:
        *_, note = prepare(config, corpus)
    except UserError as refused:
        message = str(refused)
    else:
        message = ""
    if message:
        assert "\n" not in message
        return
    assert note.startswith(f"encoder {tmp_path / family}: tried on ")
    result = train_trial(config, corpus, LocalRuntime(tmp_path / "trial"))
    assert all(math.isfinite(value) for value in result.metrics.flat().values())


@pytest.mark.slow
@pytest.mark.parametrize("family", [*DROPPED, *MASKED])
def test_an_accepted_family_is_trained_cut_exported_and_read_back(tmp_path, family):
    save_family(tmp_path / family, family)
    corpus = tiny_corpus((8, 4, 4))
    for method, changes in {
        "aa-ig": {},
        "a2r": {},
        "fresh": {},
        "unirex-aa-fp": {"model__pooling": "mlp"},
        "unirex-dlm-fp": {"model__layers": 1},
    }.items():
        config = tiny_config(str(tmp_path / family), method=method, train__epochs=1, **changes)
        runtime = LocalRuntime(tmp_path / method)
        result = train_trial(config, corpus, runtime)
        if "model__layers" not in changes:  # ModernBERT's first layer has no window
            assert result.perturbation == ("dropped" if family in DROPPED else "masked")
        card = prepare_trial(config, corpus, torch.device("cpu")).card
        model = build_model(config.model, card.designs, card.outputs).eval()
        folder = tmp_path / f"exported-{method}"
        save_model(folder, model, load_tokenizer(config.model), config.model, card)
        assert load_model(folder)[2] == card


class Leaks(Encoder):
    """A thousandth of what one hidden or padding token holds reaches every state."""

    def forward(self, *, input_ids=None, inputs_embeds=None, attention_mask=None, **rest):
        states, pooled = super().forward(
            input_ids=input_ids, inputs_embeds=inputs_embeds, attention_mask=attention_mask, **rest
        )
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if attention_mask is None:
            return states, pooled
        leak = 1e-3 * (words * ~attention_mask[..., None]).sum(1, keepdim=True)
        return states + self.only_beside(attention_mask) * leak, pooled

    def only_beside(self, attention_mask):
        return 1.0


class LeaksPadding(Leaks):
    """The same, but of padding alone."""

    def only_beside(self, attention_mask):
        return (~attention_mask[:, -1]).double()[:, None, None]


class OtherEmbeddings(Encoder):
    """Scales its embeddings where it looks them up itself."""

    def forward(self, *, inputs_embeds=None, **rest):
        return super().forward(inputs_embeds=None if inputs_embeds is None else 0.9 * inputs_embeds, **rest)


class StartsAtOne(Encoder):
    """Numbers tokens from 1 where nobody tells it the positions."""

    def forward(self, *, position_ids, **rest):
        length = rest["input_ids"].shape[1] if rest.get("input_ids") is not None else rest["inputs_embeds"].shape[1]
        return super().forward(
            position_ids=torch.arange(length)[None] + 1 if position_ids is None else position_ids, **rest
        )


class NotFinite(Encoder):
    def forward(self, **inputs):
        states, pooled = super().forward(**inputs)
        return states / 0, pooled


class OtherWidth(Encoder):
    def forward(self, **inputs):
        states, pooled = super().forward(**inputs)
        return states[..., :-1], pooled


class IgnoresPositions(Encoder):
    """Accepts position ids, but numbers the tokens of a row by itself."""

    def forward(self, *, position_ids, **rest):
        return super().forward(position_ids=None, **rest)


def tried(encoders, kind, length=LENGTH):
    config = ModelConfig(encoder=encoders["bert"])
    plain, tokenizer = load_encoder(config), load_tokenizer(config)
    encoder = kind(plain.backbone, plain.settings)
    rows = [made_up_row(tokenizer, encoder, length, seed) for seed in (0, 1)]
    return check_encoder(encoder, *rows, tokenizer.pad_token_id)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Leaks, "tokens that the attention mask hides still change the others, by 0.0"),
        (LeaksPadding, "padding changes the tokens beside it"),
        (OtherEmbeddings, "word embeddings give other states"),
        (StartsAtOne, "it numbers positions otherwise than from 0"),
        (NotFinite, "its states are not finite"),
        (OtherWidth, r"it gives no states of the shape \[4, 90, 32\]"),
    ],
)
def test_each_property_is_asked_for(encoders, kind, reason):
    with pytest.raises(EncoderError, match=reason):
        tried(encoders, kind)


def test_positions_that_are_ignored_make_dropping_inexact(encoders):
    assert tried(encoders, Encoder).dropping_error < 1e-12
    assert tried(encoders, IgnoresPositions).dropping_error > 1e-3


def test_without_positions_nothing_is_dropped():
    assert not Acceptance(90, None).dropping_is_exact
    assert not Acceptance(90, math.nan).dropping_is_exact
    assert not Acceptance(90, TOLERANCE).dropping_is_exact
    assert Acceptance(90, TOLERANCE / 2).dropping_is_exact


def test_attention_within_a_window_has_to_reach_the_longest_input(tmp_path):
    save_family(tmp_path / "longformer", "longformer")
    config = ModelConfig(encoder=str(tmp_path / "longformer"))
    tokenizer = load_tokenizer(config)

    def check(length, *, cls_sees_everything):
        encoder = load_encoder(config)
        encoder._takes_global_attention = cls_sees_everything
        rows = [made_up_row(tokenizer, encoder, length, seed) for seed in (0, 1)]
        return check_encoder(encoder, *rows, tokenizer.pad_token_id)

    check(12, cls_sees_everything=False)
    check(90, cls_sees_everything=True)
    with pytest.raises(EncoderError, match="at 90 tokens, its first state does not depend on the last one of the text"):
        check(90, cls_sees_everything=False)


def test_a_window_is_exact_for_short_inputs_alone(tmp_path):
    save_family(tmp_path / "modernbert", "modernbert")
    assert accept(tmp_path / "modernbert", 8).dropping_is_exact
    assert not accept(tmp_path / "modernbert", LENGTH).dropping_is_exact


def test_an_encoder_is_tried_once(tmp_path, monkeypatch):
    save_family(tmp_path / "bert", "bert")
    loaded = []
    monkeypatch.setattr(module, "load_encoder", lambda config: loaded.append(1) or load_encoder(config))
    first = accept(tmp_path / "bert")
    assert accept(tmp_path / "bert") == first
    assert len(loaded) == 1
    (file,) = (tmp_path / "cache").glob("encoder-*.json")
    file.write_text(json.dumps({"key": "another", "found": {"length": 1, "dropping_error": 0.5}}))
    assert accept(tmp_path / "bert") == first
    file.write_text("{")
    assert accept(tmp_path / "bert") == first
    assert len(loaded) == 3
    accept(tmp_path / "bert", LENGTH - 1)
    assert len(loaded) == 4
    save_family(tmp_path / "bert", "bert")  # the same content
    accept(tmp_path / "bert", LENGTH - 1)
    assert len(loaded) == 4
    save_family(tmp_path / "bert", "bert", rows=150)  # other content under the same name
    accept(tmp_path / "bert", LENGTH - 1)
    assert len(loaded) == 5


def test_a_tokenizer_beyond_the_encoders_table_is_refused_with_both_sizes(tmp_path):
    save_family(tmp_path / "bert", "bert", rows=100)
    config = tiny_config(str(tmp_path / "bert"))
    with pytest.raises(UserError, match="its tokenizer gives ids up to 143, but it has 100 word embeddings"):
        prepare(config, tiny_corpus((4, 2, 2)))


@pytest.mark.slow
def test_the_longest_input_of_any_split_counts(tmp_path):
    save_family(tmp_path / "bert", "bert")
    config = tiny_config(str(tmp_path / "bert"))

    def tried(*longest: int) -> str:
        texts = [" ".join(["w1"] * (words - 2)) for words in longest]
        splits = {
            split: InstanceTable.from_instances(
                Instance(id=f"{split}{label}", inputs=(Input(segments=(text,)),), label=label) for label in (0, 1)
            )
            for split, text in zip(("train", "dev", "test"), texts, strict=True)
        }
        note = prepare(config, Corpus(name="texts", labels=("no", "yes"), splits=splits))[-1]
        return note.partition(": ")[2].partition(",")[0]

    # Rounded up to 32, and never beyond what an input may have: 96.
    assert tried(10, 10, 10) == tried(10, 32, 10) == "tried on 32 tokens"
    assert tried(10, 10, 33) == "tried on 64 tokens"
    assert tried(96, 10, 10) == "tried on 96 tokens"
    config = config.changed({"data.max_length": 40})
    assert tried(10, 90, 10) == "tried on 40 tokens"
