# SPDX-License-Identifier: Apache-2.0
"""litdata, MosaicML streaming and WebDataset, each in an environment of its own."""

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

from benchmarks.speed.clips import CACHE

PEERS = {
    "litdata": (
        "litdata==0.2.76",
        "lightning-utilities",
        "filelock",
        "boto3",
        "requests",
        "tifffile",
        "obstore",
        "zstd",
    ),
    "streaming": (
        "mosaicml-streaming==0.13.0",
        "zstd",
        "Brotli",
        "python-snappy",
        "xxhash",
        "tqdm",
        "boto3",
        "catalogue",
    ),
    "webdataset": ("webdataset==1.0.2", "braceexpand", "zstandard"),
}
SETTINGS = ("litdata", "litdata-chunk", "litdata-tokens", "streaming", "webdataset")
"""What `peer_scripts` reads; before the hyphen stands the peer."""
SCRIPT = Path(__file__).with_name("peer_scripts.py")


def environment(peer: str) -> Path:
    """The interpreter of a peer's environment, made on the first call. Needs a package index.

    torch and numpy, which are large, are those of this environment; all else is its own.

    Raises:
        RuntimeError: it cannot be installed; the message is the installer's.
    """
    packages = PEERS[peer]
    folder = CACHE / packages[0].replace("==", "-")
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        _share(folder)
        return python
    print(f"installing {packages[0]} into {folder}", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages[1:]]
    main = [*command[:6], "--no-deps", packages[0]]
    for step in (command, main):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{packages[0]} cannot be installed: {done.stderr.strip()[-2000:]}")
    _share(folder)
    (folder / "complete").touch()
    return python


def _share(folder: Path) -> None:
    """Lets it see this environment's packages behind its own; written each time, as this environment may have moved."""
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "zz_shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")


def run_peer(setting: str, scratch: Path, num: int, batch_size: int) -> dict[str, Any]:
    """Its numbers, as `peer_scripts` prints them."""
    python = environment(setting.partition("-")[0])
    command = [str(python), str(SCRIPT), setting, str(scratch / setting), str(num), str(batch_size)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{setting} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))
