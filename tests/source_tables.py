# SPDX-License-Identifier: Apache-2.0
"""Rows of tables.SOURCES for files, with segments at chosen key frames, and measured series of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from operators.contract import Meter
from operators.measure import Measure, segment_rows
from reelmill.column import arrow_schema
from reelmill.ids import source_id
from reelmill.tables import SOURCES


def source_row(path: Path, *, segment_s: float | None = None) -> dict[str, Any]:
    """Header facts of a video; segments of at least `segment_s` seconds, each from a key frame on."""
    import av

    with av.open(str(path)) as media:
        video = media.streams.video[0]
        assert video.time_base is not None
        keys = sorted(p.pts for p in media.demux(video) if p.is_keyframe and p.pts is not None)
        step = None if segment_s is None else segment_s / video.time_base
        kept: list[int] = []
        for key in keys:
            if not kept or (step is not None and key - kept[-1] >= step):
                kept.append(key)
        segments = [
            {"start_pts": start, "end_pts": end, "seek_pts": start}
            for start, end in zip(kept, [*kept[1:], None], strict=True)
        ]
        return {
            "source_id": source_id(path.name, path.stat().st_size, b"", b""),
            "uri": str(path),
            "media": "video",
            "width_px": video.width,
            "height_px": video.height,
            "fps": float(video.average_rate or 0),
            "hdr": "sdr",
            "time_base_num": video.time_base.numerator,
            "time_base_den": video.time_base.denominator,
            "segments": segments,
        }


def source_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=arrow_schema(SOURCES))


def measured(sources: pa.Table, meters: Sequence[Meter], **options: Any) -> pa.Table:
    """The series of all segments of all sources, through the operator and its decode child."""
    measure = Measure(meters=tuple(meters), **options)
    rows = segment_rows(sources)
    state = measure.setup()
    try:
        return measure.process(state, rows)
    finally:
        measure.close(state)
