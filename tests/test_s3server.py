# SPDX-License-Identifier: Apache-2.0
"""The faulty S3 server itself: it breaks what it says it breaks, and the clients' settings survive it."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import PurePosixPath

import pyarrow as pa
import pytest

from reelmill.storage import Store, arrow_s3, fsspec_s3
from tests.s3server import FaultProxy, Faults

NUM_TABLES = 6
ROUGH = {
    "errors": Faults(error=0.2, seed=1),
    "cuts": Faults(cut=0.2, seed=2),
    "stalls": Faults(stall=0.15, stall_s=(2.0, 4.0), seed=3),
    "all": Faults(error=0.15, cut=0.15, stall=0.03, stall_s=(2.0, 4.0), seed=4),
}


def get(url: str) -> bytes:
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10).read()


def test_a_quiet_proxy_changes_nothing(s3: FaultProxy, s3_bucket: str) -> None:
    data = os.urandom(300_000)
    Store(s3_bucket).write_bytes("a/b c+d.bin", data)
    assert Store(s3_bucket).read_bytes("a/b c+d.bin") == data
    assert Store(s3_bucket).list("a") == ["b c+d.bin"]
    assert s3.counts["requests"] > 0
    assert s3.num_injected == 0


def test_each_fault_is_what_it_says(s3: FaultProxy, s3_bucket: str) -> None:
    url = f"{s3.url}/{s3_bucket.removeprefix('s3://')}"
    fsspec_s3().pipe_file(f"{s3_bucket}/x", b"x" * 1000)
    s3.reset(Faults(error=1.0))
    with pytest.raises(urllib.error.HTTPError, match=r"50[03]"):
        get(f"{url}/x").decode()
    s3.reset(Faults(cut=1.0))
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionResetError)):
        get(f"{url}/x")
    s3.reset(Faults(stall=1.0, stall_s=(20.0, 20.0)))
    with pytest.raises(TimeoutError):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/x", timeout=0.5).read()
    assert s3.counts == {"requests": 1, "stall": 1}


def test_the_fate_of_a_request_is_seeded(s3: FaultProxy) -> None:
    requests = [f"GET /bucket/{n} " for n in range(400)]
    s3.reset(Faults(error=0.2, cut=0.1, seed=7))
    first = [s3.draw(request) for request in requests]
    s3.reset(Faults(error=0.2, cut=0.1, seed=7))
    assert [s3.draw(request) for request in reversed(requests)] == first[::-1]
    s3.reset(Faults(error=0.2, cut=0.1, seed=8))
    assert [s3.draw(request) for request in requests] != first
    assert 40 < s3.counts["error"] < 120
    assert 20 < s3.counts["cut"] < 70


@pytest.mark.parametrize("faults", ROUGH.values(), ids=ROUGH)
def test_the_store_survives(s3: FaultProxy, s3_bucket: str, faults: Faults) -> None:
    store, table = Store(s3_bucket), pa.table({"n": range(20_000)})
    s3.reset(faults)
    for n in range(NUM_TABLES):
        store.write_table(f"t/{n:02d}.parquet", table, {"n": str(n)})
    assert store.list("t") == [f"{n:02d}.parquet" for n in range(NUM_TABLES)]
    for n in range(NUM_TABLES):
        assert store.read_table(f"t/{n:02d}.parquet").equals(table)
        assert store.read_metadata(f"t/{n:02d}.parquet")["n"] == str(n)
    for n in range(NUM_TABLES):
        store.delete(f"t/{n:02d}.parquet")
    assert store.list("t") == []
    assert s3.num_injected >= 2, "the faults were not met"


def test_a_multipart_upload_survives(s3: FaultProxy, s3_bucket: str) -> None:
    data = os.urandom(60 << 20)  # above the size at which s3fs uploads in parts
    s3.reset(Faults(error=0.3, cut=0.3, seed=5))
    Store(s3_bucket).write_bytes("big.bin", data)
    assert Store(s3_bucket).read_bytes("big.bin") == data
    assert s3.num_injected >= 1


def range_by_arrow(path: str, start: int, stop: int) -> bytes:
    with arrow_s3().open_input_file(path) as file:
        file.seek(start)
        return file.read(stop - start)


def range_by_s3fs(path: str, start: int, stop: int) -> bytes:
    return fsspec_s3().cat_file(path, start=start, end=stop)


def range_by_seeking(path: str, start: int, stop: int) -> bytes:
    with fsspec_s3().open(path, "rb", block_size=1 << 16) as file:
        file.seek(start)
        return file.read(stop - start)


@pytest.mark.parametrize("read_range", [range_by_arrow, range_by_s3fs, range_by_seeking])
def test_range_reads_survive(s3: FaultProxy, s3_bucket: str, read_range: Callable[[str, int, int], bytes]) -> None:
    data = os.urandom(1_000_000)
    path = str(PurePosixPath(s3_bucket.removeprefix("s3://")) / "video.mp4")
    fsspec_s3().pipe_file(path, data)
    s3.reset(Faults(error=0.2, cut=0.2, seed=6))
    for start in range(0, 900_000, 60_000):
        assert read_range(path, start, start + 70_000) == data[start : start + 70_000]
    assert s3.num_injected >= 3
