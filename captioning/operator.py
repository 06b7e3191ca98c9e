# SPDX-License-Identifier: Apache-2.0
"""The operator that writes the captions table, whatever the engine."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from captioning.engines import CaptionEngine, CaptionResult, ClipFacts, FramesRequest, columns_of, engine_class
from captioning.measured import MeasuredEngine
from captioning.schema import schema_hash
from operators.contract import Operator, Resources, RowError
from reelmill.column import Column, arrow_schema
from reelmill.ids import fingerprint
from reelmill.tables import CAPTIONS, CLIP_ID, SOURCE_ID

PLACE = columns_of(
    "start_pts",
    "end_pts",
    "seek_pts",
    "frame_pts",
    "time_base_num",
    "time_base_den",
    "uri",
    "width_px",
    "height_px",
)


@dataclass(frozen=True, kw_only=True)
class Caption(Operator):
    """Ten texts per clip.

    Reads: the clip's place in its source, and the facts that the engine wants.
    Writes: tables.CAPTIONS.

    Args:
        engine: a name of `captioning.engines.ENGINES`.

    Raises:
        ValueError: unknown engine.
    """

    name: ClassVar[str] = "caption"
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=0.5)
    reads: ClassVar[tuple[Column, ...]] = tuple(dict.fromkeys((CLIP_ID, SOURCE_ID, *PLACE, *MeasuredEngine.reads)))

    engine: str = "measured"

    def __post_init__(self) -> None:
        engine_class(self.engine)

    @property
    def writes(self) -> tuple[Column, ...]:
        return CAPTIONS

    @property
    def is_cheap(self) -> bool:
        """The engine loads no model and decodes nothing, so a small round needs no workers of its own."""
        return engine_class(self.engine) is MeasuredEngine

    @property
    def captioner_id(self) -> str:
        """16 hex digits over the engine, its version and parameters, and the schema of the texts."""
        engine = engine_class(self.engine)()
        config = {"engine": engine.name, "version": engine.version, "parameters": dict(engine.parameters)}
        return fingerprint("captioner", {**config, "operator": self.version, "schema": schema_hash()})

    def setup(self) -> CaptionEngine:
        return engine_class(self.engine)()

    def process(self, state: CaptionEngine, batch: pa.Table) -> pa.Table:
        """A row of tables.CAPTIONS per clip; a clip whose engine raises RowError gets its error and no texts."""
        captioner_id = self.captioner_id
        rows = [{**_caption_row(state, row), "captioner_id": captioner_id} for row in batch.to_pylist()]
        return pa.Table.from_pylist(rows, schema=arrow_schema(CAPTIONS))


def _caption_row(engine: CaptionEngine, row: dict[str, Any]) -> dict[str, Any]:
    keys = {
        "clip_id": row["clip_id"],
        "source_id": row["source_id"],
        "span_start_pts": row["start_pts"],
        "span_end_pts": row["end_pts"],
    }
    facts = ClipFacts({column.name: row[column.name] for column in engine.reads})
    try:
        result = engine.caption(facts, frames_request(row) if engine.looks_at_frames else None)
    except RowError as error:
        return {**keys, "status": "failed", "error_kind": error.kind, "error": str(error)}
    return {**keys, **_result_columns(result)}


def _result_columns(result: CaptionResult) -> dict[str, Any]:
    evidence = [{"field": e.field, "sentence": e.sentence, "columns": list(e.columns)} for e in result.evidence]
    return {
        **result.texts.by_column(),
        "caption_grounding": result.grounding,
        "evidence": evidence if result.grounding == "measured" else None,
        "status": result.status,
    }


def frames_request(row: dict[str, Any]) -> FramesRequest:
    """Where the frames of a clip's row lie."""
    return FramesRequest(
        uri=row["uri"],
        seek_pts=row["seek_pts"],
        frame_pts=tuple(row["frame_pts"]),
        time_base=(row["time_base_num"], row["time_base_den"]),
        size_px=(row["width_px"], row["height_px"]),
    )
