from helpers.tiny import tiny_config

from unirex_ray.benchmarks.data import measure_data, write_esnli
from unirex_ray.config import DataConfig
from unirex_ray.data.load import load_corpus


def test_a_generated_corpus_is_read_as_what_it_stands_for(tmp_path):
    write_esnli(tmp_path / "esnli", 30)
    corpus = load_corpus(DataConfig(name="esnli", source=str(tmp_path / "esnli"), cache=str(tmp_path / "cache")))
    assert [len(split) for split in corpus.splits.values()] == [30, 3, 3]
    text = corpus.splits["train"][0].inputs[0]
    assert len(text.segments) == 2
    assert sorted(segment for segment, _, _ in text.gold) == [0, 1]


def test_its_costs_are_told(encoders):
    cost = measure_data(tiny_config(encoders["bert"]), 30)
    assert cost.instances == 36
    assert cost.first_s > 0
    assert cost.again_s > 0
    assert 0 < cost.megabytes < 1
    assert cost.peak_gb > 0.01
