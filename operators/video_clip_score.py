# SPDX-License-Identifier: Apache-2.0
"""How well a caption fits its clip, by comparing its sentences with the stored embeddings of frames."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources
from operators.embedding import FRAMES
from operators.image_towers import checkpoint_needs
from operators.text_towers import TextTower, open_clip_texts, transformers_texts
from operators.weights import Need
from reelmill.column import Column
from reelmill.tables import CAPTION_TEXTS, CLIP_ID

WEIGHTS = Column("embedding_weights_hash", pa.string(), "sha256 over the checkpoint's files; null if the row failed")
_NULL = "null if the clip has no embedding, or no such text"


@dataclass(frozen=True, kw_only=True)
class VideoClipScore(Operator):
    """Cosine of a clip and its caption, sentence by sentence, so that no word of a long one is lost.

    The clip is the mean of its frames' embeddings. A sentence that is longer than the model's context is cut between
    words into as few parts as it needs; nothing is ever truncated.

    Reads: embedding_frames of the same checkpoint's image tower, embedding_weights_hash, and the caption.
    Writes: video_clip_score and what it was made of; null as each column says.

    Args:
        backend, model, weights, revision: as of `embedding`, whose checkpoint it must be.
        text: which of the ten texts; UltraVideo scores the summary.

    Raises:
        ValueError: an unknown text, or embeddings of another checkpoint.
    Source: UltraVideo (arXiv 2506.13691) keeps 0.2 and more of VideoCLIP-XL-v2 against the summary; a CLIP of images
        gives other numbers, so the bound must be found anew. Sentence by sentence: ours.
    """

    name: ClassVar[str] = "video_clip_score"
    exact: ClassVar[bool] = False
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=4.0)
    seconds_per_row: ClassVar[float] = 0.2
    reads: ClassVar[tuple[Column, ...]] = (
        CLIP_ID,
        FRAMES,
        WEIGHTS,
        *(Column(name, pa.string(), "one of the ten texts") for name in CAPTION_TEXTS),
    )
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column("video_clip_score", pa.float64(), f"mean cosine of the clip and the parts of its caption; {_NULL}"),
        Column("video_clip_score_min", pa.float64(), f"cosine of the part that fits least; {_NULL}"),
        Column("video_clip_worst_part", pa.string(), f"that part; {_NULL}"),
        Column("video_clip_num_parts", pa.int32(), f"sentences, and parts of those that are too long; {_NULL}"),
        Column("video_clip_num_split", pa.int32(), f"sentences longer than the model's context; {_NULL}"),
        Column("video_clip_text", pa.string(), f"which of the ten texts was compared; {_NULL}"),
        Column("video_clip_model", pa.string(), f"its backend, model and revision; {_NULL}"),
        Column("video_clip_weights_hash", pa.string(), f"sha256 over the checkpoint's files; {_NULL}"),
    )

    backend: Literal["open_clip", "transformers"]
    model: str
    weights: str | None = None
    revision: str | None = None
    text: str = "Summarized Description"

    def __post_init__(self) -> None:
        if self.text not in CAPTION_TEXTS:
            raise ValueError(f"video_clip_score: text is {self.text!r}; the texts are {', '.join(CAPTION_TEXTS)}")

    @property
    def needs(self) -> tuple[Need, ...]:
        return checkpoint_needs(self.backend, self.model, self.weights, self.revision)

    def setup(self) -> TextTower:
        if self.backend == "open_clip":
            return open_clip_texts(self.model, self.weights)
        return transformers_texts(self.model, self.revision)

    def process(self, state: TextTower, batch: pa.Table) -> pa.Table:
        names = [FRAMES.name, WEIGHTS.name, self.text]
        rows = [self._row(state, *values) for values in zip(*(batch[name].to_pylist() for name in names), strict=True)]
        return self.with_writes(batch, rows)

    def _row(
        self, tower: TextTower, frames: Sequence[Sequence[float]] | None, weights_hash: str | None, text: str | None
    ) -> dict[str, Any]:
        if frames is None or not text or not text.strip():
            return {}
        if weights_hash != tower.weights_hash:
            raise ValueError(
                f"video_clip_score: the embeddings are of another checkpoint (sha256 {weights_hash}) than "
                f"{self.model!r} ({tower.weights_hash}): give it the checkpoint of `embedding`"
            )
        parts, num_split = parts_of(text, tower.count, tower.max_tokens)
        clip_D = np.array(frames, np.float32).mean(axis=0)
        clip_D /= max(float(np.sqrt(clip_D @ clip_D)), 1e-12)
        cosine_P = tower.encode(parts) @ clip_D
        worst = int(cosine_P.argmin())
        return {
            "video_clip_score": float(cosine_P.mean()),
            "video_clip_score_min": float(cosine_P[worst]),
            "video_clip_worst_part": parts[worst],
            "video_clip_num_parts": len(parts),
            "video_clip_num_split": num_split,
            "video_clip_text": self.text,
            "video_clip_model": ":".join(part for part in (self.backend, self.model, self.revision) if part),
            "video_clip_weights_hash": tower.weights_hash,
        }


def parts_of(text: str, count: Callable[[str], int], max_tokens: int) -> tuple[list[str], int]:
    """The sentences of a text, those above `max_tokens` cut between words, and how many had to be cut."""
    parts: list[str] = []
    num_split = 0
    for sentence in re.split(r"(?<=[.!?;])\s+|\n+", text.strip()):
        pieces = _pieces(sentence.split(), count, max_tokens)
        num_split += len(pieces) > 1
        parts += pieces
    return parts, num_split


def _pieces(words: list[str], count: Callable[[str], int], max_tokens: int) -> list[str]:
    """Words in as few texts as fit; a single word that does not fit is cut between its letters."""
    whole = " ".join(words)
    if count(whole) <= max_tokens or len(whole) < 2:
        return [whole] if whole else []
    if len(words) == 1:
        half = len(whole) // 2
        return _pieces([whole[:half]], count, max_tokens) + _pieces([whole[half:]], count, max_tokens)
    low, high = 1, len(words) - 1  # the longest head that fits
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(" ".join(words[:middle])) <= max_tokens else (low, middle - 1)
    return _pieces(words[:low], count, max_tokens) + _pieces(words[low:], count, max_tokens)
