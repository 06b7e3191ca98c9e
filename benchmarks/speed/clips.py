# SPDX-License-Identifier: Apache-2.0
"""What the speed is measured on: real 4K clips where they are, and renderings kept in the user's cache."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[3] / "shared" / "clips"
REAL = ("uhd_motorcycle_2160p30_h264.mp4", "uhd_portrait_phone_2160p60_h264.mp4")
FPS, NUM_FRAMES, NUM_FRAMES_8K = 30, 60, 12
UHD, UHD_8K = (3840, 2160), (7680, 4320)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelmill"


def _codecs() -> dict[str, tuple[Any, tuple[int, int], int]]:
    """Codec, size and frames by file name. Bit rates are like those of 4K streams: about 16 Mbit/s HEVC, 12 AV1."""
    from pipelines.footage import SVT_AV1, X264, X265_PQ, Codec

    x265 = "log-level=error:pools=none:frame-threads=1:keyint=60:bframes=3"
    hevc = Codec(X265_PQ.name, X265_PQ.pix_fmt, {"preset": "ultrafast", "b": "16M", "x265-params": x265}, is_pq=True)
    fast = {"preset": "10", "g": "60", "svtav1-params": "lp=1"}
    av1 = replace(SVT_AV1, options={**fast, "crf": "14"})
    av1_10 = replace(SVT_AV1, pix_fmt="yuv420p10le", is_pq=True, options={**fast, "crf": "12"})
    h264 = replace(X264, options={"preset": "ultrafast", "crf": "24", "g": "60", "refs": "4", "bf": "3"})
    return {
        "rendered_2160p30_hevc10.mp4": (hevc, UHD, NUM_FRAMES),
        "rendered_2160p30_av1.mp4": (av1, UHD, NUM_FRAMES),
        "rendered_2160p30_av1_10.mp4": (av1_10, UHD, NUM_FRAMES),
        "rendered_4320p30_h264.mp4": (h264, UHD_8K, NUM_FRAMES_8K),
        "rendered_4320p30_hevc10.mp4": (hevc, UHD_8K, NUM_FRAMES_8K),
        "rendered_4320p30_av1_10.mp4": (av1_10, UHD_8K, NUM_FRAMES_8K),
    }


def names() -> list[str]:
    """Files of the renderings; those of 4320 rows serve only the measurement of memory."""
    return list(_codecs())


def rendered(name: str, scale: float = 1.0, folder: Path | None = None) -> Path:
    """Path of a rendering, made on the first call: a lake under a slowly panning camera, with sensor noise."""
    codec, (width, height), num_frames = _codecs()[name]
    folder = folder or CACHE / "speed-clips-3"
    path = folder / name
    if path.exists():
        return path
    from pipelines.footage import Move, encode
    from pipelines.sample_films import filmed

    os.environ.setdefault("SVT_LOG", "1")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"rendering {path}", flush=True)
    move = Move((0.45, 0.5), (0.55, 0.5), (1.0, 1.1))
    frames = filmed((width, height), scale, "noon_lake", 5, num_frames, move=move, pq=codec.is_pq)
    part = path.with_name(f"part-{os.getpid()}-{name}")
    encode(part, frames, codec, fps=FPS)
    part.rename(path)
    return path


def real() -> list[Path]:
    """The real 4K clips that are here."""
    return [SHARED / name for name in REAL if (SHARED / name).is_file()]


def repeat_packets(clip: Path, times: int, out: Path) -> None:
    """Writes the clip's video packets `times` times in a row; nothing is encoded again."""
    import av

    with av.open(str(out), "w") as target:
        stream = None
        shift = 0
        for _ in range(times):
            with av.open(str(clip)) as source:
                video = source.streams.video[0]
                stream = stream or target.add_stream_from_template(video, opaque=True)
                last = 0
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    last = max(last, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    target.mux(packet)
                shift += last


def facts(path: Path) -> dict[str, Any]:
    """What a reader must know of a clip to judge a time per frame."""
    import av

    with av.open(str(path)) as media:
        video = media.streams.video[0]
        sizes = [packet.size for packet in media.demux(video) if packet.size]
        fps = float(video.average_rate or 0)
        return {
            "clip": path.name,
            "codec": video.codec_context.name,
            "pix_fmt": video.codec_context.pix_fmt,
            "width_px": video.width,
            "height_px": video.height,
            "fps": round(fps, 3),
            "frames": len(sizes),
            "mbit_per_s": round(sum(sizes) * 8 * fps / max(1, len(sizes)) / 1e6, 2),
        }
