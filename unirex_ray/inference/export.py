"""Writing the selected trial as a folder that others can use."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unirex_ray.analysis.selection import Configuration, configurations, rank_on_dev, select_variants
from unirex_ray.config import Config, to_yaml
from unirex_ray.data.schema import Split
from unirex_ray.errors import UserError
from unirex_ray.files import new_folder
from unirex_ray.inference.hub import front_matter
from unirex_ray.inference.model import SETTINGS
from unirex_ray.methods import get_method
from unirex_ray.metrics.table import METRICS, TASK_SCORE
from unirex_ray.metrics.verdict import better_than_majority
from unirex_ray.models.card import ModelCard
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.store import TASK_MODEL, save_model
from unirex_ray.sweep.folder import open_trial
from unirex_ray.tracking.choose import unfinished_in_words
from unirex_ray.tracking.protocol import protocol_hash, protocol_line, protocol_of
from unirex_ray.tracking.provenance import code_version
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import CONFIG_HASH, DATA_DIGEST, GIT_VERSION, SweepRecord
from unirex_ray.training.checkpoint import CONFIG, CheckpointStore
from unirex_ray.training.completed import completed_model

PROVENANCE = "provenance.json"
_SPLITS: tuple[Split, ...] = ("dev", "test")
_READS = {None: "texts", 1: "one text", 2: "a pair of texts"}
_PACKAGES = ("torch", "transformers", "tokenizers", "captum", "ray", "optuna", "mlflow", "numpy")


@dataclass(frozen=True, kw_only=True)
class Selected:
    """The trial to export.

    Attributes:
        record: of the seed with the best dev task score; the earlier one wins a tie.
        configuration: all its seeds.
        unfinished: the sweeps that it was selected from and that lack trials, in words.
    """

    record: TrialRecord
    configuration: Configuration
    sweep: SweepRecord
    unfinished: tuple[str, ...] = ()


def select_trial(
    sweeps: Sequence[SweepRecord],
    weights: tuple[float, float, float],
    method: str | None,
    *,
    even_if_not_better: bool = False,
) -> Selected:
    """The best configuration by dev CNRG (global scope; of one method: variant scope), and its best seed.

    Args:
        even_if_not_better: whether to take one whose models are not better than the majority class.

    Raises:
        UserError: if no configuration is complete, or none better than the majority class.
    """
    candidates: dict[str, list[Configuration]] = {}
    for sweep in sweeps:
        for name, of_method in configurations(sweep.trials, seeds=sweep.seeds, sweep=sweep.sweep_id).items():
            candidates.setdefault(name, []).extend(of_method)
    if method is not None:
        candidates = {name: of_method for name, of_method in candidates.items() if name == method}
    selected = select_variants(candidates, weights)
    ranking = rank_on_dev(selected, weights)
    what = f"method {method!r}" if method else "the sweeps"
    if not ranking.order:
        raise UserError(f"no configuration of {what} has completed all its seeds; finish the sweep with --resume")
    best = ranking.order[0]
    if ranking.best is None and not even_if_not_better:
        raise UserError(
            f"no configuration of {what} has models that are better than the majority class on dev: there is nothing "
            "worth exporting; train on more data or for longer, or add --even-if-not-better"
        )
    record = max(best.records, key=lambda record: record.metrics.dev[TASK_SCORE.key])
    return Selected(
        record=record,
        configuration=best,
        sweep=next(sweep for sweep in sweeps if sweep.sweep_id == best.sweep),
        unfinished=unfinished_in_words(sweeps),
    )


def output_of(selected: Selected, outputs: Sequence[str]) -> Path:
    """The sweep's output that holds a trial; the first where none does."""
    folders = [Path(output).expanduser() for output in outputs]
    holds = (folder for folder in folders if (folder / "trials" / selected.record.spec.trial_id).is_dir())
    return next(holds, folders[0])


def export(
    selected: Selected, output: Path, folder: Path, *, tracking_uri: str, trust_remote_code: bool = False
) -> Config:
    """Write the folder: model, tokenizer, `best_config.yaml`, `metrics.json`, `provenance.json` and `README.md`.

    It is written beside its place, read back, and put there as a whole.

    Args:
        output: the sweep's output folder, which holds the trained weights.
        trust_remote_code: see `completed_model`.

    Raises:
        UserError: if the weights are not there, or `folder` cannot be written or already holds something.
    """
    record = selected.record
    with new_folder(folder.absolute(), "folder") as new:
        store = open_trial(output, record.spec.trial_id)
        completed = completed_model(store, trust_remote_code=trust_remote_code)
        if completed is None:
            raise UserError(_no_weights(store, record))
        config, model, card = completed
        save_model(new, model, load_tokenizer(config.model), config.model, card)
        # NRG depends on what else was compared: raw metrics are what this trial is known by.
        metrics = replace(record.metrics, nrg={}).flat()
        provenance = provenance_of(selected, tracking_uri)
        texts = {
            SETTINGS: to_yaml(config),
            "metrics.json": json.dumps(dict(sorted(metrics.items())), indent=2),
            PROVENANCE: json.dumps(provenance, indent=2),
            "README.md": front_matter(record, config, card)
            + model_card(selected, config, card, provenance)
            + files_section(new, card),
        }
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8")
    return config


