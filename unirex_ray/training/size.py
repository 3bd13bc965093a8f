"""How large a trial's files are, before it runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unirex_ray.config import Config, ModelConfig
from unirex_ray.data.schema import Corpus
from unirex_ray.methods import get_method
from unirex_ray.models.encoder import Encoder, load_encoder
from unirex_ray.models.rationale_model import EncoderFactory, RationaleModel, build_stage

_ADAM_STATES = 2


@dataclass(frozen=True, kw_only=True)
class TrialSize:
    """Bytes of a trial's weights.

    Attributes:
        running: most that it needs while it trains: its last checkpoint, with the optimizer's state, and its best
            weights, each beside the one that it replaces.
        ended: of its best weights.
    """

    running: int
    ended: int


def encoder_sketch(config: ModelConfig) -> Encoder:
    """An encoder without its weights."""
    return load_encoder(config, weights=False)


def trial_size(config: Config, corpus: Corpus, make_encoder: EncoderFactory = encoder_sketch) -> TrialSize:
    """What a configuration's trials need on disk; no weights are loaded.

    Args:
        make_encoder: see `encoder_sketch`; an encoder from the hub is asked for each time.

    Raises:
        UserError: for an encoder that cannot be found.
    """
    running, ended = 0, 0
    model: RationaleModel | None = None
    outputs = 1 if corpus.multi_choice else len(corpus.labels)
    for index, stage in enumerate(get_method(config.method).stages):
        with torch.device("meta"):
            model = build_stage(
                config.model,
                stage.design,
                outputs,
                seed=0,
                stage_index=index,
                earlier=model,
                make_encoder=make_encoder,
            )
        ended = sum(value.nbytes for value in model.state_dict().values())
        trained = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
        running = max(running, 2 * (2 * ended + _ADAM_STATES * trained))
    return TrialSize(running=running, ended=ended)
