# SPDX-License-Identifier: Apache-2.0
"""A face detector of 6 kB with YuNet's inputs and outputs, written as ONNX by hand: no library is needed for so little.

For each stride s of 8, 16 and 32 a published YuNet gives cls_s, obj_s [1, N, 1], bbox_s [1, N, 4] and kps_s [1, N, 10],
N = cells of s x s pixels, row by row. Here a cell's cls is how red it is, at stride 8 alone; its obj is 1; and its box
is `SIZE_PX` wide and high around the cell's centre.
"""

import math
import struct
from pathlib import Path

SIZE_PX = 32, 48
_FLOAT, _INT, _INTS, _INT64 = 1, 2, 7, 7  # codes of onnx.proto


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message: a number, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _node(kind: str, inputs: list[str], output: str, **attributes: list[int]) -> bytes:
    body = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(3, output) + _field(4, kind)
    for name, values in attributes.items():
        ints = b"".join(_field(8, value) for value in values)
        body += _field(5, _field(1, name) + ints + _field(20, _INTS))
    return _field(1, body)


def _tensor(name: str, shape: list[int], code: int, data: bytes) -> bytes:
    body = b"".join(_field(1, side) for side in shape) + _field(2, code) + _field(8, name) + _field(9, data)
    return _field(5, body)


def _value(number: int, name: str, shape: list[int]) -> bytes:
    sides = b"".join(_field(1, _field(1, side)) for side in shape)
    return _field(number, _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, sides))))


def _output(name: str, stride: int, red: float, biases: list[float]) -> bytes:
    """Mean over each cell, then a linear map of its B, G and R, then [1, cells, values]."""
    num = len(biases)
    weights = struct.pack(f"<{3 * num}f", *[0, 0, red] * num)
    parts = _tensor(f"{name}.w", [num, 3, 1, 1], _FLOAT, weights)
    parts += _tensor(f"{name}.b", [num], _FLOAT, struct.pack(f"<{num}f", *biases))
    parts += _tensor(f"{name}.s", [3], _INT64, struct.pack("<3q", 1, -1, num))
    sides = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
    parts += _node("AveragePool", ["input"], f"{name}.cells", **sides)
    parts += _node("Conv", [f"{name}.cells", f"{name}.w", f"{name}.b"], f"{name}.map", kernel_shape=[1, 1])
    parts += _node("Transpose", [f"{name}.map"], f"{name}.last", perm=[0, 2, 3, 1])
    parts += _node("Reshape", [f"{name}.last", f"{name}.s"], name)
    return parts + _value(12, name, [1, (640 // stride) ** 2, num])


def save_yunet(path: Path, *, outputs: tuple[str, ...] = ("cls", "obj", "bbox", "kps")) -> Path:
    """Writes the detector, with fewer outputs if asked to."""
    graph = _field(2, "yunet") + _value(11, "input", [1, 3, 640, 640])
    for stride in (8, 16, 32):
        box = [0.5, 0.5, *(math.log(side / stride) for side in SIZE_PX)]
        heads = {"cls": (float(stride == 8) / 255, [0.0]), "obj": (0.0, [1.0]), "bbox": (0.0, box)}
        heads["kps"] = (0.0, [0.5] * 10)
        for kind in outputs:
            graph += _output(f"{kind}_{stride}", stride, *heads[kind])
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 11)))
    return path
