# SPDX-License-Identifier: Apache-2.0
"""The tokenize operator on encoded video: windows, buckets, faults, and from clip to batch and back to pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.pack import pack_unit
from reelmill.column import arrow_schema
from reelmill.geometry import Window
from reelmill.spans import frame_rgb, iter_span, open_media
from reelmill.tables import SHARD_KEYS
from reelmill.tokens import shard_schema, unpack
from tests.videos import write_video
from tokenization import frames as frames_module
from tokenization.adapters.pixels import Pixels
from tokenization.adapters.reference import Reference, ReferenceCodec
from tokenization.catalog import tokenizer_class
from tokenization.frames import ClipFrames, iter_windows, next_window
from tokenization.operator import Tokenize
from tokenization.synthetic import synthetic_windows

FPS = 30


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = np.concatenate(list(synthetic_windows(5, seed=3, side_px=160)))[:, :128]
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", frames, fps=FPS)


def clip_row(path: Path, first: int, last: int, **changes: Any) -> dict[str, Any]:
    with open_media(path) as media:
        pts = [frame.pts for frame in iter_span(media, None, None)]
        base = media.stream.time_base
    assert base is not None
    return {
        "clip_id": f"{first:032x}",
        "source_id": "5" * 32,
        "frame_pts": pts[first:last],
        "seek_pts": pts[0],
        "time_base_num": base.numerator,
        "time_base_den": base.denominator,
        "fps": float(FPS),
        "uri": str(path),
        "media": "video",
        "width_px": 160,
        "height_px": 128,
        **changes,
    }


def run(operator: Tokenize, *rows: dict[str, Any]) -> pa.Table:
    state = operator.setup()
    try:
        table = pa.Table.from_pylist(list(rows), schema=arrow_schema(operator.reads))
        return operator.process(state, table)
    finally:
        operator.close(state)


@pytest.fixture
def operator() -> Tokenize:
    return Tokenize(tokenizer=Reference(heights=(64, 128), max_frames=9))


def test_rows_are_windows_times_buckets(operator: Tokenize, footage: Path) -> None:
    table = run(operator, clip_row(footage, 2, 24), clip_row(footage, 30, 39))
    assert table.schema.names == [c.name for c in operator.writes]
    rows = table.to_pylist()
    assert [(r["clip_id"][-2:], r["window_index"], r["bucket"]) for r in rows] == [
        ("02", 0, "9x128x160"),
        ("02", 0, "9x64x80"),
        ("02", 1, "9x128x160"),
        ("02", 1, "9x64x80"),
        ("1e", 0, "9x128x160"),
        ("1e", 0, "9x64x80"),
    ]
    assert all(r["error_kind"] is None for r in rows)
    assert [r["num_tail_frames_unused"] for r in rows] == [4] * 4 + [0] * 2
    clip = clip_row(footage, 2, 24)["frame_pts"]
    assert rows[2]["frame_pts"] == clip[9:18]
    assert rows[0]["frame_pts"] == clip[:9]
    assert rows[0]["effective_fps"] == 30.0
    assert rows[0]["crop_box"] == [0, 0, 160, 128]
    assert [r["psnr_db"] is None for r in rows] == [False, False, True, True, False, False]
    assert rows[0]["decoded_s"] == pytest.approx(20 / 30, abs=0.02)
    assert rows[1]["decoded_s"] == 0
    plan = operator.plan(clip_row(footage, 2, 24))
    for row in rows[:2]:
        bucket = next(b for b in plan.buckets if b.bucket == row["bucket"])
        sizes = [len(row[c]) for c in bucket.shapes]
        assert sum(sizes) == bucket.num_bytes
    assert plan.num_pixels == 2 * 9 * (128 * 160 + 64 * 80)


def test_tokens_are_those_of_the_exact_frames(operator: Tokenize, footage: Path) -> None:
    row = clip_row(footage, 13, 31)
    first, *_, last = run(operator, row).to_pylist()
    codec = operator.setup().codec
    assert isinstance(codec, ReferenceCodec)
    tokenizer = codec.tokenizer
    with open_media(footage) as media:
        exact = np.stack([frame_rgb(f) for f in iter_span(media, row["frame_pts"][0], row["frame_pts"][8] + 1)][:9])
    (stream,) = operator.spec.streams
    for k, ids in enumerate(tokenizer.encode(exact)):
        np.testing.assert_array_equal(unpack(stream, k, first[f"tokens_pixel_s{k}"], first[f"grid_pixel_s{k}"]), ids)
    assert first["psnr_db"] == pytest.approx(tokenizer.psnr_per_scale(exact, tokenizer.encode(exact)))
    assert last["frame_pts"] == row["frame_pts"][9:18]


def test_bytes_do_not_depend_on_batch_or_on_other_buckets(footage: Path) -> None:
    rows = [clip_row(footage, 2, 24), clip_row(footage, 30, 45)]
    both = Tokenize(tokenizer=Reference(heights=(64, 128), max_frames=9))
    together = run(both, *rows)
    apart = pa.concat_tables([run(both, rows[1]), run(both, rows[0])])
    alone = run(Tokenize(tokenizer=Reference(heights=(64,), max_frames=9)), *rows)
    packed = [list(pack_unit(table, both.spec)) for table in (together, apart)]
    assert packed[0] == packed[1]
    names = [f"tokens_pixel_s{k}" for k in range(6)]
    small = together.filter(pc.field("bucket") == "9x64x80")
    assert small.select(names).equals(alone.select(names))


def test_faults_become_rows(operator: Tokenize, footage: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(footage.read_bytes()[:3000])
    good = clip_row(footage, 0, 9)
    missing = clip_row(footage, 0, 9, clip_id="m" * 32, frame_pts=[p + 1 for p in good["frame_pts"]])
    table = run(
        operator,
        good | {"clip_id": "b" * 32, "uri": str(broken)},
        missing,
        good | {"clip_id": "t" * 32, "width_px": 12},
        good,
    )
    bad = table.slice(0, 3).to_pylist()
    assert [r["error_kind"] for r in bad] == ["bad_input"] * 3
    assert "no frame with pts" in bad[1]["error"]
    assert "12x128" in bad[2]["error"]
    assert all(v is None for r in bad for k, v in r.items() if k not in ("clip_id", "source_id", "error_kind", "error"))
    assert table.num_rows == 5
    assert table["error_kind"][3].as_py() is None


def test_a_still_image_is_one_frame(operator: Tokenize, tmp_path: Path) -> None:
    from PIL import Image

    image = next(synthetic_windows(1, 4, 160, 1))[0]
    Image.fromarray(image).save(tmp_path / "still.png")
    row = {
        "clip_id": "1" * 32,
        "source_id": "2" * 32,
        "frame_pts": [0],
        "seek_pts": 0,
        "time_base_num": 1,
        "time_base_den": 1,
        "fps": None,
        "uri": str(tmp_path / "still.png"),
        "media": "image",
        "width_px": 160,
        "height_px": 160,
    }
    rows = run(operator, row).to_pylist()
    assert [r["bucket"] for r in rows] == ["1x128x128", "1x64x64"]
    assert rows[0]["effective_fps"] is None
    assert rows[0]["error_kind"] is None
    assert rows[0]["decoded_s"] == 0


def test_resampled_and_overlapping_windows(footage: Path) -> None:
    row = clip_row(footage, 0, 40)
    rows = run(
        Tokenize(tokenizer=Reference(heights=(64,), max_frames=5, stride=4, frame_policy=15.0), psnr="none"), row
    ).to_pylist()
    assert [r["frame_pts"] for r in rows] == [row["frame_pts"][2 * i : 2 * i + 10 : 2] for i in (0, 4, 8, 12)]
    assert {r["effective_fps"] for r in rows} == {15.0}
    assert rows[0]["psnr_db"] is None
    assert rows[0]["num_tail_frames_unused"] == 3


def test_windows_can_be_asked_for_in_any_order(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh child starts in the middle; going on in order opens the file once."""
    opened = []
    real = frames_module._video_windows
    monkeypatch.setattr(frames_module, "_video_windows", lambda clip, first: opened.append(first) or real(clip, first))
    row = clip_row(footage, 0, 20)
    fits = tuple(b.fit for b in Tokenize(tokenizer=Reference(heights=(64,))).plan(row).buckets)
    windows = (Window(0, 9), Window(4, 9), Window(11, 9))
    clip = ClipFrames(row["uri"], False, tuple(row["frame_pts"]), row["seek_pts"], windows, fits)
    in_order = [next_window(clip, i)[0] for i in range(3)]
    assert opened == [0]
    for i in (2, 0, 1):
        np.testing.assert_array_equal(next_window(clip, i)[0], in_order[i])
    assert opened == [0, 2, 0]
    np.testing.assert_array_equal(in_order[0][4:], in_order[1][:5])
    assert len(list(iter_windows(clip, 1))) == 2
    frames_module.close()


