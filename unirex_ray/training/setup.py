"""What never changes while a trial runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unirex_ray.config import Config, config_hash
from unirex_ray.data.encoded import EncodedCorpus
from unirex_ray.data.load import train_sample
from unirex_ray.data.schema import Corpus
from unirex_ray.methods import Method, get_method
from unirex_ray.models.card import ModelCard
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.memory import disable_malloc_trim
from unirex_ray.training.prepare import accepted_encoder, check_method, check_perturbation, prepared_corpus
from unirex_ray.training.runtime import forward_plan


@dataclass(frozen=True, kw_only=True)
class TrialSetup:
    """What every stage of a trial reads.

    Attributes:
        config: with the method's own options filled in.
        encoded: the corpus as the encoder reads it.
        corpus: the same with its texts.
        card: describes the model that the trial will leave behind.
    """

    config: Config
    method: Method
    corpus: Corpus
    encoded: EncodedCorpus
    forward_plan: ForwardPlan
    card: ModelCard


def trial_identity(config: Config, corpus: Corpus) -> str:
    """Equal for trials that compute the same numbers: a hash of what the method reads, and the data digest."""
    method = get_method(config.method)
    return f"{config_hash(method.resolve(config), method.reads)}-{corpus.digest()}"


def prepare_trial(config: Config, corpus: Corpus, device: torch.device) -> TrialSetup:
    """Check a configuration, encode its corpus (from the cache where it is there) and plan the forward passes.

    Raises:
        UserError: for a method that cannot learn from this corpus, an encoder that cannot be loaded or is asked for
            more than it has, and for `train.perturbation = dropped` where that is not exact.
    """
    sample = train_sample(corpus, config.data)
    check_method(config, sample)
    method = get_method(config.method)
    config = method.resolve(config)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    disable_malloc_trim()
    encoded = prepared_corpus(config, sample)
    acceptance = accepted_encoder(config, encoded)
    check_perturbation(config, acceptance)
    may_drop = config.train.perturbation != "masked" and not method.learns_through_selection
    card = ModelCard(
        method=config.method,
        designs=tuple(stage.design for stage in method.stages),
        labels=corpus.labels,
        task_metric=corpus.task_metric,
        multi_choice=corpus.multi_choice,
        max_length=encoded.max_length,
        truncation=corpus.truncation,
        segments=corpus.segments,
        seed=config.train.seed,
    )
    return TrialSetup(
        config=config,
        method=method,
        corpus=corpus,
        encoded=encoded,
        forward_plan=forward_plan(config.train, device, drop=may_drop and acceptance.dropping_is_exact),
        card=card,
    )
