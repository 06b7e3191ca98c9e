# SPDX-License-Identifier: Apache-2.0
"""Every table's columns, once.

A table is a directory of Parquet files `unit-<n>.parquet` below the data set's root; a unit is a hash prefix of the
source path. Each row carries `error_kind`/`error`, both null when the row is good:

    bad_input   the file is at fault; final
    transient   network or storage; retried by the next run, a bounded number of times
    resource    out of memory or time; retried likewise
    internal    our bug; retried, and the run's exit code is 1

Stage tables that depend on the recipe (`series`, `scores`) have the columns below plus those that the recipe's
meters and operators declare; `pipelines.plan` puts the two together.
"""

import pyarrow as pa

from reelmill.column import Column

i32, i64, f32, f64, s, b = pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.bool_()

ERROR_KINDS = ("bad_input", "transient", "resource", "internal")

SOURCE_ID = Column("source_id", s, "32 hex digits: blake2b-128 of relative path, size, first and last 64 KiB")
CLIP_ID = Column("clip_id", s, "32 hex digits: blake2b-128 of source id, start pts, end pts and time base")
ERROR_KIND = Column("error_kind", s, f"one of {', '.join(ERROR_KINDS)}; null if the row is good")
ERROR = Column("error", s, "what went wrong, where, and what to do; null if the row is good")
STATE = (ERROR_KIND, ERROR)

SEGMENT = pa.struct([("start_pts", i64), ("end_pts", i64), ("seek_pts", i64)])

SOURCES = (
    SOURCE_ID,
    Column("relpath", s, "path below the input directory, or the manifest's id; part of the source id"),
    Column("uri", s, "absolute path or s3 URI it was read from"),
    Column("size_bytes", i64, "file size in bytes"),
    Column("etag", s, "the store's ETag; null on a local disk"),
    Column("mtime_s", f64, "modification time, seconds since 1970; null if the store has none"),
    Column("title", s, "title that came with the source (manifest or sidecar); null if none"),
    Column("tags", pa.list_(s), "tags that came with the source; null if none"),
    Column("extra_json", s, "all other manifest columns as a JSON object; null if none"),
    Column("media", s, "video or image; null if it could not be opened"),
    Column("container", s, "container's short name (mp4, matroska, ...); null if it could not be opened"),
    Column("codec", s, "video codec (h264, hevc, av1, png, ...); null if there is no video stream"),
    Column("profile", s, "codec profile; null if the codec has none"),
    Column("width_px", i32, "width in pixels after rotation (pixel aspect is not applied)"),
    Column("height_px", i32, "height in pixels after rotation"),
    Column("coded_width_px", i32, "width as coded"),
    Column("coded_height_px", i32, "height as coded"),
    Column("rotation_deg", i32, "clockwise rotation to display the frames: 0, 90, 180 or 270"),
    Column("pixel_aspect", f64, "width of a pixel over its height, as displayed; 1 when square or not stated"),
    Column("fps", f64, "average frames per second; null for a still image"),
    Column("is_vfr", b, "frame durations differ by more than half a frame; null if the index does not list frames"),
    Column("num_frames", i64, "frames by the container's header or index; null if neither says so"),
    Column(
        "duration_s",
        f64,
        "duration of the video stream in seconds by its header, or by its index of frames where the two differ by a "
        "second and a tenth; null if the header lacks it; 0 for a still",
    ),
    Column("time_base_num", i32, "numerator of the stream's time base, seconds per pts tick"),
    Column("time_base_den", i32, "denominator of the stream's time base"),
    Column("start_pts", i64, "pts of the first frame by the header; null if not stated"),
    Column("bit_depth", i32, "bits per luma sample"),
    Column("chroma", s, "4:0:0, 4:2:0, 4:2:2, 4:4:4 or rgb"),
    Column("color_primaries", s, "bt709, bt2020, ...; null if not tagged"),
    Column("color_transfer", s, "bt709, smpte2084, arib-std-b67, ...; null if not tagged"),
    Column("color_matrix", s, "bt709, bt2020nc, ...; null if not tagged"),
    Column("color_range", s, "limited or full; null if not tagged"),
    Column("hdr", s, "sdr, pq or hlg, from the transfer tag"),
    Column("max_cll_nits", f64, "brightest pixel by the stream (MaxCLL), cd/m2; null if not stated"),
    Column("max_fall_nits", f64, "brightest frame average by the stream (MaxFALL), cd/m2; null if not stated"),
    Column("mastering_max_nits", f64, "peak luminance of the mastering display, cd/m2; null if not stated"),
    Column("mastering_min_nits", f64, "black luminance of the mastering display, cd/m2; null if not stated"),
    Column("has_hdr10plus", b, "the first frame carries HDR10+ metadata (SMPTE ST 2094-40)"),
    Column("has_dolby_vision", b, "the first frame carries Dolby Vision metadata, or the container says so"),
    Column("is_interlaced", b, "the first frame or the field order is flagged interlaced; null if neither is stated"),
    Column("bit_rate_bps", f64, "video bit rate: stream header, else file size over duration; null for a still"),
    Column(
        "bits_per_pixel",
        f64,
        "8 * video bytes / (coded pixels * frames), else bit rate / (coded pixels * fps); null if neither is known",
    ),
    Column("num_audio_streams", i32, "audio streams in the container"),
    Column(
        "segments",
        pa.list_(SEGMENT),
        "key-frame aligned pieces [start_pts, end_pts) with the pts to seek to; end_pts null in the last",
    ),
    *STATE,
)

