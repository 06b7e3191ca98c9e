# SPDX-License-Identifier: Apache-2.0
"""A child process that runs native decoding, so that a poisoned file costs one row and not a worker.

The parent calls a plain function by name; arguments and result travel as pickles over two pipes. The child is a fresh
interpreter (no fork of a process with threads), is used again and again, and ends with its parent: the kernel kills it
when the parent dies (PR_SET_PDEATHSIG), and it leaves when its request pipe closes. What the parent sees:

    the function raised RowError             the same RowError
    the function raised anything else        ChildFailed with the type, message and traceback: a bug of ours
    the decoder died by a signal of its own  tried once more in a fresh child, then RowError("bad_input")
    the time or memory limit was passed      RowError("resource")
    killed from outside (out-of-memory ...)  tried three times, then RowError("resource")
    died between two calls                   a fresh child; no strike
"""

import ctypes
import gc
import importlib
import io
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from operators.contract import RowError

T = TypeVar("T")
_END: Any = object()
CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
MAX_CRASHES = 2
MAX_KILLS = 3
START_TIMEOUT_S = 120.0
WATCH_INTERVAL_S = 0.05  # how often time and memory are looked at while a call runs
SLACK_BYTES = 1 << 30  # RLIMIT_DATA lies this far above the watched limit: it stops a burst between two looks
PR_SET_PDEATHSIG = 1
F_SETPIPE_SZ = 1031
PIPE_BYTES = 1 << 20

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "MALLOC_ARENA_MAX": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


class ChildFailed(Exception):
    """The called function has a bug, or the child could not start. The text is the child's own traceback."""


class _Died(Exception):
    """The child ended during a call; `returncode` as subprocess reports it (negative: a signal)."""

    def __init__(self, returncode: int) -> None:
        super().__init__(returncode)
        self.returncode = returncode


class DecodeChild:
    """One child process and its limits. Calls from several threads wait for each other.

    Args:
        memory_limit_gb: private memory (resident and not shared) of the child above which it is killed, GB.

    Raises:
        ValueError: a limit that is not positive.
    """

    def __init__(self, memory_limit_gb: float) -> None:
        if not memory_limit_gb > 0:
            raise ValueError(f"memory_limit_gb is {memory_limit_gb}; give a number of gigabytes above 0")
        self._limit_bytes = int(memory_limit_gb * 1e9)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ahead: ThreadPoolExecutor | None = None

    def ahead(self, items: Iterator[T], num: int = 1) -> Generator[T, None, None]:
        """The items, in order, made beside the caller; what making one raises is raised in its turn.

        They may call this child: they are made in a thread that is kept until `close`, since a child ends with the
        thread that started it (PR_SET_PDEATHSIG).

        Args:
            num: items that may wait beside the one that was handed out; this bounds the memory.
        """
        thread = self._ahead = self._ahead or ThreadPoolExecutor(1, "decode-ahead")
        pending = deque(thread.submit(next, items, _END) for _ in range(num))
        try:
            while True:
                pending.append(thread.submit(next, items, _END))
                if (item := pending.popleft().result()) is _END:
                    return
                yield item
        finally:  # nothing goes on once the taker has left
            futures.wait([future for future in pending if not future.cancel()])

    @property
    def pid(self) -> int | None:
        """Process id of the running child; null if none runs."""
        return self._process.pid if self._process is not None else None

    def call(self, target: str, kwargs: dict[str, Any], timeout_s: float) -> Any:
        """Runs `module:function` in the child with `kwargs` and returns its result.

        An error for the row names `kwargs["uri"]`, if there is one.

        Raises:
            RowError: see the table at the head of this module.
            ChildFailed: the function raised something else than RowError, or the child cannot start.
        """
        request = _dump((target, kwargs))
        with self._lock:
            try:
                reply = self._try(target, request, timeout_s)
            except RowError as error:
                name = f"{kwargs['uri']}: " if kwargs.get("uri") else ""
                raise RowError(error.kind, f"{name}{error}") from None
            return self._answer_of(reply, target)

    def close(self) -> None:
        """Ends the child at once. Safe to call twice; a later `call` starts a fresh child."""
        self._end()
        if self._ahead is not None:
            self._ahead.shutdown(wait=False, cancel_futures=True)
            self._ahead = None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()

    def _try(self, target: str, request: list[memoryview], timeout_s: float) -> Any:
        crashes = kills = 0
        while True:
            try:
                return self._exchange(request, timeout_s)
            except _Died as died:
                number = -died.returncode
                if number <= 0:
                    raise ChildFailed(f"the child running {target} exited with code {died.returncode}") from None
                name = signal.Signals(number).name
                crashes, kills = (crashes + 1, kills) if number in CRASH_SIGNALS else (crashes, kills + 1)
                if crashes == MAX_CRASHES:
                    raise RowError(
                        "bad_input",
                        f"decoder crashed with {name} on each of {crashes} tries; remux or re-encode the file, or "
                        "remove it",
                    ) from None
                if kills == MAX_KILLS:
                    raise RowError(
                        "resource",
                        f"decoder was killed from outside ({name}) on each of {kills} tries; "
                        "is the machine out of memory?",
                    ) from None

    def _exchange(self, request: list[memoryview], timeout_s: float) -> Any:
        """One request and its reply. On any way out but a whole reply the child is ended: it is out of step."""
        try:
            process = self._ready_child()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                _send(process.stdin.fileno(), request)
            except BrokenPipeError:
                raise _Died(process.wait()) from None
            return self._receive(process, time.monotonic() + timeout_s, f"time limit of {timeout_s:g} s")
        except BaseException:
            self._end()
            raise

    def _ready_child(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = _spawn(self._limit_bytes)
            try:
                self._receive(self._process, time.monotonic() + START_TIMEOUT_S, f"start time of {START_TIMEOUT_S:g} s")
            except _Died as died:
                if died.returncode < 0:
                    raise
                raise ChildFailed(f"the decode child ended at its start with code {died.returncode}") from None
        return self._process

    def _receive(self, process: "subprocess.Popen[bytes]", deadline: float, limit: str) -> Any:
        assert process.stdout is not None
        fd = process.stdout.fileno()

        def look() -> None:
            if time.monotonic() > deadline:
                raise RowError(
                    "resource", f"decoding passed its {limit} and was stopped; raise the limit, or remux the file"
                )
            used = _private_bytes(process.pid)
            if used is not None and used > self._limit_bytes:
                raise RowError(
                    "resource",
                    f"decoding used {used / 1e9:.2f} GB of private memory, more than its "
                    f"limit of {self._limit_bytes / 1e9:g} GB, and was stopped; raise the limit, or scale the file "
                    "down",
                )

        def wait() -> None:
            while not select.select([fd], [], [], WATCH_INTERVAL_S)[0]:
                look()

        try:
            reply = _receive(fd, wait)
        except EOFError:
            raise _Died(process.wait()) from None
        look()  # a busy machine may not have let us look before: the limits hold all the same
        return reply

    @staticmethod
    def _answer_of(reply: tuple[Any, ...], target: str) -> Any:
        if reply[0] == "ok":
            return reply[1]
        if reply[0] == "row_error":
            raise RowError(reply[1], reply[2])
        raise ChildFailed(f"{target} failed in the decode child: {reply[1]}")


def _spawn(limit_bytes: int) -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *(p for p in sys.path if p and p != root)]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "operators.decode_child", str(os.getpid()), str(limit_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
    )