def _no_weights(store: CheckpointStore, record: TrialRecord) -> str:
    """Why there are none, and what to do."""
    trial = f"the weights of trial {record.spec.trial_id} are not in {store.folder}"
    if store.read(CONFIG) is None:
        return (
            f"{trial}; give the sweep's --output, or train it again: its configuration is in MLflow run {record.run_id}"
        )
    return (
        f"{trial}: a sweep keeps those that some weights of NRG may select, by the seeds that it has "
        "(sweep.keep_weights=all: of all); train it again with the job `train`: "
        f"--config {shlex.quote(f'{store.folder}/{CONFIG}')} --output={shlex.quote(f'{store.folder}-again')}"
    )


def files_section(folder: Path, card: ModelCard) -> str:
    """The part of the README that says which of the folder's files other software can read."""
    kind = "MultipleChoice" if card.multi_choice else "SequenceClassification"
    if (folder / TASK_MODEL).is_dir():
        rationale = " It reads rationales, not whole texts." if card.designs[-1].predicts_from == "rationale" else ""
        text = f"`task_model/` is the task model alone, for `AutoModelFor{kind}` and `AutoTokenizer`.{rationale}"
    else:
        text = (
            f"No `AutoModelFor{kind}` computes this task model's head, so all weights are in "
            "`rationale_model.safetensors`, for `unirex_ray` alone; `encoder/` holds configuration and tokenizer."
        )
    return f"\n## Files\n\n{text}\n"


def provenance_of(selected: Selected, tracking_uri: str) -> dict[str, Any]:
    """From the exported numbers back to data, code and run."""
    record, protocol = selected.record, protocol_of(selected.sweep.settings)
    return {
        "trial_id": record.spec.trial_id,
        "run_id": record.run_id,
        "sweep_id": selected.sweep.sweep_id,
        "sweep_run_id": selected.sweep.run_id,
        "tracking_uri": tracking_uri,
        "data_digest": record.tags.get(DATA_DIGEST),
        "protocol": protocol_hash(protocol),
        "protocol_settings": protocol,
        "config_hash": record.tags.get(CONFIG_HASH),
        "code": record.tags.get(GIT_VERSION),
        "exported_by": code_version(),
        "unfinished": list(selected.unfinished),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def model_card(selected: Selected, config: Config, card: ModelCard, provenance: Mapping[str, Any]) -> str:
    """The folder's README in Markdown, below what a hub reads of it."""
    method, record = get_method(config.method), selected.record
    return f"""# {method.label} on {config.data.name}

A task model that reads {_READS[card.segments]} and predicts one of {", ".join(card.labels)}, and a
rationale extractor that scores each token by its importance for the prediction (UNIREX, Chan et al., ICML 2022).

| | |
|---|---|
| encoder | {config.model.encoder} |
| parameters searched | {", ".join(f"{k} = {v}" for k, v in record.spec.parameters.items()) or "none"} |
| seed | {record.spec.seed}, of {", ".join(str(seed) for seed in selected.sweep.seeds)} |
| trial | {provenance["trial_id"]} |
| data digest | {provenance["data_digest"]} |
| protocol | {protocol_line(selected.sweep.settings)} |
| better than the majority class | {verdicts_in_words(record)} |
| selected from | {"; ".join(selected.unfinished) or "finished sweeps"} |
| code | {provenance["code"]} |

## Metrics of this seed's best checkpoint

{metrics_table(record)}

## Use

    unirex explain --model FOLDER {text_options(card)}
    unirex train --config FOLDER/best_config.yaml --output=again

In Python: `unirex_ray.load_model(FOLDER).explain([...])`.

A rationale shows what the extractor was trained to point at; it is no proof of how the task model decides.
"""


def text_options(card: ModelCard) -> str:
    """The options of the job `explain` for what a model reads, with the texts left open."""
    if not card.multi_choice:
        return '--text "..."' + (' --second "..."' if card.segments == 2 else "")
    text = '--text "..." ' if card.segments == 2 else ""
    return text + " ".join('--choice "..."' for _ in card.labels)


def metrics_table(record: TrialRecord) -> str:
    """The metrics that a trial has on dev or test, as a table in Markdown."""
    measured = {key for split in _SPLITS for key in record.metrics.of(split)}
    rows = (
        f"| {metric.label} ({'higher' if metric.higher_is_better else 'lower'} is better) "
        + "".join(f"| {_shown(record.metrics.of(split).get(metric.key), metric.decimals)} " for split in _SPLITS)
        + "|"
        for metric in METRICS
        if metric.key in measured
    )
    return "\n".join(["| metric | dev | test |", "|---|---|---|", *rows])


def verdicts_in_words(record: TrialRecord) -> str:
    """Whether a trial's model is better than the majority class, by split, in Markdown."""
    return ", ".join(f"{split}: {_verdict(record, split)}" for split in _SPLITS)


def _verdict(record: TrialRecord, split: Split) -> str:
    better = better_than_majority(record.metrics.of(split))
    return "not recorded" if better is None else "yes" if better else "**no**"


def _shown(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:z.{decimals}f}"