SERIES = (
    SOURCE_ID,
    Column("segment_index", i32, "position in the source's `segments`"),
    Column("backend", s, "reader that gave the frames: pyav, decord, torchcodec or torchcodec-cuda"),
    Column("backend_note", s, "why the recipe's backend was not used for this segment; null if it was"),
    Column("frame_pts", pa.list_(i64), "pts of each frame in [start_pts, end_pts), ascending"),
    Column("frame_is_key", pa.list_(b), "whether each frame is a key frame"),
    Column("frame_bytes", pa.list_(i32), "bytes of the packet of each frame; null inside where unknown"),
    Column(
        "frame_hash",
        pa.list_(i64),
        "52 bits of blake2b over what the packet of each frame codes, the same in any container; null inside where the "
        "reader does not see packets",
    ),
    Column("next_pts", i64, "pts of the first frame after the segment; null at the source's end"),
    Column(
        "last_duration_pts", i64, "duration of the last frame in ticks; estimated from the median step if not stored"
    ),
    Column("num_corrupt_frames", i32, "frames that the decoder flagged as damaged"),
    Column("damage", s, "message of the decoding error that ended the segment early; null if it decoded to its end"),
    *STATE,
)

CLIPS = (
    CLIP_ID,
    SOURCE_ID,
    Column("clip_index", i32, "position among the source's clips, in time order"),
    Column("shot_index", i32, "shot of the source that the clip lies in"),
    Column("start_pts", i64, "pts of the first frame"),
    Column("end_pts", i64, "pts just after the last frame (exclusive)"),
    Column("time_base_num", i32, "numerator of the time base, seconds per tick"),
    Column("time_base_den", i32, "denominator of the time base"),
    Column("seek_pts", i64, "pts of the key frame at or before the first frame"),
    Column("frame_pts", pa.list_(i64), "pts of every frame, ascending"),
    Column("num_frames", i32, "frames in the clip"),
    Column("start_s", f64, "start in seconds of the source's time line"),
    Column("duration_s", f64, "seconds from the first frame to the end; 0 for a still"),
    Column("fps", f64, "effective frames per second of the clip; null for a still"),
    Column("length_class", s, "still, too_short, short (3-10 s) or long (> 10 s), by the recipe's bounds"),
    Column("is_trimmed", b, "frames were cut off at an edge (transition or recipe trim)"),
    Column(
        "transition_in",
        s,
        "what comes before the clip: start (of the source), cut, gradual (a dissolve or fade, its frames left out), "
        "wipe (likewise), hole (frames are missing), window (the shot goes on)",
    ),
    Column("transition_out", s, "what comes after the clip: end (of the source), or as transition_in"),
    Column("split", s, "train or val, by hash of the source"),
)

