# SPDX-License-Identifier: Apache-2.0
"""A vision-language model behind an OpenAI-compatible server: vLLM, SGLang, or a hosted one.

Frames are sent as pictures with their times, at the planned size, because that is what every such server takes; a video
in one piece would be resized and sampled again by the server's own rules. Structured output is asked for, and never
relied on: some servers drop `response_format` without a word. The client's own retries have backoff with jitter and
heed Retry-After.
"""

import asyncio
import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from captioning import prompts
from captioning.budget import PixelRule
from captioning.config import Decoding, Server
from captioning.conversation import Message, Question, Reply
from captioning.looks import Sight
from captioning.model_engine import ModelEngine, ModelSettings
from captioning.schema import json_schema
from captioning.yes_no import NUM_TOP_TOKENS, Odds, asked, odds_of
from operators.contract import RowError

JPEG_QUALITY = 95  # ours: no visible loss, a tenth of PNG's bytes


class OpenAIEngine(ModelEngine):
    """See the module's text.

    Args:
        settings: what all engines with a model are given.
        server: where it is.
    """

    name: ClassVar[str] = "openai"

    def __init__(self, settings: ModelSettings, server: Server) -> None:
        super().__init__(settings)
        self.server = server

    @property
    def identity(self) -> Mapping[str, Any]:
        """Not the address: the same model elsewhere is the same captioner."""
        return {"model": self.server.model, "family": self.server.family}

    @property
    def num_parallel(self) -> int:
        return self.server.num_parallel

    async def load(self) -> "OpenAIModel":
        self._connected = OpenAIModel(self.server, self.settings.decoding)
        return self._connected

    async def unload(self) -> None:
        await self._connected.close()

    @property
    def rule(self) -> PixelRule:
        return self.server.rule

    @property
    def origin(self) -> Mapping[str, Any]:
        import openai

        return {"caption_model": self.server.model, "caption_engine": f"openai {openai.__version__}"}


class OpenAIModel:
    """One connection pool.

    Args:
        server: address, retries, deadline.
        decoding: sampling.

    Raises:
        ValueError: the variable that should hold the key is not set, or the client is not installed.
    """

    def __init__(self, server: Server, decoding: Decoding) -> None:
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise ValueError('captions: engine openai needs its client: pip install "openai==3.57.0"') from error
        self._server, self._decoding = server, decoding
        self._client: Any = AsyncOpenAI(
            base_url=server.url,
            api_key=server.api_key(),
            max_retries=server.max_retries,
            timeout=server.deadline_s / 2,  # a request that stalls leaves time for another
        )

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, question: Question) -> Reply:
        """One answer. Raises RowError (transient): whatever the server does may be another thing tomorrow."""
        return _reply(*await self._complete(self._request(question)))

    async def odds(self, opening: tuple[Message, ...], questions: Sequence[str]) -> list[Odds]:
        """One request each, in turn: the server's prefix cache holds the opening. Raises RowError like `ask`."""
        found = []
        for question in questions:
            messages = [_turn(message) for message in asked(opening, question)]
            request = {"messages": messages, "max_tokens": 1, "temperature": 0.0, "seed": self._decoding.seed}
            completion, _ = await self._complete(
                {"model": self._server.model, **request, "logprobs": True, "top_logprobs": NUM_TOP_TOKENS}
            )
            found.append(_odds(completion))
        return found

    async def _complete(self, request: dict[str, Any]) -> tuple[Any, int]:
        """The completion, and the retries that it took."""
        from openai import APIError

        place = f"{self._server.url}, model {self._server.model}"
        try:
            async with asyncio.timeout(self._server.deadline_s):
                raw = await self._client.chat.completions.with_raw_response.create(**request)
                return raw.parse(), raw.retries_taken
        except TimeoutError as error:
            raise RowError("transient", f"{place}: no answer within {self._server.deadline_s:g} s") from error
        except APIError as error:
            raise RowError("transient", f"{place}: {type(error).__name__}: {error}") from error

    def _request(self, question: Question) -> dict[str, Any]:
        schema = {"name": question.answer.__name__, "schema": json_schema(question.answer), "strict": True}
        return {
            "model": self._server.model,
            "messages": [_turn(message) for message in question.messages],
            "max_tokens": question.max_new_tokens,
            "temperature": self._decoding.temperature,
            "top_p": self._decoding.top_p,
            "seed": self._decoding.seed,
            "response_format": {"type": "json_schema", "json_schema": schema},
        }


def _choice(completion: Any) -> Any:
    if not getattr(completion, "choices", None):
        raise RowError("transient", f"the server's answer holds no choice: {str(completion)[:200]}")
    return completion.choices[0]


def _odds(completion: Any) -> Odds:
    scores = _choice(completion).logprobs
    if scores is None or not scores.content:
        raise RowError("transient", "the server gives no log-probabilities; serve the model with them, as vLLM does")
    return odds_of((token.token, math.exp(token.logprob)) for token in scores.content[0].top_logprobs)


def _reply(completion: Any, num_retries: int) -> Reply:
    choice, usage = _choice(completion), completion.usage
    return Reply(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason or "unknown",
        num_prompt_tokens=usage.prompt_tokens if usage else 0,
        num_output_tokens=usage.completion_tokens if usage else 0,
        num_tries=num_retries + 1,
    )


def _turn(message: Message) -> dict[str, Any]:
    if message.sight is None:
        return {"role": message.role, "content": message.text}
    return {"role": message.role, "content": [*_pictures(message.sight), {"type": "text", "text": message.text}]}


def _pictures(sight: Sight) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for seconds, frame_HWC in zip(sight.times_s, sight.frames_THWC, strict=True):
        found.append({"type": "text", "text": f"<{seconds:.1f} seconds>"})
        found.append({"type": "image_url", "image_url": {"url": _data_url(frame_HWC)}})
    for seen in sight.details:
        found.append({"type": "text", "text": prompts.detail(seen.time_s)})
        found.append({"type": "image_url", "image_url": {"url": _data_url(seen.pixels_HWC)}})
    return found


def _data_url(frame_HWC: np.ndarray) -> str:
    import cv2

    is_done, jpeg = cv2.imencode(".jpg", frame_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert is_done, f"no JPEG of a frame of shape {frame_HWC.shape}"
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
