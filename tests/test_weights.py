# SPDX-License-Identifier: Apache-2.0
"""Weights from a path, from S3 and from the hub's cache: fetched once, verified, never silently another version."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from operators.weights import Weights, locate, weights_hash
from reelmill.storage import Store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REELMILL_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("REELMILL_OFFLINE", raising=False)
    return tmp_path / "cache"


def test_a_local_file_is_taken_as_it_is_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert locate(Weights(str(path), digest)) == path
    with pytest.raises(ValueError, match=rf"sha256 is {digest}, the recipe says 0000"):
        locate(Weights(str(path), "0" * 64))
    with pytest.raises(FileNotFoundError, match="no such file or folder on this machine"):
        locate(Weights(str(tmp_path / "other")))


@pytest.mark.parametrize("uri", ["hf://org/name", "hf://org/name@main", "hf://name@0123456"])
def test_a_hub_id_needs_a_commit(uri: str) -> None:
    with pytest.raises(ValueError, match="hf://ORG/NAME@COMMIT"):
        Weights(uri)


def test_a_bad_hash_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="is not 64 hex digits"):
        Weights("x.pt", "abc")


def test_s3_file_and_folder_come_once(s3_bucket: str, cache: Path) -> None:
    store = Store(s3_bucket)
    store.write_bytes("w/head.safetensors", b"a" * 1000)
    store.write_bytes("w/config.json", b"{}")
    one = Weights(f"{s3_bucket}/w/head.safetensors", hashlib.sha256(b"a" * 1000).hexdigest())
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(locate, [one] * 4))
    assert len(paths) == 1
    assert paths.pop().read_bytes() == b"a" * 1000
    folder = locate(Weights(f"{s3_bucket}/w/"))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "head.safetensors"]
    store.delete("w/head.safetensors")
    assert locate(one).is_file()  # already here
    assert locate(Weights(f"{s3_bucket}/w/", weights_hash(folder))) == folder
    with pytest.raises(FileNotFoundError, match="no such object"):
        locate(Weights(f"{s3_bucket}/w/none.pt"))


def test_a_wrong_object_is_not_kept(s3_bucket: str, cache: Path) -> None:
    Store(s3_bucket).write_bytes("w.pt", b"other")
    wrong = Weights(f"{s3_bucket}/w.pt", "1" * 64)
    with pytest.raises(ValueError, match="the recipe says 1111"):
        locate(wrong)
    assert not wrong.cached.exists()


def test_offline_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELMILL_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"python -m pipelines weights RECIPE --fetch"):
        locate(Weights("hf://org/name@0123456789abcdef0123456789abcdef01234567"))
