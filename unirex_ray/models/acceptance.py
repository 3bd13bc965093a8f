"""Whether an encoder computes what this system takes for granted, found out by trying it.

Comprehensiveness, sufficiency and every batch rest on this: a token that the attention mask hides, and a token that
pads, changes nothing of what remains. Some families are built otherwise, and none says so.

Shapes: R rows, T tokens, H hidden size.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor

from unirex_ray.config import ModelConfig
from unirex_ray.data.cache import cache_folder, read_or_make
from unirex_ray.errors import UserError, one_line
from unirex_ray.files import replace_text
from unirex_ray.models.encoder import Encoder, encoder_version, load_encoder, load_tokenizer, made_up_row

TOLERANCE = 1e-6
"""Largest error, in double precision, as a share of what hiding half of the tokens does."""
_REACTION = 1e-12
"""Smallest effect of a token on the first one, as share of another text's: little in deep encoders, not rounding."""
_SHORTEST = 8  # tokens in a trial row: enough for some to be hidden and some to be kept
_RULES = 2  # a new number retires every answer that was kept


class EncoderError(ValueError):
    """Why an encoder cannot be used."""


@dataclass(frozen=True)
class Acceptance:
    """What an accepted encoder was found to do.

    Attributes:
        length: tokens of the longest input that it was tried on.
        dropping_error: of states when tokens are dropped at their positions instead of hidden, as a share of what
            hiding does; at least 0, lower is better. None for an encoder that takes no positions.
        gates_error: of states when gates hide the tokens, as the same share. None where gates get no gradient, as in a
            family that computes its attention by itself.
    """

    length: int
    dropping_error: float | None
    gates_error: float | None = None

    @property
    def dropping_is_exact(self) -> bool:
        """Whether losses may drop tokens instead of hiding them."""
        return self.dropping_error is not None and self.dropping_error < TOLERANCE

    @property
    def gates_are_exact(self) -> bool:
        """Whether scores may learn through the selection."""
        return self.gates_error is not None and self.gates_error < TOLERANCE

    def describe(self) -> str:
        """One line for the user."""
        if self.dropping_is_exact:
            way = f"losses drop them, which is the same (to {self.dropping_error:.0e})"
        elif self.dropping_error is None:
            way = "losses mask them, as it takes no positions"
        else:
            way = f"losses mask them, as dropping errs by {self.dropping_error:.1g} of what hiding does"
        return f"tried on {self.length} tokens, hidden and padding tokens change nothing; {way}"


def accept_encoder(config: ModelConfig, length: int, cache: str | Path | None) -> Acceptance:
    """Try the encoder that `config` names on rows of random tokens, once per encoder, length and library.

    Args:
        length: tokens of a row, no fewer than the longest input has: what attention within a window does beyond it is
            not seen on shorter ones.
        cache: `data.cache`.

    Raises:
        UserError: for an encoder that cannot be used, in one line with the reason.
    """
    length = max(length, _SHORTEST)
    version, libraries = encoder_version(config), (torch.__version__, transformers.__version__)
    key = json.dumps([_RULES, config.encoder, version, config.layers, length, *libraries])
    file = cache_folder(cache) / f"encoder-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    return read_or_make(
        cache,
        lambda: None if version is None else _read(file, key),
        lambda: _try_out(config, length),
        lambda acceptance: _write(file, key, acceptance),
    )


def _try_out(config: ModelConfig, length: int) -> Acceptance:
    try:
        encoder, tokenizer = load_encoder(config), load_tokenizer(config)
        row, other = (made_up_row(tokenizer, encoder, length, seed) for seed in (0, 1))
        return check_encoder(encoder, row, other, tokenizer.pad_token_id)
    except UserError:
        raise
    except EncoderError as error:
        reason = str(error)
    except Exception as error:  # whatever a library raises on what it was not made for
        reason = f"it fails on a text of {length} tokens in double precision ({one_line(error)})"
    raise UserError(f"model.encoder = {config.encoder!r} cannot be used: {reason}; choose another encoder")


def _read(file: Path, key: str) -> Acceptance | None:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return Acceptance(**stored["found"]) if stored["key"] == key else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write(file: Path, key: str, acceptance: Acceptance) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, json.dumps({"key": key, "found": asdict(acceptance)}))


