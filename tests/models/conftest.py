"""A model, saved once in the present form and once in that of the earlier version."""

from pathlib import Path

import pytest
from helpers.exports import Made, make, save_old

from unirex_ray.models.design import Design
from unirex_ray.models.store import save_model


@pytest.fixture(scope="module")
def made(encoders: dict[str, str]) -> Made:
    return make(encoders["bert"], Design(extractor="slm"))


@pytest.fixture(scope="module")
def whole(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    save_model(folder, *made)
    return folder


@pytest.fixture(scope="module")
def old(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "model"
    save_old(folder, made)
    return folder
