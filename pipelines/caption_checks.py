# SPDX-License-Identifier: Apache-2.0
"""Checks of the captions there are, after the caption round: two tables beside them, at gate `captions`.

They are apart from the captions, so that a changed check costs no caption. What is done about a flag is a rule:

    - {name: contradiction, column: caption_num_contradictions, max: 0, on_null: keep, gate: captions}
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from captioning.checks.table import ALIKE, CAPTION_CHECKS, CAPTION_TWINS, FACTS, check_caption
from captioning.checks.twins import twins
from pipelines.ledger import Ledger
from pipelines.rounds import files_hash
from pipelines.unit_tasks import SelectUnit
from reelmill.column import arrow_schema


@dataclass(frozen=True)
class CheckUnit:
    """The checks of a unit's captions, each by itself, against what was measured of the clip.

    Args:
        captions: what is checked.
        known: says what was measured, up to gate `dedup`.
        checks: where to write.
    """

    captions: Ledger
    known: SelectUnit
    checks: Ledger

    def __call__(self, unit: int) -> int:
        """Writes the unit's checks if captions or measurements changed; returns the number of rows written."""
        if self.captions.stamp(unit) is None:
            return 0
        input_hash = files_hash(self.captions.content(unit), *self.known.measured_content(unit))
        stamp = self.checks.stamp(unit)
        if stamp is not None and stamp.input == input_hash:
            return 0
        facts = self.known.facts(unit, FACTS)
        rows = [
            {"clip_id": row["clip_id"], "source_id": row["source_id"], **check_caption(row, facts[row["clip_id"]])}
            for row in self.captions.read(unit).to_pylist()
        ]
        self.checks.write_unit(unit, pa.Table.from_pylist(rows, schema=arrow_schema(CAPTION_CHECKS)), input_hash)
        return len(rows)


@dataclass(frozen=True)
class FindTwins:
    """Captions that are nearly the same over the whole data set: a barrier, done again when any unit's checks changed.

    Holds about 0.5 KB per caption.
    """

    checks: Ledger
    twins: Ledger

    def __call__(self, units: Sequence[int]) -> int:
        """Returns the number of rows written."""
        units = [unit for unit in units if self.checks.stamp(unit) is not None]
        input_hash = files_hash(*(self.checks.content(unit) for unit in units))
        stamps = [self.twins.stamp(unit) for unit in units]
        if all(stamp is not None and stamp.input == input_hash for stamp in stamps):
            return 0
        parts = [self.checks.read(unit, ["clip_id", "source_id", "caption_sketch"]) for unit in units]
        found = find_twins(pa.concat_tables(parts))
        start = 0
        for unit, part in zip(units, parts, strict=True):
            self.twins.write_unit(unit, found.slice(start, part.num_rows).combine_chunks(), input_hash)
            start += part.num_rows
        return found.num_rows


def find_twins(checks: pa.Table) -> pa.Table:
    """A row of CAPTION_TWINS per row of `checks` (clip_id, source_id, caption_sketch), in the same order."""
    ids, sources, sketches = (checks[name].to_pylist() for name in ("clip_id", "source_id", "caption_sketch"))
    rows = [
        {
            "clip_id": clip_id,
            "source_id": source_id,
            "caption_twin": None if twin is None else ids[twin.row],
            "caption_twin_similarity": None if twin is None else twin.similarity,
            "caption_is_rote": None if sketch is None else twin is not None and twin.similarity >= ALIKE,
        }
        for clip_id, source_id, sketch, twin in zip(ids, sources, sketches, twins(sketches, sources), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema(CAPTION_TWINS))
