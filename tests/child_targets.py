# SPDX-License-Identifier: Apache-2.0
"""Functions that tests call inside a decode child, among them the ways in which native code goes wrong."""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from operators.contract import RowError


def echo(value: object) -> object:
    return value


def pid() -> int:
    return os.getpid()


def modules() -> list[str]:
    return sorted(m for m in sys.modules if "." not in m)


def environment(name: str) -> str | None:
    return os.environ.get(name)


def segfault() -> None:
    ctypes.string_at(0)


def segfault_once(marker: str) -> str:
    if os.path.exists(marker):
        return "second try"
    with open(marker, "w") as file:
        file.write("1")
    ctypes.string_at(0)
    raise AssertionError("unreachable")


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def kill_self_until(marker: str, times: int) -> int:
    """Killed from outside (so it looks) on the first `times` tries; then the number of tries so far."""
    with open(marker, "a+") as file:
        file.write("x")
        file.seek(0)
        tries = len(file.read())
    if tries <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


def leave(code: int) -> None:
    os._exit(code)


def hang_native() -> None:
    """Holds the interpreter lock for ever, as a decoder in an endless loop does."""
    ctypes.PyDLL(None).sleep(1000)


def segfault_on(uri: str) -> None:
    segfault()


def hang_native_on(uri: str) -> None:
    hang_native()


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


def eat(megabytes: int, seconds: float) -> int:
    block = np.ones(megabytes << 20, np.uint8)
    time.sleep(seconds)
    return int(block[::4096].sum())


def zeros(megabytes: int) -> np.ndarray:
    return np.full((megabytes, 1 << 20), 7, np.uint8)


def fail(kind: str) -> None:
    if kind == "bug":
        raise KeyError("no such thing")
    raise RowError(kind, "the file is bad")


def write_to_stdout() -> str:
    os.write(1, b"noise from a library\n")
    return "still in step"
