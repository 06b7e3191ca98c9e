# SPDX-License-Identifier: Apache-2.0
"""Where a model's weights come from: a local path, S3, or a hub id with its revision. Fetched once a node, verified.

    hf://ORG/NAME@REVISION            a snapshot folder of the hub; the revision is a commit, never a branch
    hf://ORG/NAME@REVISION/a/b.pth    one file of it
    s3://bucket/key.safetensors       one file
    s3://bucket/folder/               a folder (mark it by the slash)
    /data/weights/model.safetensors   a file or folder on this machine
    vtss/infer.pth                    likewise; if it is not here, then below the folder where fetched weights lie

What is fetched lies below REELMILL_WEIGHTS (else ~/.cache/reelmill/weights) and is checked against its sha256 when the
recipe gives one. REELMILL_OFFLINE=1 or HF_HUB_OFFLINE=1 forbids fetching.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".onnx", ".jit")
HASHED_SUFFIXES = (".json", ".yaml", ".txt", ".model", *WEIGHT_SUFFIXES)
_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{7,40})(/(?P<file>.+))?$")


@dataclass(frozen=True)
class Weights:
    """A place and what must be found there.

    Args:
        uri: see the module's text.
        sha256: 64 hex digits: of the file, or of a folder as `folder_hash` takes it; null: not checked.

    Raises:
        ValueError: a hub id without a commit, or a sha256 that is none.
    """

    uri: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.uri.startswith("hf://") and not _HUB.match(self.uri):
            raise ValueError(
                f"weights {self.uri!r}: a hub id is written hf://ORG/NAME@COMMIT (7 to 40 hex digits; a branch moves)"
            )
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"weights {self.uri!r}: sha256 {self.sha256!r} is not 64 hex digits")

    @property
    def is_remote(self) -> bool:
        return is_remote(self.uri)

    @property
    def cached(self) -> Path:
        """Where it lies, or will lie, on this machine."""
        if not self.is_remote:
            here = Path(self.uri).expanduser()
            return here if here.exists() or not (cache_folder() / here).exists() else cache_folder() / here
        name = hashlib.blake2b(self.uri.encode(), digest_size=8).hexdigest()
        return cache_folder() / name / (self.uri.rstrip("/").rpartition("/")[2] or "weights")


@dataclass(frozen=True)
class Need:
    """Weights that an operator reads, for people.

    Args:
        licence: as their publisher states it; null: see there.
        note: what they are, or how to get them, in a few words.
    """

    weights: Weights
    licence: str | None = None
    note: str = ""

    @property
    def is_here(self) -> bool:
        return self.weights.cached.exists()

    @property
    def absence(self) -> str | None:
        """Why they are not here and will not come by themselves, and what to do; null if they are or will."""
        uri = self.weights.uri
        if self.is_here or (self.weights.is_remote and not is_offline()):
            return None
        if self.weights.is_remote:
            return f"{uri} is not on this machine, and fetching is switched off (REELMILL_OFFLINE, HF_HUB_OFFLINE)"
        places = "on this machine" if Path(uri).expanduser().is_absolute() else f"here or below {cache_folder()}"
        return f"{uri} is not {places}" + (f": {self.note}" if self.note else "")


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def cache_folder() -> Path:
    """REELMILL_WEIGHTS, else reelmill/weights below XDG_CACHE_HOME or ~/.cache."""
    if given := os.environ.get("REELMILL_WEIGHTS"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelmill" / "weights"


def is_remote(uri: str) -> bool:
    return uri.startswith(("hf://", "s3://"))


def is_offline() -> bool:
    return any(os.environ.get(name, "0") not in ("", "0") for name in ("REELMILL_OFFLINE", "HF_HUB_OFFLINE"))


def locate(weights: Weights) -> Path:
    """The file or folder on this machine, fetched if need be by one process of the node, and verified.

    Raises:
        FileNotFoundError: it is not here and may not, or cannot, be fetched; says what to run.
        ValueError: it is not what its sha256 says.
    """
    from filelock import FileLock

    target = weights.cached
    if not weights.is_remote:
        if not target.exists():
            raise FileNotFoundError(f"weights {weights.uri!r}: there is no such file or folder on this machine")
        return _verified(weights, target)
    if target.exists():
        return _verified(weights, target)
    if is_offline():
        raise FileNotFoundError(
            f"weights {weights.uri!r} are not on this machine and fetching is switched off; where there is a network, "
            f"run `python -m pipelines weights RECIPE --fetch`, then copy {target.parent} here"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(target.parent) + ".lock"):
        if not target.exists():
            _fetch(weights, target)
    return target


def _fetch(weights: Weights, target: Path) -> None:
    """Fetches aside, verifies, moves into place: what exists under its name is whole."""
    aside = target.with_name(f".fetching-{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.unlink(missing_ok=True)
    if weights.uri.startswith("s3://"):
        _fetch_s3(weights.uri, aside)
    else:
        _fetch_hub(weights.uri, aside)
    _verified(weights, aside)
    os.replace(aside, target)


def _fetch_s3(uri: str, aside: Path) -> None:
    from reelmill.storage import fsspec_s3

    is_folder = uri.endswith("/")
    try:
        fsspec_s3().get(uri, str(aside) + ("/" if is_folder else ""), recursive=is_folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"weights {uri!r}: there is no such object") from error


def _fetch_hub(uri: str, aside: Path) -> None:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    found = _HUB.match(uri)
    assert found is not None
    repo, revision, file = found["repo"], found["revision"], found["file"]
    try:
        if file is None:
            snapshot_download(repo, revision=revision, local_dir=aside)
            shutil.rmtree(aside / ".cache", ignore_errors=True)
        else:
            shutil.copyfile(hf_hub_download(repo, file, revision=revision), aside)
    except (HfHubHTTPError, OSError) as error:
        raise FileNotFoundError(f"weights {uri!r} cannot be fetched: {error}") from error


def _verified(weights: Weights, path: Path) -> Path:
    if weights.sha256 is not None:
        found = weights_hash(path)
        if found != weights.sha256:
            raise ValueError(
                f"weights {weights.uri!r}: sha256 is {found}, the recipe says {weights.sha256}; another version, or "
                f"damaged: delete {path} to fetch it again"
            )
    return path


def weights_hash(path: Path) -> str:
    """sha256 of a file, or of a folder as `folder_hash`."""
    return folder_hash(path) if path.is_dir() else _file_digest(path).hex()


def folder_hash(folder: Path) -> str:
    """sha256 over the names and bytes of a folder's weights and configurations, in the order of their names."""
    return files_hash(path for path in folder.iterdir() if path.is_file() and path.suffix in HASHED_SUFFIXES)


def files_hash(files: Iterable[Path]) -> str:
    """sha256 over names and bytes of files, in the order of their names."""
    hasher = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        hasher.update(path.name.encode() + b"\0" + _file_digest(path))
    return hasher.hexdigest()


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
