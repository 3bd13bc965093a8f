"""Tensors in safetensors files, and whether a model's architecture fits them, found out before memory is taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
_MOST = 1 << 20
"""No size in an encoder's configuration is larger, but for what is a dimension of a tensor."""
_SLACK = 1000
"""Parameters allowed beyond four for each stored tensor: of poolers and earlier stages, which are not stored."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, of which the header alone has been read.

    Attributes:
        name: in the file.
        dtype: as the format has it, e.g. `F32`.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file that everybody can read."""
    # The library takes the metadata for proof that the file is PyTorch's.
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, {"format": "pt"})
    file.chmod(0o644)  # safetensors creates it readable by its owner only


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name.

    Raises:
        OSError, SafetensorError: if it cannot be read, or is cut.
    """
    with safe_open(file, "pt") as opened:
        parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # it is no mapping
        return {
            name: StoredTensor(file, name, tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()
        }


def read_tensors(stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """The tensors themselves."""
    files = {file: load_file(file) for file in {tensor.file for tensor in stored.values()}}
    return {name: files[tensor.file][tensor.name] for name, tensor in stored.items()}


def check_sizes(settings: Any, stored: Iterable[StoredTensor]) -> None:
    """Refuse an encoder's configuration that asks for more than the tensors hold.

    A first bound, before the configuration is given to the library, which makes lists as long as it says.

    Args:
        settings: as in `config.json`.

    Raises:
        ValueError: naming the key.
    """
    shapes = [tensor.shape for tensor in stored]
    most = max(_MOST, *(size for shape in shapes for size in shape), 0)
    for key, number in _integers("", settings):
        layers = key.endswith("num_hidden_layers")
        if abs(number) > (len(shapes) if layers else most) and not key.endswith("theta"):  # a base of rotary positions
            raise ValueError(f"config.json asks for {key} = {number:.3g}, but the weights are {len(shapes)} tensors")


def _integers(key: str, value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _integers(f"{key}.{name}" if key else str(name), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _integers(key, inner)
    elif isinstance(value, int):
        yield key, value


@contextmanager
def without_memory(stored: Mapping[str, StoredTensor]) -> Iterator[None]:
    """Build modules on the meta device, and not many more than there are tensors for.

    Raises:
        ValueError: from the module that has too many.
    """
    remaining = 4 * len(stored) + _SLACK

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal remaining
        remaining -= 1
        if remaining < 0:
            raise ValueError(f"config.json asks for many more than the {len(stored)} tensors of the weights")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()


def check_fit(model: nn.Module, stored: Mapping[str, StoredTensor]) -> None:
    """Refuse weights that are not exactly the model's.

    Raises:
        ValueError: naming a tensor.
    """
    wanted = model.state_dict()
    for name in sorted(wanted.keys() ^ stored.keys()):
        raise ValueError(f"the weights {'lack' if name in wanted else 'have an unknown'} tensor {name}")
    for name, tensor in wanted.items():
        found = stored[name]
        if tuple(tensor.shape) != found.shape or _DTYPES.get(tensor.dtype) != found.dtype:
            raise ValueError(
                f"the tensor {name} is {found.dtype} {list(found.shape)}, but the model's {list(tensor.shape)}"
            )
