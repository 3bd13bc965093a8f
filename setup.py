"""What pyproject.toml cannot say: search_spaces/ lies beside the package here, and within it once installed."""

from setuptools import find_packages, setup

SPACES = "unirex_ray.search_spaces"

setup(
    packages=[*find_packages(include=["unirex_ray*"]), SPACES],
    package_dir={SPACES: "search_spaces"},
    package_data={"unirex_ray": ["py.typed", "report/*.html", "analysis/*.json"], SPACES: ["*.yaml"]},
)
