import pytest
import torch
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.training.prepare import prepare

FP32 = "train.precision=auto: fp32, as on every CPU"


@pytest.mark.parametrize(
    ("overrides", "units", "told"),
    [
        ({}, {"amx_bf16": True, "avx512_bf16": True}, [f"{FP32}; this machine's CPU has amx_bf16"]),
        ({}, {"amx_bf16": False, "avx512_bf16": True}, [f"{FP32}; this machine's CPU has avx512_bf16"]),
        ({}, {"avx2": True}, [FP32]),
        ({"train__gpu": True}, {}, ["train.precision=auto: bf16, as on every GPU"]),
        ({"train__precision": "fp32"}, {"amx_bf16": True}, []),
        ({"train__precision": "bf16"}, {}, []),
    ],
)
def test_what_auto_stands_for_is_told(encoders, monkeypatch, overrides, units, told):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    notes = prepare(tiny_config(encoders["bert"], **overrides), tiny_corpus((4, 2, 2)))
    assert [note.partition(", with which")[0] for note in notes if "precision" in note] == told


def test_an_older_torch_does_not_tell_what_the_cpu_can_do(encoders, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert FP32 in prepare(tiny_config(encoders["bert"]), tiny_corpus((4, 2, 2)))
