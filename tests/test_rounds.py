# SPDX-License-Identifier: Apache-2.0
"""Rounds: accounting of rows, blocks, and the same rows with and without Ray."""

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

from pipelines.ledger import Ledger
from pipelines.rounds import Budget, Round, StageJob, finish_units, pending_units, run_in_process, unit_blocks
from pipelines.run import cluster, run_on_ray
from reelmill.storage import Store
from tests.toy_operators import COLUMNS, Double

N = 20


def make_round(root, operator, strict=False, num_units=2):
    job = StageJob("double", operator, COLUMNS, Ledger(Store(root), "doubles", ("clip_id",), "fp"), strict)
    tables = {
        unit: pa.table(
            {"clip_id": [f"c{i:03d}" for i in range(unit, N, num_units)], "value": list(range(unit, N, num_units))}
        )
        for unit in range(num_units)
    }
    return Round(job=job, units=list(tables), rows=tables.__getitem__, input_hash=lambda unit: f"input{unit}")


def blocks_of(round_, budget):
    return [block for unit in pending_units(round_, budget, True) for block in unit_blocks(round_, unit, budget, {})]


def committed_rows(round_):
    return [row for unit in round_.units for row in round_.job.ledger.read(unit).to_pylist()]


def test_every_row_is_committed_once_and_a_second_run_has_nothing_to_do(tmp_path):
    round_ = make_round(tmp_path, Double(refuse=(3,), break_on=(4,)))
    budget = Budget(block_rows=3)
    receipts = list(run_in_process(round_.job, blocks_of(round_, budget)))
    finish_units(round_, round_.units)
    rows = committed_rows(round_)
    assert sorted(row["value"] for row in rows) == list(range(N))
    assert {row["value"]: row["error_kind"] for row in rows if row["error_kind"]} == {3: "bad_input", 4: "internal"}
    assert all(row["double"] == 2 * row["value"] for row in rows if row["error_kind"] is None)
    assert "KeyError: 4" in next(row["error"] for row in rows if row["value"] == 4)
    assert sum(receipt.num_inputs for receipt in receipts) == N
    again = blocks_of(round_, Budget(max_attempts=3))
    assert [block.column("value").to_pylist() for block in again] == [[4]], "only our own bug is tried again"
    assert blocks_of(round_, Budget(max_attempts=0)) == []


def test_one_bad_row_costs_one_row_not_its_block(tmp_path):
    round_ = make_round(tmp_path, Double(break_on=(5,)), num_units=1)
    list(run_in_process(round_.job, blocks_of(round_, Budget(block_rows=100))))
    finish_units(round_, [0])
    assert [row["value"] for row in committed_rows(round_) if row["error_kind"]] == [5]


def test_strict_crashes_on_our_bug(tmp_path):
    round_ = make_round(tmp_path, Double(break_on=(4,)), strict=True)
    with pytest.raises(KeyError):
        list(run_in_process(round_.job, blocks_of(round_, Budget())))


def test_blocks_follow_from_the_work_list_not_from_what_is_done(tmp_path):
    round_ = make_round(tmp_path, Double(), num_units=1)
    budget = Budget(block_rows=4)
    before = blocks_of(round_, budget)
    list(run_in_process(round_.job, before[1:2]))
    after = blocks_of(round_, budget)
    assert [b.column("clip_id").to_pylist() for b in after] == [
        b.column("clip_id").to_pylist() for n, b in enumerate(before) if n != 1
    ]


def test_blocks_by_seconds(tmp_path):
    round_ = make_round(tmp_path, Double(), num_units=1)
    sizes = [block.num_rows for block in blocks_of(round_, Budget(block_s=2.0))]
    assert sizes == [2] * 10


def test_a_small_unit_gives_several_workers_something_to_do(tmp_path):
    round_ = make_round(tmp_path, Double(), num_units=1)
    assert [block.num_rows for block in blocks_of(round_, Budget())] == [2] * 10
    slow = dataclasses.replace(round_, seconds=lambda row: 12.0)
    assert [block.num_rows for block in blocks_of(slow, Budget())] == [2] * 10, "30 s at most"


def test_changed_input_makes_a_unit_pending_again(tmp_path):
    round_ = make_round(tmp_path, Double())
    list(run_in_process(round_.job, blocks_of(round_, Budget())))
    finish_units(round_, round_.units)
    assert pending_units(round_, Budget(), True) == []
    changed = Round(job=round_.job, units=round_.units, rows=round_.rows, input_hash=lambda unit: f"other{unit}")
    assert pending_units(changed, Budget(), True) == [0, 1]
    assert blocks_of(changed, Budget()) == [], "the ids are all committed, nothing is computed again"


@pytest.fixture(scope="module")
def ray_cluster():
    with cluster("local", 2, {}, print) as resources:
        yield resources


def test_ray_gives_the_same_rows(tmp_path, ray_cluster):
    assert ray_cluster["CPU"] >= 4
    one, two = (make_round(tmp_path / name, Double(refuse=(3,), break_on=(4,))) for name in ("here", "ray"))
    list(run_in_process(one.job, blocks_of(one, Budget())))
    list(run_on_ray(two.job, blocks_of(two, Budget(block_rows=3)), 2, print))
    for round_ in (one, two):
        finish_units(round_, round_.units)

    def values(round_):
        return [{**row, "error": bool(row["error"])} for row in committed_rows(round_)]

    assert values(one) == values(two)


def test_a_worker_that_dies_once_loses_nothing(tmp_path, ray_cluster):
    round_ = make_round(tmp_path / "set", Double(die_once=str(tmp_path)))
    list(run_on_ray(round_.job, blocks_of(round_, Budget(block_rows=3)), 2, print))
    finish_units(round_, round_.units)
    assert (tmp_path / "died").exists()
    assert sorted(row["double"] for row in committed_rows(round_)) == [2 * i for i in range(N)]


def test_a_row_that_always_kills_its_worker_becomes_one_error_row(tmp_path, ray_cluster):
    round_ = make_round(tmp_path, Double(die_on=(11,)))
    said = []
    list(run_on_ray(round_.job, blocks_of(round_, Budget(block_rows=3)), 2, said.append))
    finish_units(round_, round_.units)
    rows = committed_rows(round_)
    assert [(row["value"], row["error_kind"]) for row in rows if row["error_kind"]] == [(11, "resource")]
    assert sorted(row["double"] for row in rows if row["double"] is not None) == [2 * i for i in range(N) if i != 11]
    assert any("one by one" in line for line in said)


def test_strict_on_ray_raises(tmp_path, ray_cluster):
    round_ = make_round(tmp_path, Double(break_on=(4,)), strict=True)
    with pytest.raises(Exception, match="KeyError"):
        list(run_on_ray(round_.job, blocks_of(round_, Budget(block_rows=3)), 2, print))


def test_a_ray_that_does_not_start_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def busy(**options: Any) -> None:
        raise Exception("The current node timed out during startup.")  # as ray raises it

    monkeypatch.setattr(ray, "init", busy)
    with (
        pytest.raises(ValueError, match=r"Ray did not start on this machine: .* timed out .* --address in-process"),
        cluster("local", 1, {}, print),
    ):
        raise AssertionError("not reached")


def test_no_one_answers_at_an_address() -> None:
    with pytest.raises(ValueError, match="nothing answers there"), cluster("127.0.0.1:9", 1, {}, print):
        raise AssertionError("not reached")
