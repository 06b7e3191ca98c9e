# SPDX-License-Identifier: Apache-2.0
"""The operator that writes the captions table, whatever the engine."""

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pyarrow as pa

from captioning.config import Budget, Decoding, LocalModel, Server, needs_of, resources_of
from captioning.engines import CaptionEngine, CaptionResult, Clip, ClipFacts, FramesRequest, columns_of, engine_class
from captioning.measured import MeasuredEngine
from captioning.schema import Plan, schema_hash
from operators.contract import RUN_LOG, Operator, Resources
from operators.weights import Need
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
    "pixel_aspect",
)
NEEDS = {"transformers": "model", "vllm": "model", "openai": "server"}
"""Engine -> the field that says where its model is."""
SECONDS_PER_CLIP = 5.0  # of a model, to size blocks and pools by before anything is measured


@dataclass(frozen=True, kw_only=True)
class Caption(Operator):
    """Ten texts per clip.

    Reads: the clip's place in its source, and the facts that the engine wants.
    Writes: tables.CAPTIONS.

    Args:
        engine: a name of `captioning.engines.ENGINES`.
        plan: `grouped` asks for scene, picture and summary one after the other, `single` for all at once.
        model: for engines that load one.
        server: for the engine `openai`.
        budget: what a model gets to see.
        decoding: how it writes.
        language: answers in another one are refused; null: any is taken.

    Raises:
        ValueError: unknown engine, or one without its model, or with another's.
    """

    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[Column, ...]] = tuple(dict.fromkeys((CLIP_ID, SOURCE_ID, *PLACE, *MeasuredEngine.reads)))

    engine: str = "measured"
    plan: Literal["grouped", "single"] = "grouped"
    model: LocalModel | None = None
    server: Server | None = None
    budget: Budget = field(default_factory=Budget)
    decoding: Decoding = field(default_factory=Decoding)
    language: Literal["en"] | None = "en"

    def __post_init__(self) -> None:
        engine_class(self.engine)
        for key in ("model", "server"):
            is_wanted, is_given = NEEDS.get(self.engine) == key, getattr(self, key) is not None
            if is_wanted and not is_given:
                raise ValueError(f"engine {self.engine!r} needs {key!r}; docs/captions.md shows one")
            if is_given and not is_wanted:
                raise ValueError(f"engine {self.engine!r} has no {key!r}; leave it out")

    @property
    def writes(self) -> tuple[Column, ...]:
        return CAPTIONS

    @property
    def needs(self) -> tuple[Need, ...]:
        return needs_of(self.model)

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """One GPU if a local model is on cuda."""
        return resources_of(self.model, self.server)

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """A model's matrix products differ between machines and batches."""
        return self.is_cheap

    @property
    def is_cheap(self) -> bool:
        """The engine loads no model and decodes nothing, so a small round needs no workers of its own."""
        return engine_class(self.engine) is MeasuredEngine

    @property
    def seconds_per_clip(self) -> float:
        """Estimate for one clip of a worker; less where many are in flight, so that a block holds enough of them."""
        return 0.005 if self.is_cheap else SECONDS_PER_CLIP / (self.server.num_parallel if self.server else 1)

    @property
    def captioner_id(self) -> str:
        """16 hex digits over the engine, its version and parameters, and the schema of the texts."""
        engine = self._engine()
        config = {"engine": engine.name, "version": engine.version, "parameters": dict(engine.parameters)}
        return fingerprint("captioner", {**config, "operator": self.version, "schema": schema_hash()})

    def _engine(self) -> CaptionEngine:
        engine: Any = engine_class(self.engine)
        if self.engine not in NEEDS:
            return engine()
        from captioning.model_engine import ModelSettings

        settings = ModelSettings(
            plan=Plan(self.plan), budget=self.budget, decoding=self.decoding, language=self.language
        )
        return engine(settings, getattr(self, NEEDS[self.engine]))

    def setup(self) -> CaptionEngine:
        engine = self._engine()
        engine.start()
        return engine

    def close(self, state: CaptionEngine) -> None:
        state.close()

    def process(self, state: CaptionEngine, batch: pa.Table) -> pa.Table:
        """A row of tables.CAPTIONS per clip; a clip that fails has its error and no texts."""
        rows = batch.to_pylist()
        results = state.caption_all([_clip(state, row) for row in rows])
        always = {"captioner_id": self.captioner_id}
        found = [_keys(row) | _columns(result) | always for row, result in zip(rows, results, strict=True)]
        table = pa.Table.from_pylist(found, schema=arrow_schema(CAPTIONS))
        logs = [json.dumps(result.log) if result.log else None for result in results]
        return table.append_column(RUN_LOG, pa.array(logs, pa.string()))


def _keys(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "clip_id": row["clip_id"],
        "source_id": row["source_id"],
        "span_start_pts": row["start_pts"],
        "span_end_pts": row["end_pts"],
    }


def _clip(engine: CaptionEngine, row: dict[str, Any]) -> Clip:
    facts = ClipFacts({column.name: row[column.name] for column in engine.reads})
    return Clip(facts, frames_request(row), row) if engine.looks_at_frames else Clip(facts)


def _columns(result: CaptionResult) -> dict[str, Any]:
    texts = {} if result.texts is None else result.texts.by_column()
    evidence = [{"field": e.field, "sentence": e.sentence, "columns": list(e.columns)} for e in result.evidence]
    is_told = evidence or result.grounding == "measured"
    return {
        **texts,
        "caption_grounding": result.grounding,
        "evidence": evidence if is_told else None,
        "status": result.status,
        **result.columns,
    }


def frames_request(row: dict[str, Any]) -> FramesRequest:
    """Where the frames of a clip's row lie."""
    return FramesRequest(
        uri=row["uri"],
        seek_pts=row["seek_pts"],
        frame_pts=tuple(row["frame_pts"]),
        time_base=(row["time_base_num"], row["time_base_den"]),
        size_px=(row["width_px"], row["height_px"]),
        pixel_aspect=row["pixel_aspect"] or 1.0,
    )
