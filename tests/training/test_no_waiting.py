"""A training step runs ahead of its device: nothing in it asks what a tensor holds."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers.marks import slow_but
from helpers.tiny import encode, tiny_config, tiny_corpus, whole_batch
from torch.utils._python_dispatch import TorchDispatchMode

from unirex_ray.data.batching import on_device
from unirex_ray.methods import METHODS, get_method
from unirex_ray.models.rationale_model import RationaleModel, build_stage
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.step import global_counts, loss_terms, weighted_sum

META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Notes of each copy from the host to the device whether it goes on without waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.non_blocking: list[bool] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        arrives = isinstance(result, torch.Tensor) and result.device == META
        if arrives and any(isinstance(argument, torch.Tensor) and argument.device.type == "cpu" for argument in args):
            self.non_blocking.append((kwargs or {}).get("non_blocking", False))
        return result


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("method", slow_but(("unirex-slm-fp", "unirex-aa-fp"), sorted(METHODS)))
def test_a_step_runs_on_a_device_whose_numbers_cannot_be_read(encoders, monkeypatch, method, family):
    """Tensors of the device `meta` have shapes and no values: to read one, or how many hold, is an error there."""
    config = get_method(method).resolve(tiny_config(encoders[family], method=method))
    split, tokens = encode(config, tiny_corpus((9, 1, 1), gold=0.5).splits["train"])
    scores = torch.randn(len(split.input_ids), generator=torch.Generator().manual_seed(0))
    with_scores = type(split)(**{**split.__dict__, "teacher_scores": scores})
    batch, counts = whole_batch(with_scores, tokens).to(META), global_counts(split, range(9))
    # Autocast does not know the device; the precision makes no difference to what is read.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    model: RationaleModel | None = None
    for index, stage in enumerate(get_method(method).stages):
        model = build_stage(config.model, stage.design, 2, seed=0, stage_index=index, earlier=model).to(META)
        with Copies() as copies:
            terms = loss_terms(model, batch, counts, stage.criteria, config.loss, ForwardPlan())
            weighted_sum(terms, config.loss).backward()
        assert any(parameter.grad is not None for parameter in model.parameters())
        assert copies.non_blocking
        assert all(copies.non_blocking)


def test_what_the_host_knows_arrives_in_one_copy():
    arrays = np.arange(6).reshape(2, 3), np.array([7]), np.zeros((0, 2), dtype=np.int64)
    first, second, third = on_device(torch.device("cpu"), *arrays)
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second.tolist() == [7]
    assert third.shape == (0, 2)
    with Copies() as copies:
        on_device(META, *arrays)
    assert copies.non_blocking == [True]
    with Copies() as copies:
        torch.zeros(2).to(META)
    assert copies.non_blocking == [False]
