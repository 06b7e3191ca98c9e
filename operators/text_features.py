# SPDX-License-Identifier: Apache-2.0
"""Text features of captions, stored once, so that a generator's training loads no text encoder."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pyarrow as pa

from operators.contract import Operator, Resources
from operators.image_towers import checkpoint_needs
from operators.text_encoders import Encoded, TextEncoder, load_encoder
from operators.weights import Need
from reelmill.captions import Renderings
from reelmill.column import Column
from reelmill.tables import CLIP_ID, RENDERINGS, SOURCE_ID


@dataclass(frozen=True, kw_only=True)
class TextFeatures(Operator):
    """One row per clip and rendering of its caption: the encoder's last hidden state, bfloat16, without padding.

    The empty caption, which guidance wants, is one row of the whole table: clip id empty, rendering `empty`.

    Reads: renderings (reelmill.captions).
    Writes: num_tokens, is_truncated, embedding with its shape, pooled_embedding, and which encoder made them.

    Args:
        family: t5 (T5, Flan-T5), umt5 or clip.
        model: a folder, a hub id whose revision is on this machine, or a place `hf://ORG/NAME@COMMIT`.
        revision: commit of a hub id.
        renderings: which captions of a clip there are.
        max_tokens: of a caption; what is longer is cut, counted and told. CLIP takes 77 at most.
        precision: of the computation.
        batch_size: captions in one forward pass.
        device: cpu or cuda.

    Raises:
        ValueError: a number below 1.
    """

    name: ClassVar[str] = "text_features"
    exact: ClassVar[bool] = False
    tolerance: ClassVar[float] = 2**-7  # the last bit of bfloat16
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size", "device"})
    seconds_per_row: ClassVar[float] = 0.3
    reads: ClassVar[tuple[Column, ...]] = (CLIP_ID, SOURCE_ID, *RENDERINGS)
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column("num_tokens", pa.int32(), "tokens of the whole caption, special ones among them; never null"),
        Column("is_truncated", pa.bool_(), "the caption is longer than the encoder was given; never null"),
        Column(
            "embedding",
            pa.binary(),
            "last hidden state of the tokens, little-endian bfloat16, rows of tokens; never null",
        ),
        Column("embedding_shape", pa.list_(pa.int32()), "tokens and width of it; never null"),
        Column("pooled_embedding", pa.binary(), "pooled state, little-endian bfloat16; null if the encoder has none"),
        Column("encoder", pa.string(), "family, model and revision; never null"),
        Column("encoder_weights_hash", pa.string(), "sha256 over the checkpoint's files; never null"),
    )

    family: Literal["t5", "umt5", "clip"]
    model: str
    revision: str | None = None
    renderings: Renderings = field(default_factory=Renderings)
    max_tokens: int = 512
    precision: Literal["bf16", "fp32"] = "bf16"
    batch_size: int = 16
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"text_features: {name} is {getattr(self, name)}, it must be at least 1")

    @property
    def needs(self) -> tuple[Need, ...]:
        return checkpoint_needs("transformers", self.model, None, self.revision)

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        """A GPU if `device` is cuda: the encoder of T5-XXL is 10 GB in bf16."""
        return Resources(num_cpus=1.0, memory_gb=16.0).on(self.device, 16.0)

    def setup(self) -> TextEncoder:
        return load_encoder(self.family, self.model, self.revision, self.max_tokens, self.precision, self.device)

    def process(self, state: TextEncoder, batch: pa.Table) -> pa.Table:
        texts = batch["rendered_text"].to_pylist()
        rows = [self._row(state, encoded) for encoded in self._encoded(state, texts)]
        return self.with_writes(batch, rows)

    def _encoded(self, state: TextEncoder, texts: list[str]) -> list[Encoded]:
        """Captions of like length go together, so that little is padded."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found: dict[int, Encoded] = {}
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            found |= dict(zip(rows, state.encode([texts[row] for row in rows]), strict=True))
        return [found[row] for row in range(len(texts))]

    def _row(self, state: TextEncoder, encoded: Encoded) -> dict[str, Any]:
        pooled = encoded.pooled_D
        return {
            "num_tokens": encoded.num_tokens,
            "is_truncated": encoded.num_tokens > state.max_tokens,
            "embedding": encoded.states_LD.astype("<u2").tobytes(),
            "embedding_shape": list(encoded.states_LD.shape),
            "pooled_embedding": None if pooled is None else pooled.astype("<u2").tobytes(),
            "encoder": ":".join(part for part in (self.family, self.model, self.revision) if part),
            "encoder_weights_hash": state.weights_hash,
        }

    def told(self, tables: Iterable[pa.Table]) -> Iterator[str]:
        """What a run says at its end: how many captions were cut, by rendering. Tables: rendering, is_truncated."""
        cut: Counter[str] = Counter()
        all_: Counter[str] = Counter()
        for table in tables:
            for name, is_truncated in zip(*(table[c].to_pylist() for c in ("rendering", "is_truncated")), strict=True):
                all_[name] += 1
                cut[name] += bool(is_truncated)
        for name in all_:
            if cut[name]:
                of = f"{cut[name]} of {all_[name]} captions on {name}"
                yield f"{of} are longer than {self.max_tokens} tokens and were cut"
