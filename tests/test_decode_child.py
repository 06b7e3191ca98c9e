# SPDX-License-Identifier: Apache-2.0
"""Crashes, hangs, memory, kills and bugs in the decode child, and that it never outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from operators.contract import RowError
from operators.decode_child import ChildFailed, DecodeChild


@pytest.fixture
def child() -> Iterator[DecodeChild]:
    decode_child = DecodeChild(memory_limit_gb=0.5)
    yield decode_child
    decode_child.close()


def gone(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_one_child_serves_many_calls(child: DecodeChild) -> None:
    pids = {child.call("tests.child_targets:pid", {}, 10) for _ in range(3)}
    assert pids == {child.pid}
    assert pids.isdisjoint({os.getpid()})


def test_arguments_and_large_arrays_travel_whole(child: DecodeChild) -> None:
    frames = np.arange(3_000_001, dtype=np.uint16).reshape(1, -1)
    echoed = child.call("tests.child_targets:echo", {"value": {"frames": frames, "note": "ä"}}, 20)
    np.testing.assert_array_equal(echoed["frames"], frames)
    assert echoed["note"] == "ä"
    big = child.call("tests.child_targets:zeros", {"megabytes": 40}, 20)
    assert big.shape == (40, 1 << 20)
    assert (big == 7).all()
    big[0, 0] = 1  # ours to change


def test_row_errors_keep_their_kind(child: DecodeChild) -> None:
    for kind in ("bad_input", "transient"):
        with pytest.raises(RowError, match="the file is bad") as caught:
            child.call("tests.child_targets:fail", {"kind": kind}, 10)
        assert caught.value.kind == kind
    assert child.call("tests.child_targets:echo", {"value": 1}, 10) == 1


def test_other_exceptions_are_our_bug_and_carry_the_traceback(child: DecodeChild) -> None:
    before = child.call("tests.child_targets:pid", {}, 10)
    with pytest.raises(ChildFailed, match=r"(?s)child_targets.py.*KeyError: 'no such thing'"):
        child.call("tests.child_targets:fail", {"kind": "bug"}, 10)
    with pytest.raises(ChildFailed, match="ModuleNotFoundError"):
        child.call("no_such_module:x", {}, 10)
    assert child.call("tests.child_targets:pid", {}, 10) == before


def test_segfault_is_bad_input_after_a_second_try_and_the_next_call_works(child: DecodeChild) -> None:
    with pytest.raises(RowError, match="SIGSEGV on each of 2 tries") as caught:
        child.call("tests.child_targets:segfault", {}, 10)
    assert caught.value.kind == "bad_input"
    assert child.call("tests.child_targets:echo", {"value": "next row"}, 10) == "next row"


def test_an_error_names_the_file(child: DecodeChild) -> None:
    with pytest.raises(RowError, match=r"^/films/a\.mp4: decoding passed its time limit of 0\.3 s .*; raise the limit"):
        child.call("tests.child_targets:hang_native_on", {"uri": "/films/a.mp4"}, 0.3)


def test_a_crash_that_does_not_repeat_costs_nothing(child: DecodeChild, tmp_path: Path) -> None:
    assert child.call("tests.child_targets:segfault_once", {"marker": str(tmp_path / "m")}, 10) == "second try"


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL])
def test_own_signals_are_bad_input(child: DecodeChild, number: int) -> None:
    with pytest.raises(RowError) as caught:
        child.call("tests.child_targets:kill_self", {"number": int(number)}, 10)
    assert caught.value.kind == "bad_input"


def test_kills_from_outside_are_retried_three_times(child: DecodeChild, tmp_path: Path) -> None:
    marker = {"marker": str(tmp_path / "m")}
    assert child.call("tests.child_targets:kill_self_until", {**marker, "times": 2}, 10) == 3
    with pytest.raises(RowError, match=r"killed from outside \(SIGKILL\) on each of 3 tries") as caught:
        child.call("tests.child_targets:kill_self_until", {**marker, "times": 99}, 10)
    assert caught.value.kind == "resource"


def test_sigkill_by_someone_else_in_mid_call(child: DecodeChild) -> None:
    child.call("tests.child_targets:pid", {}, 10)
    first = child.pid
    assert first is not None
    threading.Timer(0.3, os.kill, (first, signal.SIGKILL)).start()
    assert child.call("tests.child_targets:nap", {"seconds": 1.0}, 20) == "rested"
    assert child.pid != first


def test_death_between_calls_is_no_strike(child: DecodeChild) -> None:
    for _ in range(5):
        os.kill(child.call("tests.child_targets:pid", {}, 10), signal.SIGKILL)
    assert child.call("tests.child_targets:echo", {"value": 5}, 10) == 5


def test_unexpected_exit_is_a_bug(child: DecodeChild) -> None:
    with pytest.raises(ChildFailed, match="exited with code 3"):
        child.call("tests.child_targets:leave", {"code": 3}, 10)


def test_time_limit_ends_a_native_hang(child: DecodeChild) -> None:
    start = time.monotonic()
    child.call("tests.child_targets:pid", {}, 10)
    pid = child.pid
    assert pid is not None
    with pytest.raises(RowError, match=r"time limit of 0\.5 s") as caught:
        child.call("tests.child_targets:hang_native", {}, 0.5)
    assert caught.value.kind == "resource"
    assert time.monotonic() - start < 10
    assert gone(pid)


def test_memory_limit_while_watching_and_in_one_burst(child: DecodeChild) -> None:
    with pytest.raises(RowError, match=r"more than its limit of 0\.5 GB") as caught:
        child.call("tests.child_targets:eat", {"megabytes": 700, "seconds": 20}, 30)
    assert caught.value.kind == "resource"
    with pytest.raises(RowError, match="memory") as caught:
        child.call("tests.child_targets:eat", {"megabytes": 8000, "seconds": 0}, 30)
    assert caught.value.kind == "resource"
    assert child.call("tests.child_targets:eat", {"megabytes": 100, "seconds": 0}, 30) == (100 << 20) // 4096


def test_libraries_cannot_write_into_the_pipe(child: DecodeChild) -> None:
    assert child.call("tests.child_targets:write_to_stdout", {}, 10) == "still in step"


def test_child_is_light_and_single_threaded(child: DecodeChild) -> None:
    loaded = set(child.call("tests.child_targets:modules", {}, 10))
    assert loaded.isdisjoint({"torch", "ray", "pandas", "polars", "scenedetect"})
    assert child.call("tests.child_targets:environment", {"name": "OMP_NUM_THREADS"}, 10) == "1"


PARENT = """
import sys, threading, time
from operators.decode_child import DecodeChild
child = DecodeChild(memory_limit_gb=0.5)
print(child.call("tests.child_targets:pid", {}, 30), flush=True)
threading.Thread(target=child.call, args=("tests.child_targets:HANG", {}, 300), daemon=True).start()
time.sleep(300)
"""


@pytest.mark.parametrize("busy_with", ["hang_native", "pid"])
def test_child_ends_with_a_killed_parent(busy_with: str) -> None:
    """SIGKILL of the parent, the child once stuck in native code (cannot see the pipe), once idle."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    code = PARENT.replace("HANG", busy_with)
    parent = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.5)
    assert not gone(pid, within_s=0.1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def test_close_is_safe_twice_and_limits_are_checked() -> None:
    child = DecodeChild(memory_limit_gb=0.5)
    pid = child.call("tests.child_targets:pid", {}, 10)
    child.close()
    child.close()
    assert gone(pid)
    with pytest.raises(ValueError, match="memory_limit_gb is 0"):
        DecodeChild(memory_limit_gb=0)


def test_limits_hold_where_nobody_looked_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a call may end before its parent gets a CPU to look at it."""
    monkeypatch.setattr("operators.decode_child.WATCH_INTERVAL_S", 60.0)
    for limit_gb, timeout_s, message in ((2.0, 1e-9, "time limit of 1e-09 s"), (0.005, 60.0, "private memory")):
        child = DecodeChild(limit_gb)
        with pytest.raises(RowError, match=message):
            child.call("os:getpid", {}, timeout_s)
        assert child.pid is None
