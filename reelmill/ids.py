# SPDX-License-Identifier: Apache-2.0
"""Ids and fingerprints. A copy of a data set keeps every id; a changed setting changes the fingerprint."""

import hashlib
import json
from typing import Any

HEAD_BYTES = 64 * 1024


def _digest(*parts: bytes | str | int) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        hasher.update(len(data).to_bytes(8, "little"))  # length-prefixed, so ("ab","c") differs from ("a","bc")
        hasher.update(data)
    return hasher.hexdigest()


def source_id(relpath: str, size_bytes: int, head: bytes, tail: bytes) -> str:
    """Id of an input file from its relative path (or manifest id), size, first and last 64 KiB."""
    return _digest("source", relpath, size_bytes, head, tail)


def clip_id(source: str, start_pts: int, end_pts: int, time_base_num: int, time_base_den: int) -> str:
    """Id of the span [start_pts, end_pts) of a source."""
    return _digest("clip", source, start_pts, end_pts, time_base_num, time_base_den)


def fingerprint(stage: str, config: Any) -> str:
    """16 hex digits over a stage's name and its JSON-able configuration (sorted keys, exact floats)."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _digest("fingerprint", stage, text)[:16]


def unit_of(relpath: str, num_units: int) -> int:
    """Unit of a source: leading bits of its path's hash, so it is known before the first byte is read.

    `num_units` is a power of two, fixed when the sources are first listed.
    """
    assert num_units.bit_count() == 1, f"{num_units} is no power of two"
    return int(_digest("unit", relpath)[:8], 16) * num_units >> 32


def draw_of(what: str, seed: int, name: str) -> float:
    """A number in [0, 1) that follows from its arguments, evenly spread over names."""
    return int(_digest(what, seed, name)[:8], 16) / 2**32


def split_of(source: str, val_fraction: float, seed: int = 0) -> str:
    """train or val: a hash of the source, so all clips of a source fall on one side."""
    return "val" if draw_of("split", seed, source) < val_fraction else "train"
