# SPDX-License-Identifier: Apache-2.0
"""Text match against the libraries' own calls, with tiny random checkpoints read by the real paths."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.image_towers import checkpoint_hash, open_clip_files
from operators.video_clip_score import VideoClipScore, parts_of
from operators.weights import files_hash
from reelmill.tables import CAPTION_TEXTS
from tests.test_heads import embedded, library_texts, run, tiny_clip, tiny_open_clip

SENTENCES = ["a man walks.", "a dog runs home.", "the sky is red."]
LONG = "a red dog runs over the long road to the sea and a man in a coat walks by with a small boat"


def captioned(texts: list[str | None], weights_hash: str) -> pa.Table:
    table = embedded(24, *[3] * (len(texts) - 1), None)
    table = table.append_column("embedding_weights_hash", pa.array([weights_hash] * len(texts)))
    for name in CAPTION_TEXTS:
        table = table.append_column(
            name, pa.array(texts if name == "Summarized Description" else [None] * len(texts), pa.string())
        )
    return table


@pytest.mark.parametrize("backend", ["open_clip", "transformers"])
def test_the_score_is_the_mean_cosine_of_the_sentences(backend: Any, tmp_path: Path) -> None:
    if backend == "open_clip":
        tiny_open_clip(tmp_path)
        model = f"local-dir:{tmp_path}"
        weights_hash, context = files_hash(open_clip_files(model, None)), 12
    else:
        tiny_clip(tmp_path)
        model, weights_hash, context = str(tmp_path), checkpoint_hash(tmp_path), 40
    table = captioned([" ".join(SENTENCES), None, LONG, "no frames"], weights_hash)
    operator = VideoClipScore(backend=backend, model=model)
    scored, silent, long, failed = run(operator, table)

    clip = np.mean(table["embedding_frames"][0].as_py(), axis=0)
    cosines = library_texts(backend, tmp_path, SENTENCES) @ clip / np.linalg.norm(clip)
    assert scored["video_clip_score"] == pytest.approx(cosines.mean(), abs=1e-4)
    assert scored["video_clip_score_min"] == pytest.approx(cosines.min(), abs=1e-4)
    assert scored["video_clip_worst_part"] == SENTENCES[int(cosines.argmin())]
    assert (scored["video_clip_num_parts"], scored["video_clip_num_split"]) == (3, 0)
    assert scored["video_clip_weights_hash"] == weights_hash
    assert silent["video_clip_score"] is failed["video_clip_score"] is None

    tower = operator.setup()
    parts, num_split = parts_of(LONG, tower.count, tower.max_tokens)
    assert tower.max_tokens == context
    assert (long["video_clip_num_parts"], long["video_clip_num_split"]) == (len(parts), num_split) == (len(parts), 1)
    assert " ".join(parts) == LONG
    assert max(map(tower.count, parts)) <= context
    clip = np.mean(table["embedding_frames"][2].as_py(), axis=0)
    wanted = library_texts(backend, tmp_path, parts) @ clip / np.linalg.norm(clip)
    assert long["video_clip_score"] == pytest.approx(wanted.mean(), abs=1e-4)

    with pytest.raises(ValueError, match="embeddings are of another checkpoint"):
        run(operator, captioned(["a man walks.", None], "0" * 64))


def test_no_word_is_lost_and_no_part_is_too_long() -> None:
    def count(text: str) -> int:
        return len(text) + 2

    text = "One two three. Supercalifragilistic! a b c d e f g h i j"
    parts, num_split = parts_of(text, count, 12)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    assert max(map(count, parts)) <= 12
    assert num_split == 3


def test_an_unknown_text_is_named() -> None:
    with pytest.raises(ValueError, match="text is 'Summary'; the texts are Brief Description"):
        VideoClipScore(backend="open_clip", model="m", text="Summary")
