"""One trial: one configuration, one seed, from data to test metrics."""

from __future__ import annotations

import time

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus, Split
from unirex_ray.metrics.instance_file import to_parquet
from unirex_ray.metrics.instances import InstanceResults
from unirex_ray.metrics.table import EVALUATE_S, EXTRACTION_S, TOTAL_S, TRAIN_S, WAIT_S, TrialMetrics
from unirex_ray.training.explain import highlight_results, shown_instances
from unirex_ray.training.memory import trim_malloc
from unirex_ray.training.runtime import Runtime
from unirex_ray.training.setup import prepare_trial, trial_identity
from unirex_ray.training.shared import train_or_adopt
from unirex_ray.training.stage import StageTrainer, stages_from
from unirex_ray.training.state import TrialFiles, TrialResult, tied_epochs


def train_trial(config: Config, corpus: Corpus, runtime: Runtime) -> TrialResult:
    """Train stage by stage, each to early stopping, and evaluate dev and test with the best weights.

    A stage stops by the dev task score, or, where the task model is frozen, by its own loss on dev. After each epoch
    losses and the dev task metrics are reported; dev is explained at rungs, at ties, and with the best weights.

    Goes on from `runtime.checkpoints` where a checkpoint of the same trial is there; the result of a completed trial
    is read, and nothing is trained. Every worker runs all of this, and makes the same calls in the same order.

    Raises:
        TrainingError: where a loss or a dev metric is not finite; names it and the epoch.
        UserError: where the checkpoint belongs to another configuration, or the configuration cannot be trained.
    """
    started = time.perf_counter()
    try:
        files = TrialFiles(runtime, trial_identity(config, corpus))
        result = files.result()
        if result is not None:
            return result
        setup = prepare_trial(config, corpus, runtime.device)
        # A stage is built when the one before it has ended, on that one's best weights. A sweep's trials train a stage
        # that several of them have once: the first of them trains it, the others wait and adopt it.
        for trainer in stages_from(files.last_checkpoint(), setup, files, runtime):
            train_or_adopt(trainer)
        result, instances = final_result(trainer, started)
        files.finish(result, instances, trainer.state, setup.config, setup.card)
        return result
    finally:
        trim_malloc()


def final_result(trainer: StageTrainer, started: float) -> tuple[TrialResult, bytes]:
    """The last stage's best epoch: its dev metrics, and test, evaluated once per completed trial.

    With it dev and test by instance, as a file.

    Args:
        trainer: of the last stage, with the best weights.
        started: when this process took the trial up, by `time.perf_counter`.
    """
    setup, evaluator = trainer.setup, trainer.evaluator()
    test = trainer.evaluate("test", evaluator, keep_scores=True)
    split, corpus = trainer.data["test"], setup.corpus
    highlights = highlight_results(
        trainer.model, split, corpus.splits["test"], corpus.labels, test, numbers=shown_instances(split)
    )
    state = trainer.state
    seconds = {
        TRAIN_S.key: state.train_s,
        EVALUATE_S.key: state.evaluate_s,
        WAIT_S.key: state.wait_s,
        EXTRACTION_S.key: evaluator.stopwatch.per_instance,
        TOTAL_S.key: time.perf_counter() - started,
    }
    result = TrialResult(
        metrics=TrialMetrics(dev=state.best_metrics | tied_epochs(state.tied), test=test.metrics, time=seconds),
        epoch=state.best_epoch,
        perturbation="dropped" if setup.forward_plan.drop else "masked",
        highlights=highlights,
    )
    assert trainer.dev_instances is not None
    about = {"method": setup.config.method, "seed": setup.config.train.seed, "data_digest": setup.corpus.digest()}
    by_split: dict[Split, InstanceResults] = {"dev": trainer.dev_instances, "test": test.instances}
    return result, to_parquet(by_split, setup.encoded.labels, about)