REASON = pa.struct(
    [
        ("rule", s),
        ("column", s),
        ("gate", s),
        ("value", f64),
        ("value_text", s),
        ("threshold", s),
        ("unmeasured", b),
    ]
)

SELECTION = (
    Column("clip_id", s, "the clip; null for a source that a header rule rejected before it was decoded"),
    SOURCE_ID,
    Column("tier", s, "train, condition_only or reject"),
    Column("split", s, "train or val, by hash of the source"),
    Column("decided_gate", s, "last gate whose rules were all evaluated: header, measure, models or captions"),
    Column("reasons", pa.list_(REASON), "each rule that the clip fails: name, column, value, threshold; empty if none"),
)

CAPTION_TEXTS = (
    "Brief Description",
    "Detailed Description",
    "Background",
    "Theme Description",
    "Style",
    "Shot Type",
    "Camera Movement",
    "Lighting",
    "Video Atmosphere",
    "Summarized Description",
)
EVIDENCE = pa.struct([("field", s), ("sentence", s), ("columns", pa.list_(s))])
SEEN_FRAME = pa.struct([("index", i32), ("pts", i64), ("time_s", f64)])
SEEN_DETAIL = pa.struct(
    [*SEEN_FRAME, *(pa.field(f"{side}_px", i32) for side in ("left", "top", "width", "height"))],
)
SEEN_GRID = pa.struct([("t", i32), ("h", i32), ("w", i32)])

_NO_LABEL = "one of captioning.schema.VOCABULARIES; null unless a model wrote the texts"
CAPTION_LABELS = (
    Column("shot_scale", s, f"size of the main subject in the frame, {_NO_LABEL}"),
    Column("camera_movements", pa.list_(s), f"what the camera does as the model saw it, each {_NO_LABEL}"),
    Column("time_of_day", s, f"by the light of the scene, {_NO_LABEL}"),
    Column("setting", s, f"indoor, outdoor, both or unclear, {_NO_LABEL}"),
    Column("medium", s, f"how the picture was made, {_NO_LABEL}"),
)

_NO_MODEL = "null if no model looked"
CAPTION_PROVENANCE = (
    Column("caption_model", s, f"the model as the recipe names it, without credentials; {_NO_MODEL}"),
    Column("caption_model_revision", s, "commit of a hub id; null if it has none"),
    Column("caption_weights_hash", s, "sha256 over the checkpoint's files; null behind a server"),
    Column("caption_precision", s, "number format that the weights were computed in; null behind a server"),
    Column("caption_engine", s, f"engine and versions of its libraries; {_NO_MODEL}"),
    Column("caption_processor", s, "what made the model's input of frames, with its version; null behind a server"),
    Column("prompt_hash", s, f"hash of all prompts of the plan; {_NO_MODEL}"),
    Column("schema_hash", s, f"hash of the JSON Schemas that were asked for; {_NO_MODEL}"),
    Column("decoding_json", s, f"decoding parameters as a JSON object, seed among them; {_NO_MODEL}"),
    Column(
        "seen_frames",
        pa.list_(SEEN_FRAME),
        f"frames that the model got: position in the clip, pts, seconds from the clip's first frame; {_NO_MODEL}",
    ),
    Column("seen_width_px", i32, f"width of the frames that were handed to it; {_NO_MODEL}"),
    Column("seen_height_px", i32, f"height of the frames that were handed to it; {_NO_MODEL}"),
    Column(
        "seen_grid_thw",
        pa.list_(SEEN_GRID),
        "per look (part of a long clip): grid of patches; null where the model's rule is not known",
    ),
    Column(
        "seen_details",
        pa.list_(SEEN_DETAIL),
        "parts of frames that it got at native size besides: the frame as in seen_frames, and the box in square pixels "
        f"of the displayed frame; {_NO_MODEL}",
    ),
    Column(
        "num_visual_tokens",
        i64,
        "visual tokens of all looks, each counted once: as the processor made them, or behind a server as predicted; "
        "null where the model's rule is not known",
    ),
    Column("num_prompt_tokens", i64, f"tokens that went in, over all questions and their repeats; {_NO_MODEL}"),
    Column("num_output_tokens", i64, f"tokens that came out, likewise; {_NO_MODEL}"),
    Column("finish_reason", s, "of the last answer: stop, length or what the server said; null if none came"),
    Column("caption_tier", s, f"name of the tier of effort; {_NO_MODEL}"),
    Column("caption_trigger", s, "what raised the tier above the first: text, detail or invalid; null: nothing"),
)

