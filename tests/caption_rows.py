# SPDX-License-Identifier: Apache-2.0
"""Rows of clips as the caption operator gets them, one per file, of which nothing was measured."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from captioning.operator import Caption
from operators.probe import Probe
from pipelines.listing import list_sources
from reelmill.column import arrow_schema


def clip_rows(paths: Iterable[Path], **facts: Any) -> pa.Table:
    """Each file as one clip, from its first frame to its last."""
    rows, probe = [], Probe()
    state = probe.setup()
    for path in paths:
        source = probe.process(state, list_sources(str(path), (path.suffix[1:],), ()).rows).to_pylist()[0]
        pts = _pts(path)
        place = {"start_pts": pts[0], "end_pts": pts[-1] + 1, "seek_pts": pts[0], "frame_pts": pts}
        rows.append({**source, **place, "clip_id": path.stem, **facts})
    probe.close(state)
    return pa.Table.from_pylist(rows, schema=arrow_schema(Caption.reads))


def _pts(path: Path) -> list[int]:
    import av

    with av.open(str(path)) as container:
        return sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
