# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint's own processor does for engines that load one: the prompt's text, times, and its pixel rule."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from captioning import prompts
from captioning.budget import PixelRule
from captioning.config import LocalModel
from captioning.conversation import Message
from captioning.looks import Sight
from operators.weights import weights_hash


def load_processor(folder: Path) -> Any:
    """The checkpoint's processor; none of its code is run."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def rule_of(processor: Any) -> PixelRule | None:
    """The pixel rule of Qwen's processors, with the checkpoint's own numbers; None for another family's."""
    from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

    video = getattr(processor, "video_processor", None)
    if not isinstance(video, Qwen2VLVideoProcessor | Qwen3VLVideoProcessor):
        return None
    return PixelRule(video.patch_size, video.merge_size, video.temporal_patch_size)


def prompt_text(processor: Any, messages: Iterable[Message]) -> str:
    """The conversation in the checkpoint's own template, with a placeholder per sight and per detail."""
    turns = []
    for message in messages:
        content = [] if message.sight is None else [{"type": "video"}]
        for seen in () if message.sight is None else message.sight.details:
            content += [{"type": "text", "text": prompts.detail(seen.time_s)}, {"type": "image"}]
        turns.append({"role": message.role, "content": [*content, {"type": "text", "text": message.text}]})
    return processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def sights_of(messages: Iterable[Message]) -> list[Sight]:
    """What is shown, in order."""
    return [message.sight for message in messages if message.sight is not None]


def details_of(messages: Iterable[Message]) -> list[np.ndarray]:
    """The parts of frames that are shown, in order, as uint8 RGB [H, W, 3]."""
    return [seen.pixels_HWC for sight in sights_of(messages) for seen in sight.details]


def video_metadata(sight: Sight) -> dict[str, Any]:
    """Times in milliseconds as frame numbers of 1000 a second: right for a variable frame rate too."""
    seconds = sight.part.end_s - sight.part.start_s
    return {
        "total_num_frames": max(1, round(1000 * seconds)),
        "fps": 1000.0,
        "duration": seconds,
        "frames_indices": [round(1000 * time_s) for time_s in sight.times_s],
    }


def visual_ids(processor: Any) -> set[int]:
    """Ids of the tokens that stand for pixels."""
    found = (getattr(processor, name, None) for name in ("video_token_id", "image_token_id"))
    return {token for token in found if token is not None}


def origin_of(folder: Path, model: LocalModel, processor: Any, engine: str) -> dict[str, Any]:
    """Provenance that is the same for every row of a loaded checkpoint."""
    import transformers

    video = getattr(processor, "video_processor", None) or processor.image_processor
    return {
        "caption_model": model.uri,
        "caption_model_revision": model.revision,
        "caption_weights_hash": weights_hash(folder),
        "caption_precision": model.precision,
        "caption_engine": engine,
        "caption_processor": f"{type(video).__name__} of transformers {transformers.__version__}",
    }
