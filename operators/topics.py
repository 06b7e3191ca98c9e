# SPDX-License-Identifier: Apache-2.0
"""What a clip is about, by comparing its stored embedding with those of sentences. Nothing is decoded again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from operators.contract import Operator, Resources
from operators.embedding import FRAMES
from operators.image_towers import checkpoint_needs
from operators.text_towers import TextTower, open_clip_texts, transformers_texts
from operators.weights import Need
from reelmill.column import Column
from reelmill.tables import CLIP_ID

TOPICS_FILE = Path(__file__).with_name("topics.yaml")
_FAILED = "null if the clip has no embedding"


@dataclass(frozen=True)
class Sentences:
    """The topics of one theme as embeddings."""

    topics: tuple[str, ...]
    vectors_KD: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Topics(Operator):
    """The likeliest topic of each theme of operators/topics.yaml, by zero-shot comparison.

    Probabilities are a softmax over the topics of one theme, and so say which of them fits best, not that one fits.

    Reads: embedding_frames of the same checkpoint's image tower.
    Writes: topic_<theme>, topic_<theme>_probability, topic_<theme>_cosine for each theme.

    Args:
        backend, model, weights, revision: as of `embedding`, whose checkpoint it must be.
        template: the sentence, {} standing for the topic.

    Raises:
        ValueError: a template without {}, or embeddings of another length than the sentences'.
    Source: Radford et al. 2021 (CLIP), section 3.1; template theirs, topics ours.
    """

    name: ClassVar[str] = "topics"
    exact: ClassVar[bool] = False
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=4.0)
    seconds_per_row: ClassVar[float] = 0.005
    reads: ClassVar[tuple[Column, ...]] = (CLIP_ID, FRAMES)

    backend: Literal["open_clip", "transformers"]
    model: str
    weights: str | None = None
    revision: str | None = None
    template: str = "a photo of {}."

    def __post_init__(self) -> None:
        if self.template.count("{}") != 1:
            raise ValueError(f"topics: template is {self.template!r}; it must hold {{}} once")

    @property
    def writes(self) -> tuple[Column, ...]:
        columns = []
        for theme, topics in themes().items():
            columns += [
                Column(f"topic_{theme}", pa.string(), f"likeliest of {len(topics)} topics; {_FAILED}"),
                Column(f"topic_{theme}_probability", pa.float64(), f"its softmax among them, 0-1; {_FAILED}"),
                Column(f"topic_{theme}_cosine", pa.float64(), f"cosine of the clip and its sentence; {_FAILED}"),
            ]
        return tuple(columns)

    @property
    def needs(self) -> tuple[Need, ...]:
        return checkpoint_needs(self.backend, self.model, self.weights, self.revision)

    def setup(self) -> tuple[float, dict[str, Sentences]]:
        tower = self._tower()
        texts = {theme: [self.template.format(topic) for topic in topics] for theme, topics in themes().items()}
        sentences = {t: Sentences(themes()[t], tower.encode(lines)) for t, lines in texts.items()}
        return tower.scale, sentences

    def _tower(self) -> TextTower:
        if self.backend == "open_clip":
            return open_clip_texts(self.model, self.weights)
        return transformers_texts(self.model, self.revision)

    def process(self, state: tuple[float, dict[str, Sentences]], batch: pa.Table) -> pa.Table:
        rows = [self._row(*state, frames) for frames in batch[FRAMES.name].to_pylist()]
        return self.with_writes(batch, rows)

    def _row(
        self, scale: float, sentences: dict[str, Sentences], frames: Sequence[Sequence[float]] | None
    ) -> dict[str, Any]:
        if frames is None:
            return {}
        clip_D = np.array(frames, np.float32).mean(axis=0)
        clip_D /= max(float(np.sqrt(clip_D @ clip_D)), 1e-12)
        row: dict[str, Any] = {}
        for theme, of_theme in sentences.items():
            if of_theme.vectors_KD.shape[1] != len(clip_D):
                raise ValueError(
                    f"topics: the embedding has {len(clip_D)} numbers, {self.model!r} gives "
                    f"{of_theme.vectors_KD.shape[1]}: give topics the checkpoint of `embedding`"
                )
            cosine_K = of_theme.vectors_KD @ clip_D
            weight_K = np.exp(scale * (cosine_K - cosine_K.max()))
            best = int(cosine_K.argmax())
            row[f"topic_{theme}"] = of_theme.topics[best]
            row[f"topic_{theme}_probability"] = float(weight_K[best] / weight_K.sum())
            row[f"topic_{theme}_cosine"] = float(cosine_K[best])
        return row


@lru_cache(maxsize=1)
def themes() -> dict[str, tuple[str, ...]]:
    """Theme -> topics, from topics.yaml."""
    import yaml

    return {theme: tuple(topics) for theme, topics in yaml.safe_load(TOPICS_FILE.read_text()).items()}
