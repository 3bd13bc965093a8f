"""The paper's rows, and the methods of other distributions, by name."""

from __future__ import annotations

from dataclasses import replace

from unirex_ray.config.plugins import is_registered, load_registered, registered_names
from unirex_ray.errors import UserError, did_you_mean
from unirex_ray.methods.recipe import Criterion, Method, Stage
from unirex_ray.models.design import Design, ExtractorKind


def _joint(name: str, label: str, extractor: ExtractorKind, *criteria: Criterion, **options: object) -> Method:
    """F_task and F_ext trained together on one sum of losses."""
    stage = Stage(name="joint", criteria=criteria, design=Design(extractor=extractor))
    return Method(name=name, label=label, stages=(stage,), **options)  # type: ignore[arg-type]


def _two_stage(name: str, label: str, extractor: ExtractorKind, *criteria: Criterion) -> Method:
    """F_task alone first; then together with a new F_ext, from the weights that it has by then."""
    joint = Stage(name="joint", criteria=criteria, design=Design(extractor=extractor, task_model="continued"))
    # An extractor without settings of its own: the stage does not use it.
    return Method(name=name, label=label, stages=(_task_model("aa-grad"), joint), in_global_nrg=False)


def _refer(name: str, label: str, extractor: ExtractorKind) -> Method:
    """UNIREX whose extractor learns from comp and suff as well, through the selection."""
    design = Design(extractor=extractor, differentiable_selection=True)
    stage = Stage(name="joint", criteria=("task", "comp", "suff", "plaus"), design=design)
    return Method(name=name, label=label, stages=(stage,), in_global_nrg=False)


def _task_model(extractor: ExtractorKind) -> Stage:
    """F_task alone; attributions only read it, and joint stages begin with it, so all of them share the same one."""
    return Stage(name="task-model", criteria=("task",), design=Design(extractor=extractor), shared=True)


def _reference(name: str, label: str, extractor: ExtractorKind) -> Method:
    """What a task model's explanation is held against: the same task model, with scores that it has no part in."""
    # Rand keeps its seed among its weights, which a stage of others does not have; training gives the same task model.
    stage = replace(_task_model(extractor), shared=extractor != "rand")
    return Method(name=name, label=label, stages=(stage,), in_global_nrg=False)


def _select_predict(name: str, label: str, *extra_criteria: Criterion) -> Method:
    """A2R: F_task predicts from the rationale; the extractor learns through a second predictor's attention."""
    design = Design(extractor="dlm", predicts_from="rationale", attention_predictor=True)
    stage = Stage(name="select-predict", criteria=("task", "attention", "agreement", *extra_criteria), design=design)
    return Method(name=name, label=label, stages=(stage,))


_DLM_P = Stage(name="dlm-p", criteria=("task", "plaus"), design=Design(extractor="dlm"), shared=True)
_IMITATE = Stage(name="imitate", criteria=("imitation",), design=Design(extractor="imitation", task_model="earlier"))
_PREDICT = Stage(
    name="predict",
    criteria=("task",),
    design=Design(extractor="selection", predicts_from="rationale", top_k_percent=10),
)
_SGT = {"defaults": {"loss.suff": "kl"}}
_ABLATION = {"in_global_nrg": False}

METHODS = {
    method.name: method
    for method in (
        Method(name="aa-grad", label="AA (Grad)", stages=(_task_model("aa-grad"),)),
        Method(name="aa-input-x-grad", label="AA (Input*Grad)", stages=(_task_model("aa-input-x-grad"),)),
        Method(name="aa-deeplift", label="AA (DeepLIFT)", stages=(_task_model("aa-deeplift"),)),
        Method(name="aa-ig", label="AA (IG)", stages=(_task_model("aa-ig"),)),
        Method(name="l2e", label="L2E", stages=(_task_model("aa-ig"), _IMITATE)),
        _joint("sgt", "SGT", "aa-ig", "task", "suff", **_SGT),
        Method(name="fresh", label="FRESH", stages=(_task_model("aa-ig"), _PREDICT)),
        _select_predict("a2r", "A2R"),
        _joint("unirex-aa-f", "UNIREX (AA-F)", "aa-ig", "task", "comp", "suff"),
        _joint("sgt-p", "SGT+P", "aa-ig", "task", "suff", "plaus", **_SGT),
        Method(name="fresh-p", label="FRESH+P", stages=(_DLM_P, _PREDICT)),
        _select_predict("a2r-p", "A2R+P", "plaus"),
        Method(name="unirex-dlm-p", label="UNIREX (DLM-P)", stages=(_DLM_P,)),
        _joint("unirex-aa-fp", "UNIREX (AA-FP)", "aa-ig", "task", "comp", "suff", "plaus"),
        _joint("unirex-dlm-fp", "UNIREX (DLM-FP)", "dlm", "task", "comp", "suff", "plaus"),
        _joint("unirex-slm-fp", "UNIREX (SLM-FP)", "slm", "task", "comp", "suff", "plaus"),
        _joint("unirex-slm-p", "UNIREX (SLM-P)", "slm", "task", "plaus"),
        _joint("unirex-aa-f-rand", "UNIREX (AA-F, Rand)", "rand", "task", "comp", "suff", **_ABLATION),
        _joint("unirex-aa-f-gold", "UNIREX (AA-F, Gold)", "gold", "task", "comp", "suff", **_ABLATION),
        _joint("unirex-aa-f-inv", "UNIREX (AA-F, Inv)", "inv", "task", "comp", "suff", **_ABLATION),
        _reference("reference-gold", "Gold (reference)", "gold"),
        _reference("reference-rand", "Random (reference)", "rand"),
        _reference("reference-inv", "Inverse gold (reference)", "inv"),
        _two_stage("unirex-dlm-fp-two-stage", "UNIREX (DLM-FP, two-stage)", "dlm", "task", "comp", "suff", "plaus"),
        _two_stage("unirex-slm-fp-two-stage", "UNIREX (SLM-FP, two-stage)", "slm", "task", "comp", "suff", "plaus"),
        _refer("refer-dlm-fp", "REFER (DLM-FP)", "dlm"),
        _refer("refer-slm-fp", "REFER (SLM-FP)", "slm"),
    )
}


REFERENCES = ("reference-gold", "reference-rand", "reference-inv")
"""Rationales that no model gives, on the task model that attributions read."""


def get_method(name: str) -> Method:
    """Look up a method by name: the package's own, or one that another distribution registers.

    Raises:
        UserError: for an unknown name, listing the known ones; for one that is registered, but broken or taken.
    """
    registered = load_registered("method", name, Method, METHODS)
    if registered is not None and registered.name != name:
        raise UserError(f"the method {registered.name!r} is registered as {name!r}; give it one name")
    if registered is not None:
        return registered
    if name not in METHODS:
        known = (*METHODS, *registered_names("method"))
        raise UserError(
            f"unknown method {name!r}{did_you_mean(name, known)}; choose one of {', '.join(known)} (one that another "
            "package registers has to be installed on every node)"
        )
    return METHODS[name]


def known_method(name: str) -> Method | None:
    """The method of this name, for what reads results; None where this installation does not have it.

    Raises:
        UserError: for one that is registered, but broken or taken.
    """
    return get_method(name) if name in METHODS or is_registered("method", name) else None
