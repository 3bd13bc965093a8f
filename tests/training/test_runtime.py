import torch

from unirex_ray.config import Config
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.training.memory import disable_malloc_trim
from unirex_ray.training.runtime import LocalRuntime, forward_plan


def test_a_plain_process_works_alone_and_prints_epochs(tmp_path, capsys):
    runtime = LocalRuntime(tmp_path)
    assert (runtime.rank, runtime.world, runtime.device) == (0, 1, torch.device("cpu"))
    tensor = torch.tensor([1.0, 2.0])
    runtime.all_reduce(tensor)
    assert tensor.tolist() == [1.0, 2.0]
    runtime.report(TrialMetrics(dev={"auprc": 51.23456, "sufficiency": 0.0}), epoch=2)
    assert capsys.readouterr().out == "epoch 2  dev/auprc 51.23  dev/sufficiency 0\n"


def test_keeping_freed_memory_works_wherever_it_is_called():
    disable_malloc_trim()
    disable_malloc_trim()
    assert float(torch.ones(1000, 1000).sum()) == 1e6


def test_a_pass_costs_what_was_measured_for_the_device_and_its_precision():
    def cost(precision: str, device: str) -> int:
        return forward_plan(Config().changed({"train.precision": precision}).train, torch.device(device)).pass_cost

    assert [cost("fp32", "cpu"), cost("auto", "cpu"), cost("bf16", "cpu")] == [64, 64, 256]
    assert [cost("fp32", "cuda"), cost("auto", "cuda"), cost("bf16", "cuda")] == [2048] * 3
