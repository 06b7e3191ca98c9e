# SPDX-License-Identifier: Apache-2.0
"""A vision-language model of transformers in the worker: one answer at a time, its JSON held to the schema.

Frames come decoded at the planned size, so a Qwen processor must not resize them; other families' processors do as
their own configuration says. No code of a checkpoint is run, and a weight that its files lack is an error.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

from captioning.budget import PixelRule
from captioning.config import PRECISIONS, Decoding, LocalModel
from captioning.conversation import Message, Question, Reply
from captioning.grammar import Grammar
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
from captioning.yes_no import Odds, asked, odds_of, word_ids
from operators.contract import RowError
from operators.weights import locate


class TransformersEngine(ModelEngine):
    """See the module's text.

    Args:
        settings: what all engines with a model are given.
        model: where the checkpoint is.
    """

    name: ClassVar[str] = "transformers"

    def __init__(self, settings: ModelSettings, model: LocalModel) -> None:
        super().__init__(settings)
        self.model = model

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"uri": self.model.uri, "sha256": self.model.sha256, "precision": self.model.precision}

    @property
    def num_parallel(self) -> int:
        return self.model.num_parallel

    async def load(self) -> "TransformersModel":
        self._loaded = TransformersModel(self.model, self.settings.decoding)
        return self._loaded

    @property
    def rule(self) -> PixelRule | None:
        return self._loaded.rule

    @property
    def origin(self) -> Mapping[str, Any]:
        return self._loaded.origin


class TransformersModel:
    """A loaded checkpoint.

    Args:
        model: where it is.
        decoding: lengths and sampling.

    Raises:
        FileNotFoundError: it is not on this machine and may not be fetched.
        ValueError: weights are missing, or another sha256.
    """

    def __init__(self, model: LocalModel, decoding: Decoding) -> None:
        from transformers import AutoConfig

        folder = locate(model.weights)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._network = _network(folder, model)
        self._processor = load_processor(folder)
        self.rule = rule_of(self._processor)
        self._grammar = Grammar(self._processor.tokenizer, config.get_text_config().vocab_size)
        self._decoding, self._device = decoding, model.device
        self._turn = asyncio.Lock()
        self.origin = origin_of(folder, model, self._processor, _versions())

    async def ask(self, question: Question) -> Reply:
        """One answer; others wait their turn. Raises RowError (resource) if the device's memory runs out."""
        async with self._turn:
            return await asyncio.to_thread(self._generate, question)

    async def odds(self, opening: tuple[Message, ...], questions: Sequence[str]) -> list[Odds]:
        """The opening goes through the network once. Raises RowError like `ask`."""
        async with self._turn:
            return await asyncio.to_thread(self._odds, opening, questions)

    def _odds(self, opening: tuple[Message, ...], questions: Sequence[str]) -> list[Odds]:
        import torch

        words = word_ids(self._processor.tokenizer)
        head, tails = self._split([asked(opening, question) for question in questions])
        num_head, found = head["input_ids"].shape[1], []
        with torch.inference_mode(), _memory_errors(num_head):
            cache = self._network(**head, use_cache=True, logits_to_keep=1).past_key_values
            for tail_NT in tails:
                logits_NTV = self._network(  # no mask: Qwen's positions are then counted on from the cache
                    input_ids=tail_NT,
                    past_key_values=deepcopy(cache),  # not every kind of cache can be cut back
                    use_cache=True,
                    logits_to_keep=1,
                ).logits
                chances_V = logits_NTV[0, -1].float().softmax(-1)
                yes, no = (float(chances_V[words[word]].sum()) for word in ("yes", "no"))
                found.append(odds_of([("yes", yes), ("no", no)]))
        return found

    def _split(self, prompts: Sequence[tuple[Message, ...]]) -> tuple[dict[str, Any], list[Any]]:
        """Inputs of what all prompts begin with, pixels and all, and the ids [1, T] that each goes on with."""
        import torch

        ids = [self._processor.tokenizer(prompt_text(self._processor, prompt))["input_ids"] for prompt in prompts]
        shortest = min(len(each) for each in ids)
        num_shared = next((i for i in range(shortest - 1) if len({each[i] for each in ids}) > 1), shortest - 1)
        inputs = self._inputs(prompts[0]).to(self._device)
        num_all = inputs["input_ids"].shape[1]
        num_head = num_all - (len(ids[0]) - num_shared)  # the placeholders, which are widened, stand in the shared part
        along = {name for name, value in inputs.items() if value.shape[:2] == (1, num_all)}
        head = {name: value[:, :num_head] if name in along else value for name, value in inputs.items()}
        return head, [torch.tensor([each[num_shared:]], device=self._device) for each in ids]

    def _generate(self, question: Question) -> Reply:
        import torch

        inputs = self._inputs(question.messages)
        num_prompt = inputs["input_ids"].shape[1]
        torch.manual_seed(self._decoding.seed)
        with torch.inference_mode(), _memory_errors(num_prompt):
            output_NT = self._network.generate(
                **inputs.to(self._device),
                **_sampling(self._decoding),
                max_new_tokens=question.max_new_tokens,
                logits_processor=self._grammar.processors(question.answer),
            )
        new = output_NT[0, num_prompt:].tolist()
        is_whole = bool(new) and new[-1] in self._ends()
        return Reply(
            text=self._processor.tokenizer.decode(new, skip_special_tokens=True),
            finish_reason="stop" if is_whole else "length",
            num_prompt_tokens=num_prompt,
            num_output_tokens=len(new),
            num_visual_tokens=sum(int((inputs["input_ids"] == token).sum()) for token in visual_ids(self._processor)),
        )

    def _inputs(self, messages: tuple[Message, ...]) -> Any:
        seen: dict[str, Any] = {}
        if sights := sights_of(messages):
            seen = {
                "videos": [sight.frames_THWC for sight in sights],
                "videos_kwargs": {
                    "video_metadata": [video_metadata(sight) for sight in sights],
                    "do_sample_frames": False,
                    **({} if self.rule is None else {"do_resize": False, "cap_pixels_per_frame": False}),
                },
            }
        if details := details_of(messages):
            seen |= {"images": details, "images_kwargs": {} if self.rule is None else {"do_resize": False}}
        return self._processor(text=[prompt_text(self._processor, messages)], return_tensors="pt", **seen)

    def _ends(self) -> set[int]:
        end = self._network.generation_config.eos_token_id
        return {*(end if isinstance(end, list) else [end]), self._processor.tokenizer.eos_token_id}


@contextmanager
def _memory_errors(num_tokens: int) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise RowError(
            "resource", f"the GPU's memory is too small for {num_tokens} tokens; give the model a lower tier"
        ) from error


def _network(folder: Path, model: LocalModel) -> Any:
    import torch
    from transformers import AutoModelForImageTextToText

    kind = PRECISIONS[model.precision]
    loading: Any = AutoModelForImageTextToText.from_pretrained(
        folder,
        dtype=kind if kind == "auto" else getattr(torch, kind),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    network, loaded = loading
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(f"captions.model: {folder} lacks {len(missing)} weights of its model: {missing[:3]} ...")
    return network.eval().to(model.device)


def _sampling(decoding: Decoding) -> dict[str, Any]:
    """Greedy says so in full: the checkpoint's own generation_config must not leak in."""
    if decoding.temperature == 0:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "num_beams": 1}
    return {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0, "num_beams": 1}


def _versions() -> str:
    import llguidance
    import torch
    import transformers

    return f"transformers {transformers.__version__}, torch {torch.__version__}, llguidance {llguidance.__version__}"
