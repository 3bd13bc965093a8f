"""What the paper says of a method's row, on a small corpus whose rationales can be learned."""

from pathlib import Path

import pytest
import torch
from helpers.tiny import encode, last_stage, tiny_config, tiny_corpus, whole_batch
from scipy.stats import spearmanr

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.models.attribution import attribute, dropout_off
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.stage import StageTrainer
from unirex_ray.training.trial import train_trial


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((96, 24, 40), gold=1.0)


def configured(encoder: str, method: str, **overrides: object) -> Config:
    base = {"train__epochs": 12, "train__patience": 12, "train__learning_rate": 5e-3, "loss__top_k_percents": (10, 50)}
    return tiny_config(encoder, method=method, **base | overrides)


def trained(config: Config, corpus: Corpus, folder: Path) -> StageTrainer:
    trainer = last_stage(config, corpus, LocalRuntime(folder))
    trainer.train()
    return trainer


@pytest.mark.slow
def test_l2es_extractor_follows_the_integrated_gradients_that_it_learned_from(encoders, corpus, tmp_path):
    config = configured(encoders["bert"], "l2e", train__epochs=25, train__patience=25)
    trainer = trained(config, corpus, tmp_path)

    def correlation(split: str) -> float:
        encoded, tokens = encode(config, corpus.splits[split])
        batch = whole_batch(encoded, tokens)
        with dropout_off(trainer.model), torch.no_grad():
            learned = trainer.model.scores(batch, ForwardPlan())
            predicted = trainer.model.task_model.full_logits(batch, ForwardPlan()).argmax(-1)
        imitated = attribute(trainer.model.task_model, batch, predicted, "ig", ForwardPlan())
        return float(spearmanr(learned[batch.attended], imitated[batch.attended]).statistic)

    assert correlation("train") > 0.3
    assert correlation("test") > 0.1


@pytest.mark.slow
def test_methods_that_learn_from_gold_rationales_find_them(encoders, corpus, tmp_path):
    auprc = {
        method: train_trial(
            configured(encoders["bert"], method), corpus, LocalRuntime(Path(tmp_path) / method)
        ).metrics.flat()["test/auprc"]
        for method in ("aa-ig", "a2r-p", "unirex-dlm-p", "unirex-dlm-fp", "unirex-slm-fp")
    }
    assert all(value > auprc["aa-ig"] + 15 for method, value in auprc.items() if method != "aa-ig")
