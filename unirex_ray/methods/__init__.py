"""The methods of the paper, each a short recipe of shared parts, and those that others register."""

from unirex_ray.methods.recipe import Method, Stage
from unirex_ray.methods.registry import METHODS, REFERENCES, get_method, known_method

__all__ = ["METHODS", "REFERENCES", "Method", "Stage", "get_method", "known_method"]
