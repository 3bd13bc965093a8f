"""Makes the helpers that lie in this folder importable from every test, and saves tiny encoders once."""

import gc
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from helpers.tiny import FAMILIES, save_encoder, tiny_config, tiny_corpus, trained_model
from hypothesis import HealthCheck, settings

import unirex_ray.distributed  # noqa: F401  # before a test imports ray: see there
from unirex_ray.models.rationale_model import RationaleModel

torch.set_num_threads(1)
# Machines are shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_collection() -> None:
    """Search for no garbage while the libraries are imported: what they make stays."""
    gc.disable()


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes, one has all that needs a cluster, and begins with it: two clusters starve each other."""
    on_clusters = [item for item in items if {"ray", "chaos"} & {mark.name for mark in item.iter_markers()}]
    for item in on_clusters:
        item.add_marker(pytest.mark.xdist_group("clusters"))
    first = {*on_clusters}
    items[:] = [*on_clusters, *(item for item in items if item not in first)]


def pytest_collection_finish() -> None:
    """Leave out of later searches what was made so far."""
    gc.enable()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _default_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test leaves a corpus in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folder of a tiny encoder per family: `bert` (token types, positions from 0), `roberta` (positions from 2)."""
    folder = tmp_path_factory.mktemp("encoders")
    for family in FAMILIES:
        save_encoder(folder / family, family)
    return {family: str(folder / family) for family in FAMILIES}


@pytest.fixture(scope="session")
def trained(encoders: dict[str, str]) -> Callable[..., RationaleModel]:
    """A trained model by family, extractor and number of choices; shared, so leave its weights as they are."""

    @cache
    def train(family: str, extractor: str, choices: int = 1) -> RationaleModel:
        return trained_model(tiny_config(encoders[family]), extractor, tiny_corpus(choices=choices))

    return train
