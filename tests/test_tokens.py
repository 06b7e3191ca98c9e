# SPDX-License-Identifier: Apache-2.0
"""Specs, plans and payloads."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from reelmill.buckets import buckets_of
from reelmill.geometry import TimeRule
from reelmill.tokens import (
    InputRule,
    Scale,
    Stream,
    TokenizerSpec,
    pack,
    prefix_scales,
    shard_schema,
    spec_of_schema,
    unpack,
)

VIDEO = InputRule(multiple=16, heights=(360,))
CAUSAL = TimeRule(unit=4, head=1, max_frames=17)
ONE = (Scale(reduce=(1, 1, 1)),)
RESIDUAL = tuple(Scale(reduce=(1, by, by), vocab=vocab) for by, vocab in ((4, 256), (2, 4096), (1, 100_000)))
PREFIX = prefix_scales(32)

SPECS = {
    "id_grid": (Stream("pixel", "ids", ONE, stride=(4, 8, 8), vocab=64000),),
    "residual": (Stream("pixel", "ids", RESIDUAL, stride=(4, 8, 8)),),
    "prefix": (Stream("pixel", "ids", PREFIX, vocab=64000),),
    "bits": (
        Stream("pixel", "bits", ONE, stride=(4, 16, 16), bits=18),
        Stream("groups", "ids", ONE, stride=(4, 16, 16), groups=8, vocab=256),
    ),
    "latent": (
        Stream(
            "pixel",
            "latent",
            ONE,
            stride=(4, 8, 8),
            groups=16,
            store_dtype="bfloat16",
            axes="GTHW",
            mean=((0.0,) * 16,),
            std=((1.5,) * 16,),
        ),
        Stream("pixel_logvar", "latent", ONE, stride=(4, 8, 8), role="logvar", groups=16, store_dtype="float16"),
    ),
    "codebook_map": (
        Stream("map", "ids", ONE, stride=(1, 14, 14), vocab=32),
        Stream("centroids", "latent", (Scale(fixed=(1, 1, 32)),), role="codebook", groups=64, store_dtype="float32"),
    ),
}
COMBINE = {
    "id_grid": "single",
    "residual": "residual_sum",
    "prefix": "prefix_1d",
    "bits": "groups_concat",
    "latent": "single",
    "codebook_map": "codebook_map",
}


def make(name: str) -> TokenizerSpec:
    prefix = {"residual": "scale", "prefix": "token"}.get(name, "none")
    return TokenizerSpec(
        name=name,
        family="vq",
        input=VIDEO,
        time=CAUSAL,
        streams=SPECS[name],
        combine=COMBINE[name],
        prefix=prefix,
        runtime={"dtype": "float32", "tile": [256, 256], "overlap": 32, "batch": "one window"},
    )


@pytest.mark.parametrize("name", SPECS)
def test_spec_goes_through_json_unchanged(name: str) -> None:
    spec = make(name)
    again = TokenizerSpec.from_json(spec.to_json())
    assert again == spec
    assert again.spec_id == spec.spec_id
    assert spec_of_schema(shard_schema(spec)) == spec
    assert len({spec.spec_id, again.spec_id}) == 1
    assert len(spec.spec_id) == 16


CHANGES = {
    "name": "other",
    "family": "fsq",
    "input": InputRule(multiple=32, heights=(360,)),
    "time": TimeRule(unit=4, head=1, max_frames=33),
    "combine": "pyramid",
    "combine_rule": {"up": "nearest"},
    "prefix": "none",
    "decode": {"kind": "x"},
    "runtime": {"dtype": "bfloat16", "tile": [256, 256], "overlap": 32, "batch": "one window"},
    "weights_sha256": "00",
    "code_version": "2",
    "licence": "MIT",
    "streams": (Stream("pixel", "ids", RESIDUAL[:2], stride=(4, 8, 8)),),
}


def test_every_field_changes_the_spec_id() -> None:
    spec = make("residual")
    assert set(CHANGES) == {f.name for f in dataclasses.fields(spec)}
    ids = {dataclasses.replace(spec, **{key: value}).spec_id for key, value in CHANGES.items()}
    assert spec.spec_id not in ids
    assert len(ids) == len(CHANGES)
    tiles = {
        dataclasses.replace(spec, runtime=spec.runtime | {"tile": tile}).spec_id
        for tile in ([256, 256], [512, 512], None)
    }
    assert len(tiles) == 3


def test_spec_errors_name_the_value() -> None:
    with pytest.raises(ValueError, match="combine is 'sum'"):
        dataclasses.replace(make("id_grid"), combine="sum")
    with pytest.raises(ValueError, match="needs vocab"):
        Stream("pixel", "ids", ONE)
    with pytest.raises(ValueError, match="repeat one"):
        dataclasses.replace(make("id_grid"), streams=SPECS["id_grid"] * 2)
    with pytest.raises(ValueError, match="not a tokenizer spec"):
        TokenizerSpec.from_json('{"name": "x"}')
    with pytest.raises(ValueError, match="runtime does not say 'overlap'"):
        dataclasses.replace(make("id_grid"), runtime={"dtype": "float32", "tile": None, "batch": "one window"})
    assert [s.fixed for s in prefix_scales(6)] == [(1, 1, n) for n in (1, 1, 2, 2)]
    assert [s.fixed for s in prefix_scales(1)] == [(1, 1, 1)]
    with pytest.raises(ValueError, match="one of reduce, fixed and table"):
        Scale()


@pytest.mark.parametrize("name", SPECS)
def test_planned_shapes_and_bytes_are_those_of_the_payload(name: str) -> None:
    spec = make(name)
    plan = spec.plan(40, 480, 640, 30.0)
    assert [(w.start, w.length) for w in plan.windows] == [(0, 17), (17, 17)]
    assert plan.num_tail_unused == 6
    (bucket,) = plan.buckets
    assert bucket.bucket == "17x352x480"
    rng = np.random.default_rng(0)
    total = 0
    for stream, k in spec.columns():
        t, h, w, g = bucket.shapes[stream.column(k)]
        shape = (g, t, h, w) if stream.axes == "GTHW" else (t, h, w, g)
        high = 256 if stream.kind == "bits" else stream.vocab_of(k) or 0
        values = (
            rng.integers(0, high, shape) if stream.kind != "latent" else rng.standard_normal(shape).astype(np.float32)
        )
        data = pack(stream, k, values)
        total += len(data)
        back = unpack(stream, k, data, (t, h, w, g))
        if stream.kind == "latent":
            np.testing.assert_allclose(
                back.reshape(shape), values, rtol=2**-8 if stream.store_dtype == "bfloat16" else 2**-10, atol=1e-4
            )
        else:
            np.testing.assert_array_equal(back.reshape(shape), values)
    assert total == bucket.num_bytes


def test_payload_shapes_by_hand() -> None:
    (bucket,) = make("residual").plan(17, 360, 640, 30.0).buckets
    assert bucket.bucket == "17x352x640"
    assert bucket.shapes == {
        "tokens_pixel_s0": (5, 11, 20, 1),
        "tokens_pixel_s1": (5, 22, 40, 1),
        "tokens_pixel_s2": (5, 44, 80, 1),
    }
    assert bucket.num_tokens == 5 * (220 + 880 + 3520)
    assert bucket.num_bytes == 5 * (220 + 2 * 880 + 4 * 3520)
    bits = 5 * (220 * 8 + 880 * 12 + 3520 * np.log2(100_000))
    assert bucket.bits_per_pixel == pytest.approx(bits / (17 * 352 * 640))
    assert make("bits").streams[0].shape(0, CAUSAL, 17, 352, 640) == (5, 22, 40, 3)  # 18 bits fill three bytes
    assert make("prefix").plan(1, 360, 640, None).buckets[0].num_tokens == 32


def test_pack_refuses_ids_outside_the_vocabulary() -> None:
    (stream,) = SPECS["id_grid"]
    with pytest.raises(ValueError, match=r"ids 0\.\.64000 outside 0\.\.63999"):
        pack(stream, 0, np.array([[[0, 64000]]]))
    with pytest.raises(ValueError, match="wants 6"):
        unpack(stream, 0, b"\0\0", (1, 2, 3, 1))


def test_shard_columns_are_binary_and_documented() -> None:
    schema = shard_schema(make("latent"))
    assert {"tokens_pixel_s0", "grid_pixel_s0", "aux_pixel_logvar_s0", "grid_pixel_logvar_s0"} <= set(schema.names)
    assert schema.field("tokens_pixel_s0").type == pa.large_binary()
    assert all(field.metadata[b"doc"] for field in schema)


@pytest.mark.parametrize(("frames", "length"), [(1, 1), (4, 1), (5, 5), (8, 5), (16, 13), (17, 17), (18, 17), (99, 17)])
def test_legal_lengths_of_a_causal_tokenizer(frames: int, length: int) -> None:
    windows, tail = CAUSAL.windows(frames)
    assert {w.length for w in windows} == {length}
    assert windows[-1].start + length + tail == frames
    assert len(windows) == frames // length


def test_windows_of_other_rules() -> None:
    overlapping = TimeRule(unit=4, head=1, max_frames=17, stride=16)
    assert [w.start for w in overlapping.windows(49)[0]] == [0, 16, 32]
    whole = TimeRule(unit=4, head=0, max_frames=16)
    assert whole.windows(3) == ((), 3)
    assert whole.windows(1, is_still=True)[0] == ()
    assert TimeRule(unit=4, head=0, max_frames=16, repeats_stills=True).windows(1, is_still=True)[0][0].length == 4
    with pytest.raises(ValueError, match="no legal window"):
        TimeRule(unit=4, head=0, max_frames=3)


def test_resampling_takes_the_nearest_frame_and_never_one_twice() -> None:
    rule = TimeRule(unit=4, head=1, max_frames=17, frame_policy=10.0)
    assert rule.choose(tuple(i / 30 for i in range(31))) == tuple(range(0, 31, 3))
    uneven = (0.0, 0.092, 0.11, 0.2, 0.55, 0.61)
    assert rule.choose(uneven) == (0, 1, 3, 4, 5)
    slow = tuple(i / 5 for i in range(6))
    assert rule.choose(slow) == tuple(range(6))
    assert rule.effective_fps(30.0) == 10.0
    assert rule.effective_fps(5.0) == 5.0
    assert make("id_grid").plan(60, 360, 640, 30.0).effective_fps == 30.0


@pytest.mark.parametrize(
    ("width", "height", "size", "expected"),
    [
        (3840, 2160, 2160, (2160, 3840, (0, 0, 3840, 2160))),
        (1920, 1080, 1080, (1072, 1920, (0, 4, 1920, 1072))),
        (3840, 2160, 720, (720, 1280, (0, 0, 3840, 2160))),
        (2160, 3840, 720, (1280, 720, (0, 0, 2160, 3840))),
        (640, 360, 360, (352, 640, (0, 4, 640, 352))),
        (4096, 2160, 2160, (2160, 3840, (128, 0, 3840, 2160))),
        (1008, 756, 720, (720, 960, (0, 0, 1008, 756))),
        (320, 180, 360, (176, 320, (0, 2, 320, 176))),
    ],
)
def test_buckets_by_hand(width: int, height: int, size: int, expected: tuple[int, int, tuple[int, ...]]) -> None:
    (fit,) = buckets_of(height, width, InputRule(heights=(size,)))
    assert (fit.height_px, fit.width_px, fit.crop_box) == expected


def test_buckets_never_enlarge_and_stay_inside() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        height, width = (int(v) for v in rng.integers(17, 4400, 2))
        for fit in buckets_of(height, width, InputRule(heights=(2160, 720, 360))):
            assert fit.height_px % 16 == fit.width_px % 16 == 0
            assert fit.height_px <= fit.scaled_height_px <= height
            assert fit.width_px <= fit.scaled_width_px <= width
            x, y, w, h = fit.crop_box
            assert x >= 0
            assert y >= 0
            assert x + w <= width
            assert y + h <= height
            assert 0 <= fit.top_px <= fit.scaled_height_px - fit.height_px
            assert w >= fit.width_px - 1
            assert h >= fit.height_px - 1
    with pytest.raises(ValueError, match="12x400 are smaller than 16"):
        buckets_of(400, 12, InputRule(heights=(360,)))


def test_a_tokenizer_of_one_square_size_gets_the_centre_square() -> None:
    spec = dataclasses.replace(make("id_grid"), input=InputRule(256, (256,), fit="area_center_square"))
    for height, width, box in ((2160, 3840, (835, 0, 2160, 2160)), (3840, 1646, (0, 1093, 1646, 1646))):
        (bucket,) = spec.plan(9, height, width, 30.0).buckets
        assert (bucket.in_h, bucket.in_w, bucket.fit.crop_box) == (256, 256, box)
    with pytest.raises(ValueError, match="smaller than 256 pixels"):
        spec.plan(9, 240, 640, 30.0)


def test_padded_buckets_hold_the_whole_frame() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        height, width = (int(v) for v in rng.integers(65, 4400, 2))
        for fit in buckets_of(height, width, InputRule(64, (2160, 720, 360, 64), fit="area_pad")):
            assert fit.height_px % 64 == fit.width_px % 64 == 0
            assert fit.scaled_height_px <= min(height, fit.height_px)
            assert fit.scaled_width_px <= min(width, fit.width_px)
            assert fit.height_px - fit.scaled_height_px < 64 or fit.width_px - fit.scaled_width_px < 64
            x, y, w, h = fit.crop_box
            assert x <= 0
            assert y <= 0
            assert x + w >= width - 1 - width / fit.scaled_width_px
            assert y + h >= height - 1 - height / fit.scaled_height_px
    (fit,) = buckets_of(2160, 3840, InputRule(64, (2160,), fit="area_pad"))
    assert (fit.height_px, fit.width_px, fit.top_px, fit.crop_box) == (2176, 3840, -8, (0, -8, 3840, 2176))


def test_buckets_by_area_are_pixart_sigmas() -> None:
    rule = InputRule(64, areas=(2880, 1024))
    shapes = {(1600, 4800), (2304, 3392), (2112, 3840), (2880, 2880), (1408, 5760)}  # of its 4K table
    for short, long in shapes:
        assert next((f.height_px, f.width_px) for f in buckets_of(short, long, rule)) == (short, long)
        assert next((f.height_px, f.width_px) for f in buckets_of(long, short, rule)) == (long, short)
    uhd, small = buckets_of(2160, 3840, rule)
    assert (uhd.height_px, uhd.width_px, uhd.crop_box) == (2112, 3840, (0, 24, 3840, 2112))
    assert (small.height_px, small.width_px) == (768, 1344)  # its 1024 table
    assert [f.height_px for f in buckets_of(1080, 1920, rule)] == [768]
    with pytest.raises(ValueError, match="give one of the two"):
        InputRule(heights=(360,), areas=(512,))


def test_no_bucket_is_larger_than_what_is_real() -> None:
    rule = InputRule(heights=(2160, 1440, 1080, 720))
    assert [f.height_px for f in buckets_of(2160, 3840, rule, max_short_px=1440.0)] == [1440, 1072, 720]
    assert [f.height_px for f in buckets_of(2160, 3840, rule, max_short_px=500.0)] == [352]
    assert [f.height_px for f in buckets_of(2160, 3840, rule, max_short_px=3.0)] == [16]