def test_configuration_errors() -> None:
    for make, options, message in (
        (Reference, {"codebook": "/no/such.npz"}, "does not exist"),
        (Reference, {"heights": ()}, "16 pixels or more"),
        (Reference, {"max_frames": 0}, "no legal window"),
        (Pixels, {"max_frames": 9, "stride": 5}, "may not overlap"),
        (Pixels, {"count": 0}, "give 8 pixels or more, a count"),
        (Tokenize, {"tokenizer": "magic"}, "tokenizer is 'magic'"),
        (Tokenize, {"psnr": "x"}, "psnr is 'x'"),
        (Tokenize, {"augs": ("vflip",)}, "list some of none, hflip"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="did you mean 'pixels'"):
        tokenizer_class("pixel")


def test_crops_are_exact_pixels_of_their_places(footage: Path) -> None:
    operator = Tokenize(tokenizer=Pixels(height_px=32, width_px=48, count=5, max_frames=4, scales=(1, 2, 9)))
    row = clip_row(footage, 3, 12)
    rows = run(operator, row).to_pylist()
    assert [(r["window_index"], r["aug_id"]) for r in rows] == [(w, f"crop{n}") for w in range(2) for n in range(5)]
    assert {r["bucket"] for r in rows} == {"4x32x48"}
    assert [r["crop_kind"] for r in rows[:5]] == ["detail"] * 3 + ["uniform"] * 2
    assert {r["crop_scale"] for r in rows} <= {1.0, 2.0}, "a crop of scale 9 does not fit"
    assert 2.0 in {r["crop_scale"] for r in rows}
    with open_media(footage) as media:
        exact = np.stack([frame_rgb(f) for f in iter_span(media, row["frame_pts"][0], row["frame_pts"][8])][:8])
    for r in rows:
        x, y, w, h = r["crop_box"]
        scale, first = int(r["crop_scale"]), 4 * r["window_index"]
        piece = exact[first : first + 4, y : y + h, x : x + w].astype(float)
        mean = piece.reshape(4, 32, scale, 48, scale, 3).mean(axis=(2, 4))
        stored = unpack(operator.spec.streams[0], 0, r["tokens_pixel_s0"], r["grid_pixel_s0"])
        assert np.abs(stored - mean).max() <= 0.5
    detail = [r["crop_detail"] for r in rows if r["window_index"] == 0]
    assert detail[:3] == sorted(detail[:3], reverse=True)
    assert detail[0] >= max(r["crop_detail"] for r in rows[3:5] if r["crop_scale"] == 1.0) * 0.9
    assert run(operator, row).equals(run(operator, row))
    small = run(operator, clip_row(footage, 0, 8, width_px=40)).to_pylist()[0]
    assert "smaller than the crops of 48x32" in small["error"]
    packed = dict(pack_unit(run(operator, row), operator.spec))
    assert len(packed) == 1


def test_a_window_is_flipped_only_where_no_text_was_seen(footage: Path) -> None:
    pixels = Pixels(height_px=32, width_px=48, count=1, max_frames=4)
    operator = Tokenize(tokenizer=pixels, augs=("none", "hflip"))
    assert "text_area_share_max" in [column.name for column in operator.reads]
    texts = (0.0, 0.02, None)
    table = run(operator, *(clip_row(footage, i, i + 5, text_area_share_max=t) for i, t in enumerate(texts)))
    rows = table.to_pylist()
    ids = [(r["clip_id"][-1], r["aug_id"]) for r in rows]
    assert ids == [("0", "crop0"), ("0", "crop0+hflip"), ("1", "crop0"), ("2", "crop0")]
    (stream,) = operator.spec.streams
    straight, flipped = (unpack(stream, 0, r["tokens_pixel_s0"], r["grid_pixel_s0"]) for r in rows[:2])
    np.testing.assert_array_equal(straight, flipped[:, :, ::-1])


def test_declared_columns() -> None:
    operator = Tokenize()
    names = [c.name for c in operator.writes]
    assert names[: len(SHARD_KEYS)] == [c.name for c in SHARD_KEYS]
    assert names[-3:] == ["decoded_s", "error_kind", "error"]
    assert set(shard_schema(operator.spec).names) <= set(names)
    assert operator.files_to_ship()["codebook.npz"][:2] == b"PK"
    assert operator.spec.licence == "Apache-2.0"


def test_padded_frames_repeat_their_edges_and_an_enlarged_clip_enters_no_large_size(footage: Path) -> None:
    tokenizer = Reference(heights=(128,), multiple=96, pad=True, max_frames=5)
    operator = Tokenize(tokenizer=tokenizer, min_native_scale=0.6)
    row = clip_row(footage, 0, 5)
    real = operator.plan(row | {"resolution_effective_short_px": 100.0}).buckets
    assert [(b.in_h, b.in_w, b.fit.top_px, b.fit.left_px) for b in real] == [(192, 192, -32, -16)]
    (window,) = iter_windows(
        ClipFrames(row["uri"], False, tuple(row["frame_pts"]), None, (Window(0, 5),), (real[0].fit,))
    )
    padded_THWC = window[0]
    assert padded_THWC.shape == (5, 192, 192, 3)
    with open_media(footage) as media:
        native_HWC = next(frame_rgb(frame) for frame in iter_span(media, None, None))
    assert np.array_equal(padded_THWC[0, 32:160, 16:176], native_HWC)
    assert np.array_equal(padded_THWC[0, 32:160, 0], native_HWC[:, 0])
    assert np.array_equal(padded_THWC[0, -1, 16:176], native_HWC[-1])
    small = operator.plan(row | {"resolution_effective_short_px": 50.0}).buckets
    assert [b.fit.scaled_height_px for b in small] == [77]  # of 50 / 0.6
    assert operator.plan(row | {"resolution_effective_short_px": None}).buckets == real
    with pytest.raises(ValueError, match="multiple is 24; this tokenizer needs multiples of 16"):
        Reference(multiple=24).spec  # noqa: B018
