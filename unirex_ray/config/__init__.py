"""The one configuration tree: typed, frozen, validated where it is defined.

YAML goes in, dotted overrides go on top, the resolved YAML comes out and can be fed back in.
Every key has a type, a default and a meaning, which `--help` of the jobs that read it lists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from unirex_ray.config.values import (
    Folder,
    Label,
    Resource,
    Share,
    Source,
    Storage,
    TrackingUri,
    UserPath,
    custom_resource,
)
from unirex_ray.errors import UserError, did_you_mean

EMBEDDED_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
"""Of the embedded encoder, sentence-transformers/all-MiniLM-L6-v2."""

TopKPercent = Annotated[int, Field(ge=1, le=100)]
Weight = Annotated[float, Field(ge=0, le=100)]
LARGEST = 2**32 - 1
"""Whole number: random generators take no larger seed."""
_LARGEST_WEIGHT = 1e6


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _check_number(cls, value: object) -> object:
        if isinstance(value, int) and value > LARGEST:
            raise PydanticCustomError("less_than_equal", f"Input should be less than or equal to {LARGEST}")
        return value


class DataConfig(_Section):
    """Which corpus, and how much of it."""

    name: str = Field(
        "reviews",
        description="Corpus: reviews (embedded), sst, movies, cose, multirc, esnli, yelp, amazon, stormfront, "
        "offenseval, irony, hatexplain; eraser or table for your own.",
    )
    source: Source | None = Field(
        None,
        description="Folder, archive or file of the corpus as its authors publish it, or hf://datasets/OWNER/NAME@COMMIT.",
    )
    labels: tuple[Label, ...] | None = Field(None, description="Label list, in class order, for eraser and table.")
    text_columns: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=2, description="Columns with the text, two for pairs, for table; default: text."
    )
    label_column: str | None = Field(None, description="Column with the label, for table; default: label.")
    rationale_columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=2,
        description="Columns with the gold rationales of text_columns, for table: spans, word masks or marked text.",
    )
    task_metric: Literal["accuracy", "macro_f1", "binary_f1"] | None = Field(
        None, description="Task score, for eraser (default: macro_f1) and table (default: accuracy)."
    )
    limit: int | None = Field(None, ge=1, description="Instances per split: a seeded, stratified, nested sample.")
    train_limit: int | None = Field(
        None,
        ge=1,
        description="Train instances that are learned from: a seeded, stratified, nested sample; default: all.",
    )
    seed: int = Field(0, ge=0, description="Seed of everything drawn while preparing data.")
    gold_percent: float = Field(
        100.0, gt=0, le=100, description="Share of the train instances whose gold rationales are used (gamma)."
    )
    gold_batch_factor: float = Field(
        2.0,
        gt=1,
        le=1000,
        description="With gold_percent < 100, 1 in this many of a batch has a gold rationale (beta).",
    )
    max_length: int | None = Field(
        None, ge=8, description="Tokens per input; default: the corpus' own limit, at most the encoder's."
    )
    cache: Folder | None = Field(
        None,
        description="Folder of corpora as read and as tokenised; default: unirex_ray in XDG_CACHE_HOME or ~/.cache.",
    )


class ModelConfig(_Section):
    """The task model and the rationale extractor."""

    encoder: Source = Field("embedded", description="embedded (all-MiniLM-L6-v2, no network), a hub id, or a folder.")
    revision: str | None = Field(None, description="Hub revision of the encoder.")
    trust_remote_code: bool = Field(
        False, description="Run Python code that ships with a hub encoder; only the command line can allow it."
    )
    layers: int | None = Field(None, ge=1, le=1000, description="Keep the encoder's first N layers; default: all.")
    head: Literal["linear", "mlp-2048-2", "mlp-4096-3"] = Field(
        "linear", description="Head of an extractor that is learned (DLM, SLM, L2E)."
    )
    ig_steps: int = Field(3, ge=1, le=1000, description="Gauss-Legendre steps of integrated gradients.")
    pooling: Literal["sum", "mlp"] = Field(
        "sum", description="How IG's hidden dimensions become a score; mlp is trained, and needs a plausibility loss."
    )
    convergence_delta: bool = Field(False, description="Measure how far IG's scores are from complete (AA, IG).")
    log_odds: bool = Field(False, description="Measure log-odds as well: five more passes over whole texts.")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout everywhere in the encoder; default: as the encoder is configured."
    )


class LossConfig(_Section):
    """L = L_task + comp_weight L_comp + suff_weight L_suff + plaus_weight L_plaus."""

    comp_weight: Weight = Field(1.0, description="Weight of the comprehensiveness loss (alpha_c).")
    suff_weight: Weight = Field(1.0, description="Weight of the sufficiency loss (alpha_s).")
    plaus_weight: Weight = Field(1.0, description="Weight of the plausibility loss (alpha_p).")
    comp: Literal["margin", "diff"] = Field("margin", description="Comprehensiveness criterion.")
    comp_margin: float = Field(1.0, ge=0, le=100, description="Margin m_c of comp=margin.")
    suff: Literal["margin", "diff", "kl", "mae"] | None = Field(
        None, description="Sufficiency criterion; default: the method's own, kl for SGT and margin elsewhere."
    )
    suff_margin: float = Field(0.1, ge=0, le=100, description="Margin m_s of suff=margin.")
    plaus: Literal["bce", "kl", "linear", "linear_margin"] = Field("bce", description="Plausibility criterion.")
    plaus_margin: float = Field(0.1, ge=0, le=100, description="Margin m_p of plaus=linear_margin.")
    warmup: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of a stage's steps over which comp_weight and suff_weight rise from 0; default: none.",
    )
    agreement_weight: Weight = Field(0.5, description="Weight of the divergence of A2R's two predictors (lambda).")
    top_k_percents: tuple[TopKPercent, ...] = Field(
        (1, 5, 10, 20, 50), min_length=1, description="K of the faithfulness losses, in percent of the tokens."
    )
    sampled_top_k: int | None = Field(
        None, ge=1, description="Train on so many of K in each step, drawn anew: cheaper, unbiased; default: on all."
    )

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        if len(set(self.top_k_percents)) != len(self.top_k_percents):
            raise ValueError(f"loss.top_k_percents must be distinct, but got {list(self.top_k_percents)}")
        most = len(self.top_k_percents)
        if self.sampled_top_k is not None and self.sampled_top_k > most:
            raise ValueError(f"loss.sampled_top_k = {self.sampled_top_k}: loss.top_k_percents has {most} to draw from")
        return self


class TrainConfig(_Section):
    """Optimisation, its hardware and its random state."""

    epochs: int = Field(10, ge=1, description="Maximum number of epochs.")
    batch_size: int = Field(32, ge=1, description="Effective batch, whatever the number of workers.")
    group_by_length: bool = Field(
        False, description="Fill batches with texts of like length: less padding, another order of the instances."
    )
    micro_batch_size: int | None = Field(
        None, ge=1, description="Instances per forward pass and worker; smaller saves memory, changes no number."
    )
    learning_rate: float = Field(2e-5, gt=0, le=1, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW's weight decay.")
    warmup: float = Field(0.1, ge=0, le=1, description="Share of the steps that warm up; linear decay follows.")
    warmup_from_zero: bool = Field(
        False, description="Take the first step at learning rate 0, as version 0.1.0 did; it then changes no weight."
    )
    patience: int = Field(5, ge=1, description="Epochs without a better dev task score before stopping.")
    seed: int = Field(0, ge=0, description="Seed of initialisation, order and dropout.")
    workers: int = Field(1, ge=1, description="Ray Train workers that share each batch.")
    gpu: Share = Field(
        False, description="One GPU per worker; a share of one, such as 0.5, for trials of one worker in a sweep."
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads per worker; default: all cores in train.py, 1 in a sweep."
    )
    resources: tuple[Resource, ...] = Field(
        (), description="Custom resources of a Ray cluster per worker: NAME=AMOUNT,..."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16: autocast. auto: jobs take bf16 on a GPU and on a CPU with units for it, else fp32."
    )
    perturbation: Literal["auto", "dropped", "masked"] = Field(
        "auto", description="How losses hide tokens; auto: drop them where that is exact, else mask them."
    )
    activation_checkpointing: bool = Field(
        False, description="Recompute perturbed passes in the backward pass to save memory."
    )
    explain_every: int | None = Field(
        None,
        ge=1,
        description="Explain dev after every N epochs, for curves; default: at rungs, and with the best checkpoint.",
    )
    token_budget: int = Field(16384, ge=64, description="Most tokens in one encoder pass.")
    checkpoint_steps: int | None = Field(None, ge=1, description="Checkpoint every N steps as well as after epochs.")

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.workers > 1 and type(self.gpu) is float:
            raise ValueError(
                f"train.gpu = {self.gpu}: a share of a GPU is for one worker, but train.workers = {self.workers}; "
                "set --train.gpu=true"
            )
        if len(dict(map(custom_resource, self.resources))) < len(self.resources):
            raise ValueError(f"train.resources must name each resource once, but got {list(self.resources)}")
        return self


class TrackingConfig(_Section):
    """Where runs are recorded."""

    uri: TrackingUri | None = Field(
        None, description="MLflow tracking URI; default: MLFLOW_TRACKING_URI, else sqlite:///OUTPUT/mlflow.db."
    )


class SweepConfig(_Section):
    """The search."""

    methods: tuple[str, ...] | None = Field(None, min_length=1, description="Methods to sweep; default: [method].")
    searcher: Literal["tpe", "grid", "random", "pareto"] = Field(
        "tpe", description="tpe (on the population's CNRG), grid, random, or pareto (multi-objective, raw metrics)."
    )
    configurations: int | None = Field(
        None, ge=1, description="Configurations per method (its budget); default: the whole grid, 9 otherwise."
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="Values of train.seed per configuration.")
    concurrency: int | None = Field(None, ge=1, description="Most trials at once; default: what the cluster holds.")
    autoscale: bool = Field(
        False, description="The cluster grows on demand: sweep.concurrency trials are asked of it, and wait for nodes."
    )
    spare_head: bool = Field(False, description="Keep the trials off the cluster's head node.")
    rungs: tuple[int, ...] = Field((), description="Epochs at which first seeds are compared; empty: no stopping.")
    reduction: int = Field(3, ge=2, description="At a rung, the best 1/reduction of the configurations go on.")
    patience: int | None = Field(
        None,
        ge=1,
        description="End a method's search when its last N configurations bring none that is selected.",
    )
    hours: float | None = Field(
        None, gt=0, description="Stop after so long, wherever it stands; --resume goes on for as long again."
    )
    max_failures: int = Field(2, ge=0, description="Restarts of a trial whose worker was lost.")
    nrg_weights: tuple[float, float, float] = Field(
        (1.0, 1.0, 1.0), description="Weights of FNRG, PNRG and TNRG in CNRG."
    )
    storage: Storage | None = Field(
        None,
        description="Where trials have their files: a shared folder or a URI, s3://bucket/folder; default: output.",
    )
    keep_weights: Literal["selected", "all"] = Field(
        "selected", description="Trained weights that stay: those that some NRG weights may select on dev, or all."
    )
    seed: int = Field(0, ge=0, description="Seed of the searcher.")

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        if len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0 or max(self.seeds) > LARGEST:
            raise ValueError(
                f"sweep.seeds must be distinct and at least 0, and at most {LARGEST}, but got {list(self.seeds)}"
            )
        if self.autoscale and self.concurrency is None:
            raise ValueError("sweep.autoscale = True: set sweep.concurrency as well, the trials to ask of the cluster")
        if list(self.rungs) != sorted(set(self.rungs)) or (self.rungs and self.rungs[0] < 1):
            raise ValueError(f"sweep.rungs must be increasing epochs from 1, but got {list(self.rungs)}")
        if min(self.nrg_weights) < 0 or sum(self.nrg_weights) <= 0 or max(self.nrg_weights) > _LARGEST_WEIGHT:
            raise ValueError(
                f"sweep.nrg_weights must be at least 0, not all 0 and at most {_LARGEST_WEIGHT:g}, "
                f"but got {list(self.nrg_weights)}"
            )
        return self


class Config(_Section):
    """Everything a job needs to know."""

    method: str = Field(
        "unirex-slm-fp", description="A method of the paper, e.g. aa-ig or unirex-dlm-fp; or one of your own."
    )
    output: UserPath = Field("output", description="Folder for everything a job writes.")
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    sweep: SweepConfig = Field(default_factory=SweepConfig)

    def flat(self) -> dict[str, Any]:
        """Every leaf by dotted key, e.g. `train.epochs`, as JSON has it."""
        return dict(flatten(self.model_dump(mode="json")))

    def changed(self, values: Mapping[str, Any]) -> Config:
        """A copy with dotted keys replaced, validated again.

        Raises:
            UserError: as `build_config`.
        """
        return build_config(self.model_dump(mode="json"), unflatten(values))


Tree = dict[str, Any]


_FORMER_KEYS = {"train.stream": "train.activation_checkpointing"}
"""Keys that were renamed, by their former names, which are still read and still hashed."""


_ADDED_KEYS = {
    "train.warmup_from_zero": True,
    "model.log_odds": False,
    "loss.sampled_top_k": None,
    "loss.warmup": 0.0,
    "data.rationale_columns": None,
    "data.train_limit": None,
}
"""Keys that version 0.1.0 did not have, with the value that it went by; it is hashed as that version hashed it."""


def config_fields() -> dict[str, FieldInfo]:
    """Every leaf's type, default and description, by dotted key, e.g. `train.epochs`."""
    fields: dict[str, FieldInfo] = {}
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            fields |= {f"{name}.{key}": leaf for key, leaf in section.model_fields.items()}
        else:
            fields[name] = field
    return fields


