# SPDX-License-Identifier: Apache-2.0
"""The dedup barrier: which of several near clips is kept, on which side of the split it falls, and through the mill."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from benchmarks.ladders.copies import remux
from operators.cut import SplitConfig
from pipelines.dedup import Dedup, find_duplicates, source_groups
from pipelines.mill import Mill, Options
from pipelines.plan import PlanError, build_plan, check
from pipelines.progress import RunProgress
from pipelines.recipe import load_recipe
from pipelines.recipe_text import build
from pipelines.rules import Rule
from pipelines.select import decide
from tests.videos import write_video


def clips(*rows: tuple[str, Sequence[float] | None, int]) -> pa.Table:
    """(source, embedding, height) per clip; clip ids are c0, c1 ..."""
    return pa.table(
        {
            "clip_id": [f"c{i}" for i in range(len(rows))],
            "source_id": [row[0] for row in rows],
            "embedding": pa.array([row[1] for row in rows], pa.list_(pa.float32())),
            "short_side_px": [row[2] for row in rows],
        }
    )


SETTINGS = Dedup(threshold=0.95, keep=("short_side_px",), num_clusters=1)


def test_the_largest_is_kept_and_the_others_point_to_it() -> None:
    table = find_duplicates(
        clips(("a", [1, 0], 720), ("b", [1, 0.1], 2160), ("c", [0, 1], 720), ("d", None, 2160), ("e", [1, 0.12], 1080)),
        SETTINGS,
    )
    found = {row["clip_id"]: row for row in table.to_pylist()}
    assert [found[c]["is_duplicate"] for c in ("c0", "c1", "c2", "c3", "c4")] == [True, False, False, None, True]
    assert (found["c0"]["duplicate_of"], found["c1"]["duplicate_of"], found["c1"]["num_duplicates"]) == ("c1", None, 2)
    assert found["c0"]["duplicate_cosine"] == pytest.approx(1 / np.hypot(1, 0.1))
    assert (found["c0"]["cluster_size"], found["c2"]["cluster_size"], found["c3"]["cluster_size"]) == (2, 2, None)
    assert [found[c]["split_group"] for c in ("c0", "c1", "c4", "c2", "c3")] == ["a", "a", "a", "c", "d"]


def test_a_sign_turns_the_preference_and_ties_go_to_the_id() -> None:
    rows = (("a", [1, 0], 720), ("b", [1, 0], 2160), ("c", [1, 0], 720))
    smaller = find_duplicates(clips(*rows), Dedup(keep=("-short_side_px",), num_clusters=1))
    assert smaller["duplicate_of"].to_pylist() == [None, "c0", "c0"]


def test_sources_are_connected_through_others() -> None:
    assert source_groups(["d", "b", "c", "a", "e"], [(0, 1), (1, 2)]) == ["b", "b", "b", "a", "e"]


def test_near_duplicates_share_a_side_of_the_split() -> None:
    sources = [f"{i:032x}" for i in range(60)]
    rows = pl.DataFrame({"clip_id": [f"c{i}" for i in range(60)], "source_id": sources})
    apart = decide(rows, [], gate="dedup", split=SplitConfig(val_fraction=0.5)).get_column("split").to_list()
    joined = decide(
        rows.with_columns(split_group=pl.lit(sources[7])), [], gate="dedup", split=SplitConfig(val_fraction=0.5)
    )
    assert set(apart) == {"train", "val"}
    assert joined.get_column("split").n_unique() == 1


def test_balance_keeps_the_square_root_of_a_large_cluster() -> None:
    num = 4000
    vectors = np.random.default_rng(0).standard_normal((num, 64)).astype(np.float32)
    table = find_duplicates(clips(*(("a", list(vector), 1) for vector in vectors)), SETTINGS)
    rule = build(Rule, {"name": "balance", "column": "cluster_draw", "max": 100, "gate": "dedup"}, "rule")
    kept = decide(pl.DataFrame(pl.from_arrow(table)), [rule], gate="dedup").filter(pl.col("tier") == "train").height
    assert kept == pytest.approx(num * np.sqrt(100 / num), rel=0.12)


def test_embeddings_of_two_models_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="embeddings have 2 and 3 numbers: two models are mixed"):
        find_duplicates(clips(("a", [1, 0], 1), ("b", [1, 0, 0], 1)), SETTINGS)


def test_the_strongest_evidence_is_named_and_a_bit_stream_needs_no_embedding() -> None:
    """c0 is c1's bit stream and meaning, c2 near it in meaning, c3 has neither."""
    table = clips(("a", [1, 0], 720), ("b", [1, 0], 2160), ("c", [1, 0.1], 720), ("d", None, 1), ("e", None, 2))
    table = table.append_column("packet_hash", pa.array(["x", "x", "y", None, "z"]))
    rows = find_duplicates(table, SETTINGS).to_pylist()
    assert [row["duplicate_kind"] for row in rows] == ["exact", None, "semantic", None, None]
    assert [row["is_duplicate"] for row in rows] == [True, False, True, None, False]
    assert rows[0]["duplicate_cosine"] == pytest.approx(1)
    assert rows[4]["cluster_id"] is None
    only = find_duplicates(table.drop_columns(["embedding"]), SETTINGS).to_pylist()
    assert [row["duplicate_of"] for row in only] == ["c1", None, None, None, None]