@torch.no_grad()
def check_encoder(encoder: Encoder, row: Tensor, other: Tensor, pad_id: int) -> Acceptance:
    """Try an encoder on two texts of the same length, in double precision and without dropout.

    Args:
        encoder: is left in double precision and in evaluation mode.
        row, other: token ids [T], equal in their special tokens alone.

    Raises:
        EncoderError: naming the property that does not hold.
    """
    encoder.double().eval()
    content = row != other
    first, last = content.nonzero().flatten()[[0, -1]].tolist()
    texts = torch.stack([row, other, _changed(row, other, first), _changed(row, other, last)])
    full, of_other, *one_changed = _states(encoder, texts)
    _check_reactions(full, of_other, one_changed, len(row))

    hidden = content & (torch.arange(len(row)) % 2 == 0)
    kept = ~hidden
    compared = torch.cat([torch.tensor([True]), kept])
    masked, masked_other = (
        _states(encoder, text[None], kept[None])[0, compared] for text in (row, torch.where(hidden, other, row))
    )
    hiding = _largest(masked - full[compared])
    if not hiding > TOLERANCE * _largest(full):
        raise EncoderError("its attention mask hides nothing")
    from_embeddings = _states(encoder, row[None], embeds=True)
    unnumbered = _states(encoder, row[None], own_positions=True)
    errors = {
        "tokens that the attention mask hides still change the others": max(
            _largest(masked - masked_other), _crowding_error(encoder, row, other, content)
        ),
        "padding changes the tokens beside it": _padding_error(encoder, row, other, pad_id),
        "word embeddings give other states than their tokens": _largest(from_embeddings - full),
        "it numbers positions otherwise than from 0": _largest(unnumbered - full),
    }
    for what, error in errors.items():
        if not error <= TOLERANCE * hiding:
            raise EncoderError(f"{what}, by {error / hiding:.1g} times what hiding every other one does")
    gates_error = _gates_error(encoder, row, kept, masked, hiding)
    if not encoder.takes_position_ids:
        return Acceptance(len(row), None, gates_error)
    dropped = _states(encoder, row[kept][None], positions=kept.nonzero().flatten()[None])[0]
    return Acceptance(len(row), _largest(dropped - masked) / hiding, gates_error)


def _gates_error(encoder: Encoder, row: Tensor, kept: Tensor, masked: Tensor, hiding: float) -> float | None:
    """Error of states when gates hide tokens; None where a hidden one's gate gets no gradient."""
    gates = kept.double()[None].requires_grad_()
    try:
        with torch.enable_grad():
            states = _states(encoder, row[None], gates)[0]
            half = states[0, : encoder.hidden_size // 2].sum()  # a layer norm makes the sum of all constant
            (gradient,) = torch.autograd.grad(half, gates, materialize_grads=True, allow_unused=True)
    except Exception:  # whatever a family's own attention raises on what is no mask
        return None
    if not gradient[0, ~kept].any():
        return None
    return _largest(states.detach()[torch.cat([torch.tensor([True]), kept])] - masked) / hiding


def _check_reactions(full: Tensor, of_other: Tensor, one_changed: list[Tensor], length: int) -> None:
    effect = _largest(full[0] - of_other[0])
    if not effect > TOLERANCE * _largest(full[0]):
        raise EncoderError("the state of its first token does not depend on the text, as in a causal model")
    for which, changed in zip(("first", "last"), one_changed, strict=True):
        if not _largest(full[0] - changed[0]) > _REACTION * effect:
            raise EncoderError(f"at {length} tokens, its first state does not depend on the {which} one of the text")


def _changed(row: Tensor, other: Tensor, index: int) -> Tensor:
    changed = row.clone()
    changed[index] = other[index]
    return changed


def _crowding_error(encoder: Encoder, row: Tensor, other: Tensor, content: Tensor) -> float:
    """What the hidden first half of a text does to the second one, where all words are the same.

    They all go to the same expert of a mixture, which takes no more than its share.
    """
    kept = ~content | (torch.arange(len(row)) >= len(row) // 2)
    same = torch.where(content, row[content][0], row)
    texts = torch.stack([same, torch.where(kept, same, other)])
    states = _states(encoder, texts, kept.expand(2, -1))[:, torch.cat([torch.tensor([True]), kept])]
    return _largest(states[0] - states[1])


def _padding_error(encoder: Encoder, row: Tensor, other: Tensor, pad_id: int) -> float:
    """What padding does to half of a row, whatever the ids are that pad."""
    length = len(row) // 2
    alone = _states(encoder, row[None, :length])
    mask = torch.arange(len(row)) < length
    padded = torch.stack([row.where(mask, pad_id), row.where(mask, other)])
    return _largest(_states(encoder, padded, mask.expand(2, -1))[:, : length + 1] - alone)


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def _states(
    encoder: Encoder,
    ids: Tensor,
    mask: Tensor | None = None,
    *,
    positions: Tensor | None = None,
    own_positions: bool = False,
    embeds: bool = False,
) -> Tensor:
    """What the heads read: the pooled first token, then every token's state [R, 1 + T, H]."""
    words = {"inputs_embeds": encoder.word_embeddings(ids)} if embeds else {"input_ids": ids}
    if positions is None and not own_positions:
        positions = torch.arange(ids.shape[1]).expand_as(ids)
    states, pooled = encoder(position_ids=positions, token_types=torch.zeros_like(ids), attention_mask=mask, **words)
    first = pooled if encoder.has_pooler else states[:, 0]
    expected = (*ids.shape, encoder.hidden_size)
    if tuple(states.shape) != expected or first is None or tuple(first.shape) != (expected[0], expected[2]):
        raise EncoderError(f"it gives no states of the shape {list(expected)} and a pooled one for each row")
    if not states.isfinite().all():
        raise EncoderError("its states are not finite")
    return torch.cat([first[:, None], states], dim=1)