def config_keys() -> tuple[str, ...]:
    """All dotted keys of the tree, e.g. `train.epochs`."""
    return tuple(config_fields())


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and leaf values of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """Nested mapping from dotted keys."""
    tree: Tree = {}
    for dotted, value in flat.items():
        *sections, leaf = dotted.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise UserError(f"{section!r} in {dotted!r} must be a section of keys, but is {node!r}")
        node[leaf] = value
    return tree


def present_key(key: str) -> str:
    """The name that a dotted key of an earlier version has now."""
    return _FORMER_KEYS.get(key, key)


def with_added_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings as they were recorded, with present names, and with what earlier versions went by unsaid."""
    return {**_ADDED_KEYS, **{present_key(key): value for key, value in settings.items()}}


def merge(*trees: Mapping[str, Any]) -> Tree:
    """Merge nested mappings; later ones win, key by key."""
    return unflatten({present_key(key): value for tree in trees for key, value in flatten(tree)})


def build_config(*trees: Mapping[str, Any]) -> Config:
    """Validate merged trees into a `Config`.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    try:
        return Config.model_validate(merge(*trees))
    except ValidationError as error:
        raise UserError("; ".join(map(_describe, _problems(error)))) from None


def check_values(tree: Mapping[str, Any]) -> None:
    """Refuse what is wrong by itself, whatever presets lie below: it takes no library that is slow to load.

    Raises:
        UserError: as `build_config`.
    """
    try:
        Config.model_validate(merge(tree))
    except ValidationError as error:
        # Other problems are a section's, where what a preset has decides.
        alone = [p for p in _problems(error) if p["type"] == "extra_forbidden" or _key_of(p) in config_keys()]
        if alone:
            raise UserError("; ".join(map(_describe, alone))) from None


