"""Reading texts with an exported model."""

from __future__ import annotations

from pathlib import Path

import torch

from unirex_ray.data.encode import encode_split
from unirex_ray.data.encoded import SpecialTokens
from unirex_ray.data.highlight import HighlightedInstance
from unirex_ray.data.instance import Input, Instance
from unirex_ray.errors import UserError
from unirex_ray.inference.find import read_known
from unirex_ray.models.store import load_model
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.evaluate import Evaluator
from unirex_ray.training.explain import highlight_results
from unirex_ray.training.runtime import LocalRuntime


def explain(
    folder: Path,
    text: str,
    second: str | None = None,
    *,
    top_k_percent: int,
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> HighlightedInstance:
    """Predict one text, or a pair of texts, with an exported model and mark its top-k% rationale.

    Args:
        second: of the pair, for a model that was trained on pairs.
        trust_remote_code: see `load_model`.

    Raises:
        UserError: for an empty text, one text where the model takes two or two where it takes one, a multi-choice
            model, or a folder that is no model.
    """
    texts = (text,) if second is None else (text, second)
    for option, given in zip(("text", "second"), texts, strict=False):
        if not given.strip():
            raise UserError(f"--{option} is empty; give the text to explain")
    read_known(folder)
    model, tokenizer, card = load_model(folder, trust_remote_code=trust_remote_code)
    if card.multi_choice:
        raise UserError(f"{str(folder)!r} chooses between several inputs; explain takes one text")
    if card.segments not in (None, len(texts)):
        pairs, single = "pairs of texts; add the other one with --second", "single texts; leave --second out"
        raise UserError(f"{str(folder)!r} was trained on {pairs if second is None else single}")
    if model.design.extractor in ("gold", "inv"):
        raise UserError(f"{str(folder)!r} scores tokens by their gold rationale, and --text has none")
    if threads is not None:
        torch.set_num_threads(threads)
    instance = Instance(id="text", inputs=(Input(segments=texts),), label=0)
    split = encode_split((instance,), tokenizer, max_length=card.max_length, truncation=card.truncation)
    special_tokens = SpecialTokens(
        pad_id=tokenizer.pad_token_id, sep_id=tokenizer.sep_token_id or tokenizer.eos_token_id
    )
    evaluator = Evaluator(
        model=model,
        special_tokens=special_tokens,
        classes=len(card.labels),
        task_metric=card.task_metric,
        plan=ForwardPlan(),
        runtime=LocalRuntime(folder),
    )
    results = evaluator(split, explain=False, shown=1)
    (explained,) = highlight_results(
        model, split, (instance,), card.labels, results, top_k_percent=top_k_percent, known_label=False
    )
    return explained
