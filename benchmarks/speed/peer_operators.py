# SPDX-License-Identifier: Apache-2.0
# pyright: reportMissingImports=false
"""Runs in Data-Juicer's environment, not in ours: its operators on one file, a JSON line each.

    python peer_operators.py CLIP SCRATCH_FOLDER

The imports and the first use of each library are not counted: every operator first runs on nothing but its setup.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["OPENCV_FFMPEG_THREADS"] = "1"
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"

import cv2
import scenedetect  # noqa: F401 - imported lazily by the operators
from data_juicer.ops.filter.video_aspect_ratio_filter import VideoAspectRatioFilter
from data_juicer.ops.filter.video_duration_filter import VideoDurationFilter
from data_juicer.ops.filter.video_motion_score_filter import VideoMotionScoreFilter
from data_juicer.ops.filter.video_resolution_filter import VideoResolutionFilter
from data_juicer.ops.mapper.video_split_by_scene_mapper import VideoSplitBySceneMapper
from data_juicer.utils.constant import Fields

cv2.setNumThreads(1)


def sample(clip):
    return {"videos": [clip], "text": "", Fields.stats: {}, Fields.meta: {}, Fields.source_file: []}


def cpu_s():
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def report(name, work):
    cpu, wall = cpu_s(), time.perf_counter()
    value = work()
    spent = {"cpu_s": cpu_s() - cpu, "wall_s": time.perf_counter() - wall}
    print(json.dumps({"operator": name, **spent, "value": str(value)}), flush=True)


def main(clip, scratch):
    filters = {
        "video_duration": VideoDurationFilter(video_backend="av"),
        "video_resolution": VideoResolutionFilter(),
        "video_aspect_ratio": VideoAspectRatioFilter(),
        "video_motion_score_270": VideoMotionScoreFilter(size=270),
        "video_motion_score": VideoMotionScoreFilter(),
    }
    splitter = VideoSplitBySceneMapper(save_dir=scratch)
    for name, operator in filters.items():
        report(name, lambda operator=operator: operator.compute_stats_single(sample(clip))[Fields.stats])
    report("video_split_by_scene", lambda: len(splitter.process_single(sample(clip))["videos"]))


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2])))