def to_yaml(config: Config) -> str:
    """The whole tree as YAML that `load_yaml` and `build_config` read back to an equal `Config`."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return text


REMOTE_CODE = "model.trust_remote_code"


def refuse_remote_code(file: str | Path, what: str = REMOTE_CODE) -> UserError:
    """The error for a file that asks for what only the command line can allow.

    Args:
        what: the key in the file that asks for it.
    """
    return UserError(
        f"{str(file)!r} asks to run Python code that ships with an encoder ({what}); "
        f"read that code, and if you trust it, add --{REMOTE_CODE} to the command line"
    )


def check_remote_code(file: str | Path, tree: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse a file's tree that allows remote code where the command line does not decide.

    Args:
        given: the tree of the command line, which stands above the file's.

    Raises:
        UserError: naming the file and the option.
    """
    in_file, in_command = (dict(flatten(source)).get(REMOTE_CODE) for source in (tree, given))
    # A file's words are typed here alone: `false` comes as text.
    if (
        in_file is not None
        and in_command is None
        and build_config({"model": {"trust_remote_code": in_file}}).model.trust_remote_code
    ):
        raise refuse_remote_code(file)


_WITHOUT_EFFECT = ("output", "tracking", "sweep", "data.cache", "data.source", "train.explain_every", "train.resources")
"""Beginnings of keys that a trial's numbers do not depend on."""


