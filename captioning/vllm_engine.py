# SPDX-License-Identifier: Apache-2.0
"""vLLM inside the worker: many clips in flight, batched by vLLM's own token budget, JSON held to the schema.

Written against vLLM 0.33.0 and run by nobody yet: it pins another torch and transformers than this project, so it needs
an environment of its own, and a GPU. What can be told without one (what is asked, with which frames and parameters) is
tested. vLLM is given the planned frames and never sees the file; its processor's own size limits are opened, so that
frames that are multiples of a token stay as they are.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, ClassVar

from captioning.budget import PixelRule
from captioning.config import PRECISIONS, Decoding, LocalModel
from captioning.conversation import Message, Question, Reply
from captioning.model_engine import ModelEngine, ModelSettings
from captioning.processors import (
    details_of,
    load_processor,
    origin_of,
    prompt_text,
    rule_of,
    sights_of,
    video_metadata,
    visual_ids,
)
from captioning.schema import json_schema
from captioning.yes_no import NUM_TOP_TOKENS, Odds, asked, odds_of
from operators.contract import RowError
from operators.weights import locate

ANY_SIZE = {"shortest_edge": 1, "longest_edge": 1 << 40}  # areas in pixels: planned frames are inside of them


class VLLMEngine(ModelEngine):
    """See the module's text.

    Args:
        settings: what all engines with a model are given.
        model: where the checkpoint is; `num_parallel` clips are in flight.
    """

    name: ClassVar[str] = "vllm"

    def __init__(self, settings: ModelSettings, model: LocalModel) -> None:
        super().__init__(settings)
        self.model = model

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"uri": self.model.uri, "sha256": self.model.sha256, "precision": self.model.precision}

    @property
    def num_parallel(self) -> int:
        return self.model.num_parallel

    async def load(self) -> "VLLMModel":
        details = self.settings.budget.details
        self._loaded = VLLMModel(self.model, self.settings.decoding, details.max_num if details else 0)
        return self._loaded

    async def unload(self) -> None:
        self._loaded.shutdown()

    @property
    def rule(self) -> PixelRule | None:
        return self._loaded.rule

    @property
    def origin(self) -> Mapping[str, Any]:
        return self._loaded.origin


class VLLMModel:
    """vLLM's engine with one checkpoint.

    Args:
        model: where it is.
        decoding: sampling.
        max_details: parts of frames in a question.

    Raises:
        ValueError: vLLM is not installed.
    """

    def __init__(self, model: LocalModel, decoding: Decoding, max_details: int) -> None:
        try:
            import vllm  # type: ignore[import-not-found]
            from vllm.config import StructuredOutputsConfig  # type: ignore[import-not-found]
            from vllm.v1.engine.async_llm import AsyncLLM  # type: ignore[import-not-found]
        except ImportError as error:
            raise ValueError(
                "captions: engine vllm needs vLLM, in an environment of its own since it pins another torch: "
                'pip install "vllm==0.33.0"; or serve the model and use engine openai'
            ) from error
        folder = locate(model.weights)
        self._processor, self._decoding, self._ids = load_processor(folder), decoding, count()
        self.rule = rule_of(self._processor)
        self.origin = origin_of(folder, model, self._processor, f"vllm {vllm.__version__}")
        answers = StructuredOutputsConfig(backend="guidance", disable_any_whitespace=True)  # xgrammar has a length bug
        arguments = engine_arguments(str(folder), model, max_details) | {"structured_outputs_config": answers}
        self._engine: Any = AsyncLLM.from_engine_args(vllm.AsyncEngineArgs(**arguments))

    def shutdown(self) -> None:
        """Ends vLLM's own processes."""
        self._engine.shutdown()

    async def ask(self, question: Question) -> Reply:
        """One answer; vLLM batches those in flight. Raises RowError (resource): more tokens than the model takes."""
        from vllm.sampling_params import StructuredOutputsParams  # type: ignore[import-not-found]

        answers = StructuredOutputsParams(json=json_schema(question.answer))
        parameters = {**sampling(question, self._decoding), "structured_outputs": answers}
        last = await self._complete(question.messages, parameters)
        answer, ids = last.outputs[0], visual_ids(self._processor)
        return Reply(
            text=answer.text,
            finish_reason=answer.finish_reason or "unknown",
            num_prompt_tokens=len(last.prompt_token_ids),
            num_output_tokens=len(answer.token_ids),
            num_visual_tokens=sum(token in ids for token in last.prompt_token_ids),
        )

    async def odds(self, opening: tuple[Message, ...], questions: Sequence[str]) -> list[Odds]:
        """One request each, in turn: vLLM's prefix cache holds the opening. Raises RowError like `ask`."""
        found = []
        for question in questions:
            parameters = {"max_tokens": 1, "temperature": 0.0, "logprobs": NUM_TOP_TOKENS}
            last = await self._complete(asked(opening, question), parameters)
            scores = last.outputs[0].logprobs[0].values()
            found.append(odds_of((score.decoded_token or "", math.exp(score.logprob)) for score in scores))
        return found

    async def _complete(self, messages: tuple[Message, ...], parameters: Mapping[str, Any]) -> Any:
        """vLLM's last word on a request."""
        from vllm import SamplingParams  # type: ignore[import-not-found]
        from vllm.exceptions import VLLMClientError  # type: ignore[import-not-found]
        from vllm.sampling_params import RequestOutputKind  # type: ignore[import-not-found]

        full, last = SamplingParams(**parameters, output_kind=RequestOutputKind.FINAL_ONLY), None
        prompt = prompt_of(messages, self._processor, self.rule)
        try:
            async for output in self._engine.generate(prompt, full, f"caption-{next(self._ids)}"):
                last = output
        except VLLMClientError as error:  # a prompt that is longer than max_model_len
            raise RowError("resource", f"vllm: {error}") from error
        assert last is not None, "vLLM ended a request without a word"
        return last


def engine_arguments(folder: str, model: LocalModel, max_details: int = 0) -> dict[str, Any]:
    """For `vllm.AsyncEngineArgs`: no code of the checkpoint, safetensors only."""
    return {
        "model": folder,
        "dtype": PRECISIONS[model.precision],
        "load_format": "safetensors",
        "trust_remote_code": False,
        "limit_mm_per_prompt": {"video": 1, "image": max_details},
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }


def sampling(question: Question, decoding: Decoding) -> dict[str, Any]:
    """For `vllm.SamplingParams`."""
    return {
        "max_tokens": question.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "seed": decoding.seed,
    }


def prompt_of(messages: tuple[Message, ...], processor: Any, rule: PixelRule | None) -> dict[str, Any]:
    """What `generate` is given: text with placeholders, and the planned frames with their times."""
    from PIL import Image

    prompt: dict[str, Any] = {"prompt": prompt_text(processor, messages)}
    if sights := sights_of(messages):
        data: dict[str, Any] = {"video": [(sight.frames_THWC, video_metadata(sight)) for sight in sights]}
        if details := details_of(messages):
            data["image"] = [Image.fromarray(pixels_HWC) for pixels_HWC in details]
        prompt["multi_modal_data"] = data
        prompt["mm_processor_kwargs"] = {"do_sample_frames": False, **({} if rule is None else {"size": ANY_SIZE})}
    return prompt
