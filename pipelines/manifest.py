# SPDX-License-Identifier: Apache-2.0
"""`manifest.json` (what a data set is) and `runs/<run>.jsonl` (what each run did: times, hosts, attempts)."""

import json
import os
import platform
import secrets
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from reelmill import __version__
from reelmill.storage import Store

FORMAT = 1
PACKAGES = (
    "ray",
    "av",
    "opencv-python-headless",
    "opencv-python",
    "decord",
    "scenedetect",
    "numpy",
    "pyarrow",
    "polars",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "s3fs",
)
UNIT_SOURCES = 512  # sources a unit is meant to hold: some 10^3 to 10^4 clips


def package_versions() -> dict[str, str]:
    """Versions of the packages whose behaviour results depend on; those not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def num_units_for(num_sources: int) -> int:
    """Power of two such that a unit holds about UNIT_SOURCES sources."""
    return 1 << max(0, (max(1, num_sources) // UNIT_SOURCES).bit_length())


def load_manifest(store: Store) -> dict[str, Any] | None:
    """The data set's manifest; None if there is none yet. Raises ValueError on another format."""
    if not store.exists("manifest.json"):
        return None
    manifest = json.loads(store.read_bytes("manifest.json"))
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{store.uri('manifest.json')}: format {manifest.get('format')!r}, this reelmill reads format {FORMAT}"
        )
    return manifest


def save_manifest(store: Store, manifest: dict[str, Any]) -> None:
    """Writes the manifest if it differs from what is there."""
    data = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    if not store.exists("manifest.json") or store.read_bytes("manifest.json") != data:
        store.write_bytes("manifest.json", data)


def new_manifest(input_uri: str, num_units: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "reelmill": __version__,
        "input": input_uri,
        "num_units": num_units,
        "tables": {"sources": "sources", "scores": {}, "shards": [], "tokens": []},
        "fingerprints": {},
        "specs": {},
        "exact": {},
        "versions": package_versions(),
        "counts": {},
        "ignored_files": {"num": 0, "examples": []},
        "view": None,
    }


@dataclass
class RunLog:
    """Events of one run as JSON lines; written through after each stage."""

    store: Store
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}")
    _lines: list[str] = field(default_factory=list)

    def add(self, event: str, **values: Any) -> None:
        self._lines.append(json.dumps({"event": event, "time": datetime.now(UTC).isoformat(), **values}, default=str))

    def add_start(self, argv: list[str], recipe: str) -> None:
        hardware = {"host": socket.gethostname(), "platform": platform.platform(), "cpus": os.cpu_count()}
        self.add("run", argv=argv, recipe=recipe, pid=os.getpid(), **hardware)

    def flush(self) -> None:
        if self._lines:
            self.store.write_bytes(f"runs/{self.run_id}.jsonl", ("\n".join(self._lines) + "\n").encode())


def read_attempts(store: Store) -> dict[tuple[str, str], Counter[str]]:
    """How often each row failed in earlier runs: (stage, fingerprint) -> id -> times."""
    attempts: dict[tuple[str, str], Counter[str]] = {}
    for event in read_events(store):
        if event["event"] == "failed":
            attempts.setdefault((event["stage"], event["fp"]), Counter())[event["id"]] += 1
    return attempts


def read_events(store: Store) -> list[dict[str, Any]]:
    """Events of all runs, oldest run first."""
    names = [name for name in store.list("runs") if name.endswith(".jsonl")]
    return [json.loads(line) for name in names for line in store.read_bytes(f"runs/{name}").splitlines()]


class Stopwatch:
    """Wall-clock seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