def without_share(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings for which any share of a GPU is a GPU: no number depends on it."""
    return {**flat, "train.gpu": bool(flat["train.gpu"])}


def config_hash(config: Config, reads: Callable[[str], bool] = lambda key: True) -> str:
    """12 hex digits over every key that can change a trial's numbers (not paths, tracking or the search).

    Args:
        reads: which of these keys count; all by default.
    """
    hashed = {present: former for former, present in _FORMER_KEYS.items()}
    flat = {
        hashed.get(key, key): value
        for key, value in without_share(config.flat()).items()
        if not key.startswith(_WITHOUT_EFFECT) and reads(key) and not (key in _ADDED_KEYS and value == _ADDED_KEYS[key])
    }
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]


def _problems(error: ValidationError) -> list[Mapping[str, Any]]:
    """Those of an item without those of the list that it is missing from."""
    found: list[Mapping[str, Any]] = [*error.errors()]
    inside = [problem["loc"] for problem in found]
    return [
        p for p in found if not any(len(loc) > len(p["loc"]) and loc[: len(p["loc"])] == p["loc"] for loc in inside)
    ]


def _key_of(problem: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in problem["loc"] if not isinstance(part, int))


def _describe(problem: Mapping[str, Any]) -> str:
    key = _key_of(problem)
    if problem["type"] == "extra_forbidden":
        section = key.rpartition(".")[0]
        allowed = [k for k in config_keys() if k.rpartition(".")[0] == section or not section]
        return f"unknown key {key!r}{did_you_mean(key, config_keys())}; allowed here: {', '.join(allowed)}"
    message: str = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    if problem["type"] == "missing":
        message = "too few values"
    return f"{key} = {problem['input']!r:.200}: {message[0].lower()}{message[1:]}"
