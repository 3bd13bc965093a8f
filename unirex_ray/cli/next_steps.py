"""What to type after a job."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from unirex_ray.cli.calls import command
from unirex_ray.cli.option import option
from unirex_ray.config import REMOTE_CODE, Config, flatten
from unirex_ray.data.schema import Corpus
from unirex_ray.tracking.protocol import protocol_hash, protocol_of
from unirex_ray.tracking.records import Evaluation
from unirex_ray.tracking.store import BEST_CONFIG, own_database, resolve_tracking_uri

if TYPE_CHECKING:  # a job waits for its own libraries alone
    from unirex_ray.models.card import ModelCard
    from unirex_ray.report.compared import Compared
    from unirex_ray.sweep.finish import SweepOutcome
    from unirex_ray.sweep.recording import Synced


def print_next(commands: Sequence[str], out: Console) -> None:
    """The commands below each other, in a form that can be pasted; nothing where there is none."""
    if commands:
        out.print("next:")
    for typed in commands:
        out.print(f"  {typed}", markup=False, soft_wrap=True)


def after_prepare(corpus: Corpus, tree: Mapping[str, Any]) -> list[str]:
    """A sweep, or a method that needs no gold rationales.

    Args:
        tree: the configuration as the user gave it, whose corpus and encoder stay.
    """
    given = [option(key, value) for key, value in flatten(tree) if key != "output"]
    first = command("sweep") + ("" if corpus.name == Config().data.name else " --space=all-methods")
    if not corpus.has_gold("train"):
        first = f"{command('train')} --method=unirex-aa-f"
    return [" ".join([first, *given])]


def after_sweep(outcome: SweepOutcome, config: Config) -> list[str]:
    """Bring MLflow what it has not taken, compare, export, train the best again, look at the runs."""
    uri, same_store = resolve_tracking_uri(config), _store_options(config)
    view = f"open {uri}{outcome.page}" if uri.startswith("http") else f"{command('ui')} {shlex.quote(config.output)}"
    sync = [f"{command('sync')} {option('output', config.output)}"] if outcome.not_delivered else []
    output, again = shlex.quote(config.output), option("output", f"{config.output.rstrip('/')}-best")
    shared, trust = uri != own_database(config), _trust(config)
    selected = f" --sweep-id={outcome.sweep_id}" if shared else ""
    unfinished = " --unfinished" if outcome.status == "incomplete" else ""
    compare = (
        f"{command('compare')} {same_store}"
        + (f" --protocol={protocol_hash(protocol_of(outcome.settings))}" if shared else "")
        + unfinished
    )
    if outcome.best is None:
        return [*sync, *([compare] if outcome.statuses.get("completed") else []), view]
    return [
        *sync,
        compare,
        f"{command('export_best')} {same_store}{selected}{trust}{unfinished}",
        f"{command('train')} --config {output}/{BEST_CONFIG} {again}{trust}",
        view,
    ]


def after_sync(synced: Synced) -> list[str]:
    """Compare what is complete."""
    return [f"{command('compare')} {_store_options(synced.config)}"] if synced.status == "completed" else []


def after_compare(config: Config, compared: Compared, options: argparse.Namespace) -> list[str]:
    """Export the best, where any is better than the majority class.

    Args:
        options: how the user chose the sweeps.
    """
    if all(row.learned is False for row in compared.comparison.rows):
        return []  # there is nothing worth exporting
    if options.archive:
        return []  # an archive holds no weights
    chosen = "".join(f" {option('also', output)}" for output in options.also)
    chosen += "".join(f" --sweep-id={name}" for name in options.sweeps)
    if not options.sweeps and compared.store.uri != own_database(config):
        chosen += "".join(f" --protocol={name}" for name in compared.comparison.protocols)
    chosen += " --unfinished" if options.unfinished else ""
    return [f"{command('export_best')} {_store_options(config)}{chosen}"]


def after_export(folder: str, exported: Config, card: ModelCard) -> list[str]:
    """Explain what the model reads, evaluate elsewhere, train again."""
    model, again = shlex.quote(folder), option("output", f"{exported.output.rstrip('/')}-again")
    from unirex_ray.inference.export import text_options  # what only export_best has loaded

    trust = _trust(exported)
    return [
        f"{command('explain')} --model {model} {text_options(card)}{trust}",
        f"{command('evaluate')} --model {model} --data.name=...{trust}",
        f"{command('train')} --config {model}/best_config.yaml {again}{trust}",
    ]


def after_register(name: str, version: int, uri: str) -> list[str]:
    """Serve a registered model with what is installed here, which `unirex_ray` has to be.

    Args:
        uri: of the store.
    """
    serve = f"mlflow models serve --model-uri models:/{name}/{version} --env-manager=local --port 5001"
    return [f"MLFLOW_TRACKING_URI={shlex.quote(uri)} {serve}"]


def after_evaluate(evaluation: Evaluation, config: Config, uri: str, *, with_sweep: bool) -> list[str]:
    """Compare the methods on the corpus that the models were trained on.

    Args:
        uri: of the store.
        with_sweep: whether the store has the sweep that trained them; else a comparison needs both.
    """
    own = uri == own_database(config)
    if not with_sweep:
        corpus, also = option("data.name", evaluation.trained_on), option("also", config.output)
        return [f"{command('compare')} {corpus} --output=... {also}"] if own else []
    trained = {"data.name": evaluation.trained_on, "tracking.uri": None if own else uri}
    return [f"{command('compare')} {_store_options(config.changed(trained))}"]


def _trust(config: Config) -> str:
    """The option without which a file's wish to run an encoder's own code is refused."""
    return f" --{REMOTE_CODE}" if config.model.trust_remote_code else ""


def _store_options(config: Config) -> str:
    """The options with which another job finds the same runs and files."""
    options = {"data.name": config.data.name, "output": config.output, "tracking.uri": config.tracking.uri}
    return " ".join(option(key, value) for key, value in options.items() if value is not None)
