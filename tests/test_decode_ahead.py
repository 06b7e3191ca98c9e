# SPDX-License-Identifier: Apache-2.0
"""The child decodes the next clip while the caller is busy: in order, no further than it may, bugs in their turn."""

import json
import threading
import time

import pytest

from operators.contract import RUN_LOG
from operators.decode_ahead import decode_ahead
from operators.decode_child import ChildFailed, DecodeChild


@pytest.fixture(scope="module")
def child():
    child = DecodeChild(2.0)
    yield child
    child.close()


def test_results_come_in_order_and_errors_are_values(child: DecodeChild) -> None:
    calls = [{"value": 1}, None, {"value": 2}]
    found = list(decode_ahead(child, "tests.child_targets:echo", calls, 60.0))
    assert [clip.frames for clip in found] == [1, None, 2]
    (failed,) = decode_ahead(child, "operators.video:read_frames", [{"uri": "/none.mp4", "frame_pts": [0]}], 60.0)
    assert failed.error is not None
    assert failed.failure["error_kind"] == "transient"
    assert "/none.mp4" in failed.failure["error"]


def test_the_next_clips_are_decoded_meanwhile_and_no_more_than_asked_for(child: DecodeChild) -> None:
    asked: list[int] = []
    are_ahead = threading.Event()

    def calls():
        for number in range(6):
            asked.append(number)
            if number == 2:
                are_ahead.set()
            yield {"value": number}

    decoded = decode_ahead(child, "tests.child_targets:echo", calls(), 60.0, num_ahead=2)
    first = next(decoded)
    assert are_ahead.wait(60.0)
    assert asked == [0, 1, 2]
    since = time.time()
    second = next(decoded)
    assert len(asked) <= 4
    assert first.ended_s <= second.started_s
    spans = json.loads(second.log(since)[RUN_LOG])
    assert spans["decode"][0] <= spans["decode"][1]
    assert spans["model"][0] <= spans["model"][1]
    decoded.close()
    so_far = len(asked)
    assert so_far <= 4
    assert list(child.ahead(iter([7]))) == [7]  # in the same thread: what was pending would have come before
    assert len(asked) == so_far


def test_a_bug_is_raised_in_its_turn(child: DecodeChild) -> None:
    decoded = decode_ahead(child, "tests.child_targets:echo", [{"value": 1}, {"no": "such argument"}], 60.0)
    assert next(decoded).frames == 1
    with pytest.raises(ChildFailed, match="no"):
        next(decoded)
    assert list(decoded) == []


def test_the_child_outlives_a_block(child: DecodeChild) -> None:
    """A child ends with the thread that started it, so that thread must not end with the block."""
    pids = [next(decode_ahead(child, "tests.child_targets:pid", [{}], 60.0)).frames for _ in range(3)]
    assert len(set(pids)) == 1
