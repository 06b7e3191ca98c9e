# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests: the shared real clips, and quiet single-threaded libraries."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).parent.parent
CLIPS = ROOT.parent / "shared" / "clips"

pytest_plugins = ["tests.s3server"]


@pytest.fixture
def shared_clip() -> Callable[[str], Path]:
    """Path of a shared real clip; skips the test where the clips are absent."""

    def find(name: str) -> Path:
        path = CLIPS / name
        if not path.exists():
            pytest.skip(f"the shared clip {name} is not there ({CLIPS})")
        return path

    return find


@pytest.fixture
def shared_clips() -> Path:
    """Folder of the shared real clips; skips the test where it is absent."""
    if not CLIPS.is_dir():
        pytest.skip(f"the shared clips are not there ({CLIPS})")
    return CLIPS
