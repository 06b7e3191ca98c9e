# SPDX-License-Identifier: Apache-2.0
"""Reading shards: joins, order, exactly once, resume."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reelmill.captions import MAIN_TEXTS, Captions
from reelmill.mixed import MixedDataset
from reelmill.row_groups import Cache
from reelmill.sampling import Shuffle
from reelmill.shards import ShardDataset
from reelmill.storage import Store
from reelmill.tokens import unpack
from tests.token_sets import SPEC, clip_rows, selection_rows, token_rows, write_set

ROOT = Path(__file__).parent.parent
Key = tuple[str, int, str]
MEASURED = Captions(grounding=("measured",))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("set")
    write_set(path)
    return str(path)


def keys_of(batch: dict[str, Any]) -> list[Key]:
    """Of the samples that are no repeats."""
    rows = zip(batch["clip_id"], batch["window_index"], batch["is_repeat"], strict=True)
    return [(clip, window, batch["bucket"]) for clip, window, is_repeat in rows if not is_repeat]


def wanted_keys(split: str | None = "train", tiers: tuple[str, ...] = ("train",)) -> Counter[Key]:
    keys: Counter[Key] = Counter()
    for unit in range(2):
        rows = [r for r in selection_rows(clip_rows(unit, 4, 3)) if r["clip_id"]]
        for row in rows:
            if row["tier"] in tiers and split in (None, row["split"]):
                keys.update((row["clip_id"], w, f"5x{h}x{x}") for w in range(2) for h, x in ((64, 64), (128, 96)))
    return keys


def test_tokens_are_those_that_were_packed(root: str) -> None:
    dataset = ShardDataset(root, split=None, tiers=("train", "condition_only", "reject"))
    rows = {
        (r["clip_id"], r["window_index"], r["bucket"]): r
        for u in range(2)
        for r in token_rows(clip_rows(u, 4, 3)).to_pylist()
    }
    seen = 0
    for batch in dataset.batches(5):
        for i, key in enumerate(keys_of(batch)):
            for stream, k in SPEC.columns():
                name = stream.column(k)
                np.testing.assert_array_equal(
                    batch[name][i], unpack(stream, k, rows[key][name], rows[key][f"grid_pixel_s{k}"])
                )
            assert batch["frame_pts"][i] == rows[key]["frame_pts"]
            assert batch["cond"]["effective_fps"][i] == 30.0
            seen += 1
    assert seen == len(rows) == len(dataset)


@pytest.mark.parametrize(
    ("split", "tiers"), [("train", ("train",)), ("val", ("train",)), (None, ("train", "condition_only"))]
)
def test_split_and_tiers_come_from_the_selection(root: str, split: str | None, tiers: tuple[str, ...]) -> None:
    dataset = ShardDataset(root, split=split, tiers=tiers)
    assert Counter(k for b in dataset.batches(3) for k in keys_of(b)) == wanted_keys(split, tiers)
    assert sum(dataset.bucket_sizes.values()) == len(dataset)


def test_joined_columns_and_conditions(root: str) -> None:
    everything = ShardDataset(root, split=None, columns=("motion_speed", "relpath", "shot_index"))
    few = ShardDataset(
        root, split=None, columns=("motion_speed",), where=[("motion_speed", ">=", 0.5), ("width_px", "=", 200)]
    )
    values = [v for b in few.batches(4) for v in b["cond"]["motion_speed"]]
    assert values
    assert min(values) >= 0.5
    assert len(values) == sum(v >= 0.5 for b in everything.batches(4) for v in b["cond"]["motion_speed"])
    sample = everything[0]
    assert sample["cond"]["relpath"] == f"{sample['source_id']}.mp4"
    assert isinstance(sample["cond"]["shot_index"], int)
    with pytest.raises(ValueError, match="has the column 'no_such'"):
        ShardDataset(root, where=[("no_such", ">", 1)])


def test_the_narrowest_covering_caption_is_chosen(root: str) -> None:
    dataset = ShardDataset(root, split=None, captions=MEASURED)
    for sample in (dataset[i] for i in range(0, len(dataset), 3)):
        text = sample["texts"]
        wanted = "second half" if sample["window_index"] == 1 else "whole"
        assert text["Brief Description"] == f"{wanted} of {sample['clip_id']}"
        assert text["caption_coverage"] == 1.0
        assert text["captioner_id"] == "c0"
    with pytest.raises(ValueError, match="no captioner 'c9'"):
        ShardDataset(root, captions=Captions(captioner="c9"))[0]


def test_fewer_scales_and_buckets(root: str) -> None:
    dataset = ShardDataset(root, scales=1, buckets=("5x64x64",), split=None)
    batch = next(dataset.batches(2))
    assert [name for name in batch if name.startswith("tokens_")] == ["tokens_pixel_s0"]
    assert batch["tokens_pixel_s0"].shape == (2, 2, 2, 2)
    assert batch["tokens_pixel_s0"].dtype == np.uint8
    assert set(dataset.bucket_sizes) == {"5x64x64"}


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("workers", [1, 2])
def test_exactly_once(root: str, world: int, workers: int) -> None:
    seen: Counter[Key] = Counter()
    for rank in range(world):
        for worker in range(workers):
            dataset = ShardDataset(root, rank=rank, world=world)
            seen.update(k for batch in dataset.batches(2, worker=worker, num_workers=workers) for k in keys_of(batch))
    assert seen == wanted_keys()


@pytest.mark.parametrize(("world", "workers"), [(1, 2), (1, 0), (2, 2), (3, 0), (8, 0)])
def test_exactly_once_through_pytorch(root: str, world: int, workers: int) -> None:
    """Whatever the ranks, each sees the same number of batches, of the same bucket at the same step."""
    seen: Counter[Key] = Counter()
    steps = set()
    for rank in range(world):
        loader = ShardDataset(root, rank=rank, world=world).loader(2, num_workers=workers)
        batches = list(loader)
        seen.update(k for batch in batches for k in keys_of(batch))
        steps.add(tuple((batch["step"], batch["bucket"]) for batch in batches))
        assert loader.state_dict()["epoch"] == 1
    assert seen == wanted_keys()
    assert len(steps) == 1


def test_tensors(root: str) -> None:
    import torch

    batch = next(iter(ShardDataset(root).loader(2)))
    assert batch["tokens_pixel_s0"].dtype == torch.uint8
    assert batch["tokens_pixel_s1"].dtype == torch.int64


def test_the_order_does_not_depend_on_ranks_or_workers(root: str) -> None:
    alone = [(b["step"], sorted(keys_of(b))) for b in ShardDataset(root).batches(4)]
    ranks = [{b["step"]: keys_of(b) for b in ShardDataset(root, rank=r, world=2).batches(2)} for r in range(2)]
    together = [(step, sorted(ranks[0].get(step, []) + ranks[1].get(step, []))) for step, _ in alone]
    assert together == alone
    with_workers = [(b["step"], sorted(keys_of(b))) for b in ShardDataset(root).loader(4, num_workers=2)]
    assert with_workers == alone


def test_epochs_and_seeds_differ_and_repeat(root: str) -> None:
    dataset = ShardDataset(root)
    epochs = [[keys_of(b) for b in dataset.batches(4)] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert [keys_of(b) for b in ShardDataset(root).batches(4)] == epochs[0]
    assert [keys_of(b) for b in ShardDataset(root, shuffle=Shuffle(seed=1)).batches(4)] != epochs[0]
    ordered = [b for b in ShardDataset(root, shuffle=Shuffle(is_on=False)).batches(1)]
    assert [b["bucket"] for b in ordered] == sorted(b["bucket"] for b in ordered)


def test_batches_hold_one_bucket_and_ranks_agree_on_it(root: str) -> None:
    steps = [
        [(b["step"], b["bucket"]) for b in ShardDataset(root, rank=r, world=2).batches(2, drop_last=True)]
        for r in range(2)
    ]
    assert steps[0] == steps[1]
    assert len({bucket for _, bucket in steps[0]}) == 2
    assert all(len(b["clip_id"]) == 2 for b in ShardDataset(root, rank=1, world=2).batches(2, drop_last=True))


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_resume_goes_on_where_the_epoch_was_left(root: str, stop: int) -> None:
    whole = [keys_of(b) for b in ShardDataset(root).batches(3)]
    dataset = ShardDataset(root)
    batches = dataset.batches(3)
    head = [keys_of(next(batches)) for _ in range(stop)]
    state = json.loads(json.dumps(dataset.state_dict()))
    fresh = ShardDataset(root)
    fresh.load_state_dict(state)
    assert head + [keys_of(b) for b in fresh.batches(3)] == whole
    assert fresh.state_dict()["epoch"] == 1


@pytest.mark.parametrize("world", [1, 2, 3])
def test_resume_under_another_world_size_leaves_the_same_samples(root: str, world: int) -> None:
    whole = wanted_keys()
    ranks = [ShardDataset(root, rank=r, world=2) for r in range(2)]
    seen: Counter[Key] = Counter()
    for dataset in ranks:
        seen.update(k for batch in dataset.batches(2) if batch["step"] < 3 for k in keys_of(batch))
    first = ShardDataset(root, rank=0, world=2)
    for batch in first.batches(2):
        if batch["step"] == 2:
            break
    state = first.state_dict()
    rest: Counter[Key] = Counter()
    for rank in range(world):
        dataset = ShardDataset(root, rank=rank, world=world)
        dataset.load_state_dict(state)
        rest.update(k for b in dataset.batches(3) for k in keys_of(b))
    assert seen + rest == whole


def test_loader_position_is_what_was_taken(root: str) -> None:
    whole = [keys_of(b) for b in ShardDataset(root).loader(3)]
    loader = ShardDataset(root).loader(3, num_workers=2)
    head = []
    for batch in loader:
        head.append(keys_of(batch))
        if len(head) == 4:
            break
    state = loader.state_dict()
    again = ShardDataset(root).loader(3, num_workers=2)
    again.load_state_dict(state)
    assert head + [keys_of(b) for b in again] == whole


def test_a_state_of_another_order_is_refused(root: str) -> None:
    state = ShardDataset(root).state_dict()
    with pytest.raises(ValueError, match="does not fit this data set's order"):
        ShardDataset(root, shuffle=Shuffle(seed=5)).load_state_dict(state)
    ShardDataset(root, scales=1).load_state_dict(state)  # a curriculum over scales keeps the order


def test_only_the_wanted_bytes_are_read(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    columns: list[list[str]] = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, i, names, **k: columns.append(names) or real(self, i, names, **k)
    )
    dataset = ShardDataset(root, scales=2)
    list(dataset.batches(4))
    assert {n for names in columns for n in names if n.startswith("tokens")} == {"tokens_pixel_s0", "tokens_pixel_s1"}
    assert len(columns) == len(
        {(e["path"], g) for e in dataset.files for g in range(len(e["row_groups"]))}
        & {(dataset.files[f]["path"], int(g)) for f, g in zip(dataset.index.file, dataset.index.group, strict=True)}
    )


@pytest.mark.parametrize("world", [1, 3])
def test_token_budget(root: str, world: int) -> None:
    """5x64x64 has 2 * (4 + 16 + 64) tokens, 5x128x96 2 * (12 + 48 + 192)."""
    batches = list(ShardDataset(root, world=world).batches(batch_tokens=700, drop_last=True))
    assert {(b["bucket"], len(b["clip_id"])) for b in batches} == {("5x64x64", 4), ("5x128x96", 1)}
    one_lane = Shuffle(lanes=1)  # a lane of so small a set holds less than a step of three ranks
    coarse = list(ShardDataset(root, world=world, scales=1, shuffle=one_lane).batches(batch_tokens=48, drop_last=True))
    assert {(b["bucket"], len(b["clip_id"])) for b in coarse} == {("5x64x64", 6), ("5x128x96", 2)}
    with pytest.raises(ValueError, match="give one of the two"):
        next(ShardDataset(root).batches(2, batch_tokens=9))


def test_mix_gives_values_their_share_of_every_epoch(root: str) -> None:
    dataset = ShardDataset(root, columns=("topic",), mix={"topic": {"city": 3, "nature": 1}})
    total: Counter[Key] = Counter()
    for _ in range(4):
        topics: Counter[str] = Counter()
        for batch in dataset.batches(4):
            topics.update(batch["cond"]["topic"])
            total.update(keys_of(batch))
        assert sum(topics.values()) == pytest.approx(len(dataset), abs=2)
        assert topics["city"] / len(dataset) == pytest.approx(0.75, abs=0.03)
    of_city = [n for key, n in total.items() if key in {k for b in city(root).batches(9) for k in keys_of(b)}]
    assert max(of_city) - min(of_city) <= 1, "in the long run equally often"
    only = ShardDataset(root, columns=("topic",), mix={"topic": {"city": 1}})
    assert {sample["cond"]["topic"] for sample in only} == {"city"}
    with pytest.raises(ValueError, match=r"mix\.topic: no sample of 'sea'"):
        ShardDataset(root, mix={"topic": {"city": 1, "sea": 1}})


def city(root: str) -> ShardDataset:
    return ShardDataset(root, where=[("topic", "=", "city")])


def test_a_mix_of_data_sets(root: str, tmp_path: Path) -> None:
    write_set(tmp_path, units=1)
    parts = {"here": ShardDataset(root), "there": ShardDataset(str(tmp_path), columns=("topic",))}
    alone = Counter(k for part in parts.values() for b in part.batches(3) for k in keys_of(b))
    for world in (1, 2):
        ranks = [MixedDataset(parts, rank=rank, world=world) for rank in range(world)]
        assert Counter(k for rank in ranks for b in rank.batches(3) for k in keys_of(b)) == alone
    mixed = MixedDataset(parts, mix={"here": 1, "there": 1})
    batches = list(mixed.batches(6))
    names = Counter(name for b in batches for name in b["part"])
    assert names["here"] == pytest.approx(names["there"], abs=2)
    assert any(len(set(b["part"])) == 2 for b in batches), "parts of one spec share batches"
    state = json.loads(json.dumps(next(iter(mixed.batches(2)))["position"].to_state(mixed.view_hash)))
    again = MixedDataset(parts, mix={"here": 1, "there": 1})
    again.load_state_dict(state)
    assert sum(len(b["clip_id"]) for b in again.batches(5)) == sum(len(b["clip_id"]) for b in batches) - 2
    with pytest.raises(ValueError, match="no part 'hear'"):
        MixedDataset(parts, mix={"hear": 1})


def test_schedule(root: str) -> None:
    """Scales change at their very step; a new mix begins a new epoch."""
    schedule = {0: {"scales": 1}, 2: {"scales": 2}, 5: {"mix": {"topic": {"city": 1}}}}
    dataset = ShardDataset(root, columns=("topic",), schedule=schedule)
    first, second = (list(dataset.batches(3)) for _ in range(2))
    assert [sum(name.startswith("tokens_") for name in b) for b in first] == [1, 1, 2, 2, 2]
    assert {topic for b in second for topic in b["cond"]["topic"]} == {"city"}
    assert second[0]["global_step"] == 5
    loader = ShardDataset(root, columns=("topic",), schedule=schedule).loader(3, num_workers=2)
    assert [[keys_of(b) for b in loader] for _ in range(2)] == [[keys_of(b) for b in e] for e in (first, second)]
    with pytest.raises(ValueError, match="unknown key 'scale'"):
        ShardDataset(root, schedule={0: {"scale": 1}})


def test_where_on_shard_columns_and_percentiles(root: str) -> None:
    where = [("window_index", "=", 1), ("in_h", ">", 64), ("topic", "=", "nature")]
    dataset = ShardDataset(root, where=where, split=None, percentiles=("motion_speed",), columns=("motion_speed",))
    batches = list(dataset.batches(4))
    assert {b["bucket"] for b in batches} == {"5x128x96"}
    assert {w for b in batches for w in b["window_index"]} == {1}
    speeds, ranks = ([v for b in batches for v in b["cond"][n]] for n in ("motion_speed", "motion_speed_percentile"))
    assert np.argsort(speeds).tolist() == np.argsort(ranks).tolist()
    assert 0 < min(ranks) < max(ranks) < 1
    with pytest.raises(ValueError, match="did you mean 'motion_speed'"):
        ShardDataset(root, where=[("motion_sped", ">", 0)])


def test_caption_policy(root: str) -> None:
    assert {t for b in ShardDataset(root).batches(8) for t in b["texts"]} == {None}, "measured texts only on request"
    dataset = ShardDataset(root, captions=MEASURED)
    epochs = [list(dataset.batches(8)) for _ in range(3)]
    fields = Counter(f for batches in epochs for b in batches for f in b["caption_fields"])
    batch = epochs[0][0]
    assert set(MAIN_TEXTS) <= {f[0] for f in fields}
    assert all(len(f) == 2 and f[1] not in MAIN_TEXTS for f in fields)
    texts, names = batch["texts"][0], batch["caption_fields"][0]
    assert batch["caption"][0] == " ".join(texts[name] for name in names)
    half = next(ShardDataset(root, captions=MEASURED, world=2, rank=0).batches(4))
    said, of_half = (dict(zip(b["clip_id"], b["caption"], strict=True)) for b in (batch, half))
    assert of_half.items() <= said.items()


def test_a_flipped_sample_is_told_so(tmp_path: Path) -> None:
    from reelmill.mirror import mirrored, mirrored_value

    assert mirrored("A car turns Left, rightmost. It spins clockwise.") == (
        "A car turns Right, leftmost. It spins counterclockwise."
    )
    assert mirrored("He has left the house. A dog runs to the right.") == "A dog runs to the left."
    assert mirrored("The sign reads LEFT.") is None
    assert mirrored_value("camera_pan_median", 0.5) == -0.5
    assert mirrored_value("camera_class", "pan_left") == "pan_right"
    moves = ["pan_left", "zoom_in", "move_right"]
    assert mirrored_value("camera_movements", moves) == ["pan_right", "zoom_in", "move_left"]
    assert mirrored_value("camera_pan_spread", 0.5) == 0.5


def test_two_workers_do_not_read_the_same_row_groups(tmp_path: Path) -> None:
    write_set(tmp_path, units=2, sources=12, group_bytes=1500, max_mb=1)
    shuffle = Shuffle(open_groups=4, lanes=2)
    read = []
    for worker in range(2):
        dataset = ShardDataset(str(tmp_path), split=None, shuffle=shuffle)
        list(dataset.batches(3, worker=worker, num_workers=2))
        read.append(dataset.num_bytes_read)
    alone = ShardDataset(str(tmp_path), split=None, shuffle=shuffle)
    list(alone.batches(3))
    assert sum(read) <= 1.2 * alone.num_bytes_read


def test_row_groups_are_kept_on_disk(root: str, tmp_path: Path) -> None:
    cache = Cache(folder=str(tmp_path / "cache"))
    first, second = (ShardDataset(root, cache=cache) for _ in range(2))
    expected = [b["tokens_pixel_s2"] for b in first.batches(4)]
    found = [b["tokens_pixel_s2"] for b in second.batches(4)]
    assert all((a == b).all() for a, b in zip(expected, found, strict=True))
    assert first.num_bytes_read > 0 == second.num_bytes_read
    list(ShardDataset(root, scales=1, cache=Cache(folder=str(tmp_path / "cache"), folder_bytes=9000)).batches(4))
    assert sum(f.stat().st_size for f in (tmp_path / "cache").iterdir()) <= 9000


def test_several_specs_must_be_named(root: str) -> None:
    with pytest.raises(ValueError, match="name one of them, not 'nope'"):
        ShardDataset(root, spec="nope")
    with pytest.raises(ValueError, match="no view has been written"):
        ShardDataset(str(ROOT / "tests"))


@pytest.mark.parametrize("fault", ["none", "bytes", "missing"])
def test_verify_finds_damage(tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    from reelmill.__main__ import main

    write_set(tmp_path, units=1)
    file = next((tmp_path / "shards").rglob("*.parquet"))
    if fault == "bytes":
        data = bytearray(file.read_bytes())
        data[100] ^= 1
        file.write_bytes(data)
    elif fault == "missing":
        file.unlink()
    assert main(["verify", str(tmp_path)]) == int(fault != "none")
    said = capsys.readouterr().out
    assert {"none": "as the view says", "bytes": "sha256 differs", "missing": f"{file.name}: missing"}[fault] in said
    assert main(["info", str(tmp_path)]) == 0
    assert "tokens_pixel_s2: ids, uint16, vocabulary 4000" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "nothing")]) == 2


def test_verify_finds_ids_outside_the_vocabulary(tmp_path: Path) -> None:
    import io

    import pyarrow.parquet as pq

    from pipelines.views import write_view
    from reelmill.inspection import verify_view
    from reelmill.views import View

    manifest = write_set(tmp_path, units=1, max_mb=10)
    path = next((tmp_path / "shards").rglob("*.parquet"))
    table = pq.read_table(path)
    at = table.schema.get_field_index("tokens_pixel_s0")
    loud = [b"\xff" * len(v.as_buffer()) for v in table.column(at)]
    sink = io.BytesIO()
    pq.write_table(
        table.set_column(at, table.schema.field(at), pa.array(loud, pa.large_binary())),
        sink,
        row_group_size=table.num_rows,
    )
    path.write_bytes(sink.getvalue())
    write_view(Store(tmp_path), manifest)
    faults = verify_view(View.load(str(tmp_path)))
    assert any("id 255, the vocabulary has 200" in fault for fault in faults)


def test_export_has_ultravideos_columns(root: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from reelmill.__main__ import main

    assert main(["export", root, str(tmp_path / "all.parquet")]) == 0
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.schema.names[:24] == [
        "clip_id",
        "url",
        "frame_width",
        "frame_height",
        "fps",
        "start_frame",
        "end_frame",
        "total_frames",
        "start_time",
        "end_time",
        "duration",
        "vtss_score",
        "motion_score",
        "video_clip_score",
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
    ]
    assert table["vtss_score"].null_count == table.num_rows, "the data set has no such score"
    assert set(table["video_clip_score"].to_pylist()) == {0.25}
    assert "motion_speed" in table.schema.names
    kept = [r for u in range(2) for r in selection_rows(clip_rows(u, 4, 3)) if r["clip_id"] and r["tier"] != "reject"]
    assert sorted(table["clip_id"].to_pylist()) == sorted(r["clip_id"] for r in kept)
    row = table.to_pylist()[0]
    assert row["end_frame"] - row["start_frame"] == row["total_frames"] == 10
    assert row["Brief Description"].endswith(row["clip_id"])
    assert table.schema.names[24:29] == ["shot_scale", "camera_movements", "time_of_day", "setting", "medium"]
    assert (row["shot_scale"], row["camera_movements"], row["medium"]) == ("wide", ["pan_left", "zoom_in"], None)


BLOCKED = (
    "torch",
    "av",
    "cv2",
    "ray",
    "polars",
    "transformers",
    "s3fs",
    "PIL",
    "safetensors",
    "operators",
    "pipelines",
    "tokenization",
)


def test_reading_needs_only_numpy_and_pyarrow(root: str) -> None:
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError(f"blocked: {{name}}")
sys.meta_path.insert(0, Block())
import pkgutil, importlib, reelmill
for module in pkgutil.iter_modules(reelmill.__path__):
    if module.name not in ("torch_data", "__main__"):
        importlib.import_module(f"reelmill.{{module.name}}")
from reelmill.captions import MAIN_TEXTS, Captions
from reelmill.mixed import MixedDataset
from reelmill.row_groups import Cache
from reelmill.sampling import Shuffle
from reelmill.shards import ShardDataset
batch = next(ShardDataset({root!r}).batches(2))
print(batch["tokens_pixel_s0"].shape[0])
from reelmill.__main__ import main
main(["verify", {root!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2\n")
    assert "as the view says" in done.stdout


def test_reading_from_s3(root: str, s3_bucket: str) -> None:
    from reelmill.inspection import verify_view
    from reelmill.views import View

    here, there = Path(root), Store(f"{s3_bucket}/set")
    for path in here.rglob("*"):
        if path.is_file():
            there.write_bytes(path.relative_to(here).as_posix(), path.read_bytes())
    local, remote = ShardDataset(root, scales=1), ShardDataset(there.root, scales=1)
    assert remote.view_hash == local.view_hash
    assert [keys_of(b) for b in remote.batches(8)] == [keys_of(b) for b in local.batches(8)]
    assert verify_view(View.load(there.root)) == []
