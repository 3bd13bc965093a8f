"""Every configuration of a space."""

from unirex_ray.sweep.space import MethodSpace


def whole_grid(space: MethodSpace) -> list[dict]:
    return [space.grid_point(number) for number in range(space.grid_size)]
