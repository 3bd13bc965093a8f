import pytest
import torch
from helpers.families import save_family
from helpers.tiny import first_stage, tiny_config, tiny_corpus

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.errors import UserError
from unirex_ray.training.prepare import choose_precision, prepare
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.setup import trial_identity
from unirex_ray.training.shared import stage_identity


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((20, 10, 10))


@pytest.fixture(scope="module")
def config(encoders) -> Config:
    return tiny_config(encoders["bert"])


@pytest.mark.parametrize(
    ("overrides", "units", "chosen", "told"),
    [
        ({}, {"amx_bf16": True, "avx512_bf16": True}, "bf16", ["as this machine's CPU has amx_bf16"]),
        ({}, {"amx_bf16": False, "avx512_bf16": True}, "bf16", ["as this machine's CPU has avx512_bf16"]),
        ({}, {"avx2": True}, "fp32", ["as this machine's CPU has none of amx_bf16, avx512_bf16"]),
        ({"train.gpu": True}, {}, "bf16", ["as on every GPU"]),
        ({"train.precision": "fp32"}, {"amx_bf16": True}, "fp32", []),
        ({"train.precision": "bf16"}, {}, "bf16", []),
    ],
)
def test_auto_takes_the_precision_that_the_hardware_has_and_tells_why(monkeypatch, overrides, units, chosen, told):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    config, notes = choose_precision(Config().changed(overrides))
    assert config == Config().changed({**overrides, "train.precision": chosen})
    assert [*notes] == [f"train.precision=auto: {chosen}, {why}" for why in told]


def test_an_older_torch_does_not_tell_what_the_cpu_can_do(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision(Config())[0].train.precision == "fp32"


def test_gold_batches_of_one_have_no_room(config, corpus, tmp_path):
    with pytest.raises(UserError, match=r"data\.gold_percent = 5 .* train\.batch_size = 1 leaves no room"):
        first_stage(config.changed({"data.gold_percent": 5.0, "train.batch_size": 1}), corpus, LocalRuntime(tmp_path))


def test_an_input_is_as_long_as_the_encoder_the_corpus_and_the_user_allow(config, corpus, tmp_path):
    with pytest.raises(UserError, match=r"data\.max_length = 97: .* takes at most 96 tokens"):
        first_stage(config.changed({"data.max_length": 97}), corpus, LocalRuntime(tmp_path))
    trainer = first_stage(config.changed({"data.max_length": 8}), corpus, LocalRuntime(tmp_path))
    assert int(trainer.data["train"].lengths.max()) == 8


@pytest.mark.parametrize(
    ("family", "overrides", "reason"),
    [
        (
            "deberta",
            {},
            r"refer-dlm-fp learns through attention, but '.*deberta' computes it by itself and takes no gate",
        ),
        ("bert", {"train__perturbation": "dropped"}, r"train\.perturbation = 'dropped': refer-dlm-fp learns through"),
    ],
)
def test_a_method_that_learns_through_attention_needs_gates(corpus, tmp_path, family, overrides, reason):
    save_family(tmp_path / family, family)
    config = tiny_config(str(tmp_path / family), method="refer-dlm-fp", **overrides)
    for refused in (
        lambda: prepare(config, corpus),
        lambda: prepare(config.changed({"method": "aa-ig"}), corpus, ["aa-ig", "refer-dlm-fp"]),
        lambda: first_stage(config, corpus, LocalRuntime(tmp_path / "trial")),
    ):
        with pytest.raises(UserError, match=reason):
            refused()
    changed = config.changed({"method": "unirex-dlm-fp", "train.perturbation": "auto"})
    assert "to learn through attention" not in prepare(changed, corpus)[-1]


def test_what_prepares_says_which_methods_mask_although_others_drop(config, corpus):
    note = prepare(config, corpus, ["aa-ig", "refer-slm-fp"])[-1]
    assert "losses drop them" in note
    assert note.endswith("; those of refer-slm-fp mask them, to learn through attention")


def test_a_trial_learns_from_train_limit_instances_and_is_evaluated_on_all(config, corpus, tmp_path):
    whole = first_stage(config, corpus, LocalRuntime(tmp_path / "all"))
    few = first_stage(config.changed({"data.train_limit": 6}), corpus, LocalRuntime(tmp_path / "few"))
    fewer = first_stage(config.changed({"data.train_limit": 4}), corpus, LocalRuntime(tmp_path / "fewer"))
    assert [len(few.data[split]) for split in ("train", "dev", "test")] == [6, 10, 10]
    assert sum(map(len, few.learner.epochs.batches(0))) == 6

    def rows(trainer):
        split = trainer.data["train"]
        return {tuple(ids.tolist()) for ids in split.input_ids.split(split.lengths.tolist())}

    assert rows(fewer) < rows(few) < rows(whole)


def test_stages_of_other_samples_are_not_shared(config, corpus, tmp_path):
    trainers = [
        first_stage(config.changed({"data.train_limit": limit}), corpus, LocalRuntime(tmp_path / str(limit)))
        for limit in (None, 6, 4)
    ]
    assert len({stage_identity(t.setup.config, t.stage, t.setup.encoded.digest) for t in trainers}) == 3
    assert len({trial_identity(t.setup.config, corpus) for t in trainers}) == 3
