# SPDX-License-Identifier: Apache-2.0
"""What trainers install: one package, two dependencies."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_core_needs_numpy_and_pyarrow_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(name.split(">")[0] for name in project["dependencies"]) == ["numpy", "pyarrow"]


def test_wheel_holds_reelmill_alone(tmp_path):
    import shutil

    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".venv", ".git", "*.egg-info", "__pycache__", "out", "build", ".cache")
    shutil.copytree(ROOT, source, ignore=ignored)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"reelmill"}