CAPTIONS = (
    CLIP_ID,
    SOURCE_ID,
    Column("span_start_pts", i64, "first pts that the texts describe"),
    Column("span_end_pts", i64, "pts just after the described span"),
    *(
        Column(name, s, "UltraVideo's text of that name; null if nothing grounded can be said")
        for name in CAPTION_TEXTS
    ),
    Column("caption_grounding", s, "measured (only measured facts) or model (a vision-language model wrote it)"),
    Column(
        "evidence",
        pa.list_(EVIDENCE),
        "for measured captions: each sentence and the columns it was made from. For a model's: each measured sentence "
        "that it was told, with its columns, and what it says its labels rest on, with none. Null if there is none",
    ),
    *CAPTION_LABELS,
    *CAPTION_PROVENANCE,
    Column("status", s, "ok, repaired (by asking again) or failed"),
    Column("captioner_id", s, "hash of engine, model, prompts, schema, budget and decoding parameters"),
    *STATE,
)

RENDERING = Column("rendering", s, "name of the text that the rendering is built on, as in CAPTION_TEXTS; or `empty`")
RENDERINGS = (
    RENDERING,
    Column("rendered_fields", pa.list_(s), "the texts that it is made of, in order; empty for the empty caption"),
    Column("rendered_text", s, "those texts, joined by blanks"),
)
"""Keys of a table of text features: a row per (clip, rendering). The empty caption is one row with an empty clip id."""

SHARD_KEYS = (
    CLIP_ID,
    SOURCE_ID,
    Column("window_index", i32, "position of the window in its clip"),
    Column("bucket", s, "token grid as <t>x<h>x<w> pixels of the window; rows of one bucket stack without padding"),
    Column(
        "aug_id",
        s,
        "what was done before encoding: none, hflip (left and right swapped), crop<n> (n-th crop of the window, see "
        "crop_box); several are joined by +",
    ),
    Column("frame_pts", pa.list_(i64), "pts of each encoded frame, in the clip's time base"),
    Column("time_base_num", i32, "numerator of the time base, seconds per tick"),
    Column("time_base_den", i32, "denominator of the time base"),
    Column("effective_fps", f32, "frames per second of the encoded frames; null for a still"),
    Column("in_t", i32, "encoded frames"),
    Column("in_h", i32, "encoded rows"),
    Column("in_w", i32, "encoded columns"),
    Column("crop_box", pa.list_(i32, 4), "x, y, width, height of the crop in the displayed source frame, pixels"),
    Column("source_width_px", i32, "width of the displayed source frame"),
    Column("source_height_px", i32, "height of the displayed source frame"),
    Column("num_tail_frames_unused", i32, "frames of the clip that no window covers (same in each window of the clip)"),
    Column(
        "psnr_db", pa.list_(f32), "PSNR of the decoded window after each scale, coarse to fine, dB; null if not decoded"
    ),
)

CROP_COLUMNS = (
    Column("crop_scale", f32, "source pixels per pixel of the crop along a side; 1 is native"),
    Column("crop_kind", s, "detail (one of the window's most detailed native tiles) or uniform (any place, any scale)"),
    Column("crop_detail", f32, "mean gradient of luma in the crop's first frame, levels of 255 per pixel of the crop"),
    Column("crop_seed", i64, "seed of the draw of places and scales"),
)
"""Columns that shards of crops (`InputRule.fit` = `crops`) have after SHARD_KEYS."""