def _private_bytes(pid: int) -> int | None:
    """Resident memory of a process that is not shared with a file; null where /proc does not say."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):  # no /proc, or the process has just ended
        return None
    return (int(resident) - int(shared)) * resource.getpagesize()


def _dump(message: Any) -> list[memoryview]:
    """A message as pickle protocol 5 with large arrays beside it, uncopied, each piece preceded by its length."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    pieces = [memoryview(body), *(b.raw() for b in buffers)]
    head = struct.pack(f"<I{len(pieces)}Q", len(pieces), *(p.nbytes for p in pieces))
    return [memoryview(head), *pieces]


def _send(fd: int, pieces: Sequence[memoryview]) -> None:
    for piece in pieces:
        left = piece
        while left.nbytes:
            left = left[os.write(fd, left[:PIPE_BYTES]) :]


def _receive(fd: int, wait: Any = None) -> Any:
    """The next message; `wait` is called before each read. Raises EOFError when the other side is gone."""

    def read(count: int) -> bytearray:
        data = bytearray(count)
        left = memoryview(data)
        while left.nbytes:
            if wait is not None:
                wait()
            done = os.readv(fd, [left])
            if not done:
                raise EOFError("pipe closed")
            left = left[done:]
        return data

    (count,) = struct.unpack("<I", read(4))
    sizes = struct.unpack(f"<{count}Q", read(8 * count))
    body, *buffers = [read(size) for size in sizes]
    return pickle.load(io.BytesIO(body), buffers=buffers)


def _call(target: str, kwargs: dict[str, Any]) -> tuple[Any, ...]:
    try:
        module, function = target.split(":")
        return ("ok", getattr(importlib.import_module(module), function)(**kwargs))
    except RowError as error:
        return ("row_error", error.kind, str(error))
    except MemoryError as error:
        return ("row_error", "resource", f"out of memory while decoding: {error or 'allocation failed'}")
    except Exception:  # noqa: BLE001 - not swallowed: the parent raises it again, with this text
        return ("bug", traceback.format_exc())


def _end_with(parent_pid: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # it died before the line above took hold
        os._exit(0)


def _limit(limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes + SLACK_BYTES, limit_bytes + SLACK_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    oom = Path("/proc/self/oom_score_adj")
    if oom.exists():
        oom.write_text("500")  # if memory runs out, the kernel takes the child and not the worker


def _private_pipes() -> tuple[int, int]:
    """Takes the request and reply pipes off stdin and stdout, so that no library can write into them."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(replies, F_SETPIPE_SZ, PIPE_BYTES)
    return requests, replies


def serve(parent_pid: int, limit_bytes: int) -> None:
    """The child's loop: one request, one reply, until the parent closes the pipe."""
    _end_with(parent_pid)
    _limit(limit_bytes)
    requests, replies = _private_pipes()
    _send(replies, _dump("ready"))
    while True:
        try:
            target, kwargs = _receive(requests)
        except EOFError:
            return
        reply = _call(target, kwargs)
        try:
            _send(replies, _dump(reply))
        except BrokenPipeError:
            return
        del reply, kwargs
        gc.collect()  # decoders leave cycles that hold frames


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)
