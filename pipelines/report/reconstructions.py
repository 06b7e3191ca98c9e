# SPDX-License-Identifier: Apache-2.0
"""What the tokens keep: a frame as it went in, and as it comes back from the shards after each scale.

Only token rows whose spec says `linear_residual` are decoded here: that needs numpy alone.
"""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from operators.contract import RowError
from operators.decode_child import DecodeChild
from pipelines.report.details import Detail
from pipelines.report.page import Section, image, number
from pipelines.report.pictures import MEMORY_LIMIT_GB, TIMEOUT_S, groups_of, jpeg
from reelmill.residual import PATCH_T, ResidualCodebook, ResidualDecoder
from reelmill.storage import Store
from reelmill.tables import SHARD_KEYS
from reelmill.tokens import TokenizerSpec, unpack

MAX_CLIPS = 3
MAX_HEIGHT = 480  # the largest bucket up to this height is shown
ZOOM_PX = 160  # width of the enlarged detail
KEYS = [column.name for column in SHARD_KEYS]


@dataclass
class Example:
    """One token row, the frame that is shown of it, and its pictures."""

    detail: Detail
    row: dict[str, Any]
    frame_index: int
    original_HWC: np.ndarray
    decoded: list[np.ndarray]


def reconstructions(store: Store, manifest: dict[str, Any], kept: list[Detail]) -> Section | None:
    """Examples of each spec; None if there are no shards that can be decoded here."""
    bodies = []
    for rel in manifest["tables"].get("shards") or []:
        decoder_spec = _decoder(store, rel)
        if decoder_spec is None:
            continue
        spec, decoder = decoder_spec
        examples = _examples(store, rel, spec, decoder, kept)
        if examples:
            bodies.append(
                f"<h3>{escape(spec.name)} <code>{escape(rel.rsplit('/', 1)[-1])}</code></h3>"
                + "".join(_html(example, spec) for example in examples)
            )
    if not bodies:
        return None
    return Section(
        "tokens",
        "Tokens, scale by scale",
        "Left: what was encoded. Then: decoded from the shards after each scale, coarse to fine, with the window's "
        "PSNR and the tokens read so far. Below: a detail, enlarged.",
        "".join(bodies),
    )


def _decoder(store: Store, rel: str) -> tuple[TokenizerSpec, ResidualDecoder] | None:
    if not store.exists(f"{rel}/spec.json"):
        return None
    spec = TokenizerSpec.from_json(store.read_bytes(f"{rel}/spec.json").decode())
    if spec.decode.get("kind") != "linear_residual":
        return None
    return spec, ResidualDecoder(ResidualCodebook.from_bytes(store.read_bytes(f"{rel}/{spec.decode['file']}")))


def _examples(
    store: Store, rel: str, spec: TokenizerSpec, decoder: ResidualDecoder, kept: list[Detail]
) -> list[Example]:
    by_clip = {d.pick.clip_id: d for d in kept if d.clip and d.source and d.pictures}
    child = DecodeChild(MEMORY_LIMIT_GB)
    examples: list[Example] = []
    try:
        for name, group, index in _places(store, rel, by_clip):
            with store.open_parquet(f"{rel}/{name}") as file:
                row = file.read_row_group(group).slice(index, 1).to_pylist()[0]
            example = _example(by_clip[row["clip_id"]], row, spec, decoder, child)
            if example is not None:
                examples.append(example)
            if len(examples) == MAX_CLIPS:
                break
    finally:
        child.close()
    return examples


def _places(store: Store, rel: str, clips: dict[str, Detail]) -> list[tuple[str, int, int]]:
    """File, row group and row of the best bucket of each clip that is shown, most detailed pictures first."""
    best: dict[str, tuple[int, int, str, int, int]] = {}
    for name in (n for n in store.list(rel) if n.endswith(".parquet")):
        with store.open_parquet(f"{rel}/{name}") as file:
            for group in range(file.num_row_groups):
                keys = file.read_row_group(group, columns=["clip_id", "window_index", "in_t", "in_h"]).to_pylist()
                for index, row in enumerate(keys):
                    if row["clip_id"] in clips and row["window_index"] == 0 and row["in_h"] <= MAX_HEIGHT:
                        place = (row["in_h"], row["in_t"], name, group, index)
                        best[row["clip_id"]] = max(best.get(row["clip_id"], place), place)
        if len(best) >= 2 * MAX_CLIPS:
            break
    order = sorted(best.values(), key=lambda place: (-place[0], place[2:]))
    return [place[2:] for place in order]


