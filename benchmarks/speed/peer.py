# SPDX-License-Identifier: Apache-2.0
"""The same signals by Data-Juicer's operators, in an environment of their own.

Data-Juicer has these of our signals without a neural network: header facts (duration, resolution, aspect ratio), motion
(Farneback flow at 2 Hz) and shots (PySceneDetect's content detector). Each of its operators opens and decodes the file
for itself. Both sides run on one core; the numbers are CPU seconds.
"""

import json
import os
import subprocess
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.clips import CACHE
from operators.contract import Meter
from operators.decode_child import ONE_THREAD
from operators.measure import measure_segment
from operators.meters.content import Content
from operators.meters.motion import Motion
from operators.probe import facts_of

VERSION = "1.6.1"
PACKAGES = (
    f"py-data-juicer=={VERSION}",
    "av==13.1.0",
    "opencv-contrib-python-headless",
    "scenedetect",
    "aiohttp",  # these two it imports at its start, and would install by itself
    "ray",
)
OPERATORS = Path(__file__).with_name("peer_operators.py")
SIGNALS: tuple[Meter, ...] = (Content(), Motion(rate_hz=2.0))  # 2 Hz is its default too


def environment() -> Path:
    """The interpreter of Data-Juicer's environment, made on the first call. Needs a package index.

    Raises:
        RuntimeError: it cannot be installed; the message is the installer's.
    """
    folder = CACHE / f"data-juicer-{VERSION}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"installing Data-Juicer {VERSION} into {folder}", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"Data-Juicer {VERSION} cannot be installed: {done.stderr.strip()[-2000:]}")
    (folder / "complete").touch()
    return python


def theirs(python: Path, clip: Path, scratch: Path) -> list[dict[str, Any]]:
    """What each of its operators says of the clip, and the CPU seconds that it took."""
    command = [str(python), str(OPERATORS), str(clip), str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode != 0:
        raise RuntimeError(f"Data-Juicer failed on {clip.name}: {done.stderr.strip()[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def cpu_s(work: Callable[[], Any], repeats: int = 3) -> float:
    """Median CPU seconds of this process."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return sorted(spent)[repeats // 2]


def compare(clip: Path, every_meter: tuple[Meter, ...], scratch: Path) -> dict[str, Any]:
    """CPU seconds of both sides for the signals that both have, and ours for every signal.

    `ratio` compares its operators as they are by default (flow at the native size), `ratio_same_size` with the flow at
    270 rows, as ours.
    """
    uri = str(clip)
    peer = {row["operator"]: row for row in theirs(environment(), clip, scratch)}

    def signals(meters: tuple[Meter, ...]) -> None:
        facts_of(uri, 60.0)
        measure_segment(uri, meters)

    signals(every_meter)  # warm
    ours, everything = cpu_s(lambda: signals(SIGNALS)), cpu_s(lambda: signals(every_meter))
    light = sum(row["cpu_s"] for name, row in peer.items() if not name.startswith("video_motion"))
    native, small = (light + peer[name]["cpu_s"] for name in ("video_motion_score", "video_motion_score_270"))
    return {
        "clip": clip.name,
        "peer": list(peer.values()),
        "peer_cpu_s": native,
        "peer_same_size_cpu_s": small,
        "ours_cpu_s": ours,
        "ours_every_signal_cpu_s": everything,
        "ratio": native / ours,
        "ratio_same_size": small / ours,
    }