def test_check_says_what_dedup_lacks() -> None:
    check(build_plan(load_recipe("quickstart", ["dedup={threshold: 0.9}"])))  # bit streams are compared
    model = "models=[{op: embedding, backend: transformers, model: x}]"
    with pytest.raises(PlanError, match=r"dedup.keep: there is no column 'short_sid_px'; did you mean 'short_side_px'"):
        check(build_plan(load_recipe("quickstart", [model, "dedup={keep: [short_sid_px]}"])))


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    still = np.kron(rng.integers(30, 225, (6, 12, 3)), np.ones((30, 40, 1))).astype(np.uint8)
    return np.stack([still[:, 2 * t : 2 * t + 320] for t in range(24)])


def tiny_clip(folder: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    shape: Any = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPVisionConfig(**shape, image_size=32, patch_size=16, projection_dim=8)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def test_copies_are_found_across_units_and_runs(tmp_path: Path) -> None:
    """A copy in another container is dropped, the split follows the group, and a second run does nothing."""
    footage = tmp_path / "footage"
    footage.mkdir()
    for name, seed in (("one.mp4", 1), ("two.mp4", 2)):
        write_video(footage / name, texture(seed), fps=24)
    tiny_clip(tmp_path / "clip")

    def mill(*overrides: str) -> Mill:
        settings = [
            "tokens=[]",
            f"models=[{{op: embedding, backend: transformers, model: {tmp_path / 'clip'}}}]",
            "dedup={threshold: 0.999999, keep: [duration_s]}",
            "rules=[{name: duplicates, column: is_duplicate, in: [false], gate: dedup}]",
            *overrides,
        ]
        plan = build_plan(load_recipe("quickstart", settings))
        check(plan)
        options = Options(input=str(footage), out=str(tmp_path / "set"), address="in-process", strict=True)
        run = Mill(plan, options, RunProgress())
        run.run()
        return run

    first = mill()
    assert first.selection.read(0)["tier"].to_pylist() == ["train", "train"]
    remux(footage / "one.mp4", footage / "copy.mkv")
    second = mill()
    rows = {row["clip_id"]: row for row in second.duplicates.read(0).to_pylist()}
    assert sorted(row["is_duplicate"] for row in rows.values()) == [False, False, True]
    assert {row["duplicate_kind"] for row in rows.values()} == {None, "exact"}
    selection = second.selection.read(0).to_pylist()
    [dropped] = [row for row in selection if row["tier"] == "reject"]
    assert dropped["reasons"][0]["rule"] == "duplicates"
    kept = rows[dropped["clip_id"]]["duplicate_of"]
    assert {row["split"] for row in selection if row["clip_id"] in (kept, dropped["clip_id"])} == {
        next(row["split"] for row in selection if row["clip_id"] == kept)
    }
    assert second.captions.read(0).num_rows == 2
    assert not mill().did_work
    looser = mill("rules=[]")
    assert looser.captions.read(0).num_rows == 3