def _example(
    detail: Detail, row: dict[str, Any], spec: TokenizerSpec, decoder: ResidualDecoder, child: DecodeChild
) -> Example | None:
    middle = row["in_t"] // 2
    latent, within = (0, 0) if middle == 0 else (1 + (middle - 1) // PATCH_T, (middle - 1) % PATCH_T)
    stream = spec.streams[0]
    ids = []
    for scale in range(len(stream.scales)):
        column = stream.column(scale)
        ids_thw = unpack(stream, scale, row[column], row[f"grid_{column.split('_', 1)[1]}"])
        ids.append(ids_thw[latent : latent + 1])
    grid = row["in_h"] // stream.stride[1], row["in_w"] // stream.stride[2]
    decoded = [decoder.pixels(decoder.accumulate(ids, scale, grid)[0])[within] for scale in range(len(ids))]
    try:
        original_HWC = _original(detail, row, row["frame_pts"][middle], child)
    except RowError:
        return None
    return Example(detail, row, middle, original_HWC, decoded)


def _original(detail: Detail, row: dict[str, Any], pts: int, child: DecodeChild) -> np.ndarray:
    """The encoded pixels: the frame scaled by area, then cropped."""
    x, y, crop_w, crop_h = row["crop_box"]
    scale_x, scale_y = row["in_w"] / crop_w, row["in_h"] / crop_h
    size = round(row["source_height_px"] * scale_y), round(row["source_width_px"] * scale_x)
    groups = groups_of([pts], detail.key_pts, detail.clip["seek_pts"])
    (frame_HWC,) = child.call(
        "pipelines.report.pictures:child_frames",
        {"uri": detail.source["uri"], "groups": groups, "size": size},
        TIMEOUT_S,
    )
    top, left = min(round(y * scale_y), size[0] - row["in_h"]), min(round(x * scale_x), size[1] - row["in_w"])
    return frame_HWC[top : top + row["in_h"], left : left + row["in_w"]]


def _html(example: Example, spec: TokenizerSpec) -> str:
    row, shown = example.row, [example.original_HWC, *example.decoded]
    psnr = row.get("psnr_db") or [None] * len(example.decoded)
    counts = np.cumsum(
        [
            np.prod(row[f"grid_{c.split('_', 1)[1]}"][:3])
            for c in (spec.streams[0].column(k) for k in range(len(example.decoded)))
        ]
    )
    labels = ["<b>original</b>"] + [
        f"<b>scale {k}</b> · {number(psnr[k], 'dB')}<br>{number(int(counts[k]))} tokens"
        for k in range(len(example.decoded))
    ]
    box = _busiest(example.original_HWC)
    name = example.detail.source["relpath"]
    figures = "".join(
        f"<figure>{image(jpeg(picture, 85), f'{name}, {index}')}{image(jpeg(_cut(picture, box), 90), 'detail', 'zoom')}"
        f"<figcaption>{label}</figcaption></figure>"
        for index, (picture, label) in enumerate(zip(shown, labels, strict=True))
    )
    about = f"{row['in_w']} \u00d7 {row['in_h']}, {row['in_t']} frames in the window, frame {example.frame_index} shown"
    return (
        f'<p class="small"><b>{escape(name)}</b> <span class="soft">{escape(about)}</span></p>'
        f'<div class="scales" style="grid-template-columns:repeat({len(shown)},1fr)">{figures}</div>'
    )


def _busiest(picture_HWC: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of the part with the most contrast: that is where tokens are put to the test."""
    height, width = picture_HWC.shape[:2]
    w = min(ZOOM_PX, width)
    h = min(w * 9 // 16, height)
    luma_HW = picture_HWC.mean(axis=2)
    places = [(y, x) for y in range(0, height - h + 1, max(1, h // 2)) for x in range(0, width - w + 1, max(1, w // 2))]
    y, x = max(places, key=lambda at: float(luma_HW[at[0] : at[0] + h, at[1] : at[1] + w].std()))
    return y, x, h, w


def _cut(picture_HWC: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    y, x, h, w = box
    return np.repeat(np.repeat(picture_HWC[y : y + h, x : x + w], 2, 0), 2, 1)
