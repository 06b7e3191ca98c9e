# SPDX-License-Identifier: Apache-2.0
"""Published weights as plain tensors: read without running anything of the file, checked against what must be there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def read_state(path: Path) -> dict[str, Any]:
    """Tensors by name of a .safetensors file or of a pickle read with `weights_only`; "state_dict" inside is unpacked.

    Beside the tensors a pickle may hold plain values and NumPy's numbers, as FAST-VQA's training code stores results.

    Raises:
        ValueError: the file is neither, or holds anything but tensors.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes make it raise
        raise ValueError(f"weights {path}: not a state dict that can be read safely: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"weights {path}: holds something else than tensors by name")
    return found


def _numpy_numbers() -> list[Any]:
    """What a pickle of a NumPy number names: none of it runs anything. Its function has moved, so it has two names."""
    import numpy as np
    from numpy._core.multiarray import scalar

    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool")]
    return [np.dtype, *kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]


def fitting(state: Mapping[str, Any], shapes: Shapes, what: str, prefix: str = "") -> dict[str, Any]:
    """The tensors of `shapes`, in float32. Their names in the file begin with `prefix`; others there do not matter.

    Raises:
        ValueError: one is missing or has another shape.
    """
    for name, shape in shapes.items():
        tensor = state.get(prefix + name)
        if tensor is None:
            found = ", ".join(list(state)[:4])
            raise ValueError(f"these are no weights of {what}: {prefix + name} is missing; found {found}")
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"these are no weights of {what}: {prefix + name} is {tuple(tensor.shape)}, not {shape}")
    return {name: state[prefix + name].float() for name in shapes}
