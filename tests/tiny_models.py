# SPDX-License-Identifier: Apache-2.0
"""Random vision-language checkpoints of under a megabyte, made with the real classes of transformers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
WORDS = ["the light of a street at night", "a person walks along", "Brief Description", "camera_movements", "outdoor"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16384,
    "tie_word_embeddings": False,
}
VISION: dict[str, Any] = {"depth": 2, "num_heads": 2, "intermediate_size": 64}


def _tokenizer() -> Any:
    """Byte-level, so that every JSON text can be written."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", extra_special_tokens=SPECIAL[2:]
    )


def save_qwen(folder: Path, family: str, seed: int = 0, words: Sequence[str] = ()) -> Path:
    """A checkpoint of `qwen3_vl` or `qwen2_5_vl` with random weights; `words` are tokens of their own.

    The weights are widened, else every answer would be the same; the scores of the quotation mark more so, for without
    it no text would end.
    """
    import torch
    import transformers as hf

    tokenizer = _tokenizer()
    tokenizer.add_tokens(list(words))
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in _token_ids().items()}
    torch.manual_seed(seed)
    network = _network(hf, family, len(tokenizer), ids)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
        quote = tokenizer.convert_tokens_to_ids('"')
        network.lm_head.weight[quote] *= 3
    network.generation_config = hf.GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=0)
    network.save_pretrained(folder)
    _processor(hf, family, tokenizer).save_pretrained(folder)
    return folder


def _token_ids() -> dict[str, str]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return dict(zip(names, SPECIAL[2:], strict=True))


def _network(hf: Any, family: str, num_tokens: int, ids: dict[str, int]) -> Any:
    text: dict[str, Any] = {**TEXT, "vocab_size": num_tokens}
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    if family == "qwen3_vl":
        text |= {"head_dim": 16, "rope_parameters": {**rope, "mrope_section": [4, 2, 2], "mrope_interleaved": True}}
        vision = {
            **VISION,
            "hidden_size": 32,
            "out_hidden_size": 64,
            "patch_size": 16,
            "deepstack_visual_indexes": [0, 1],
        }
        vision |= {"num_position_embeddings": 256}
        return hf.Qwen3VLForConditionalGeneration(hf.Qwen3VLConfig(text_config=text, vision_config=vision, **ids))
    text |= {"rope_parameters": {**rope, "mrope_section": [4, 2, 2]}}
    vision = {**VISION, "hidden_size": 32, "out_hidden_size": 64, "patch_size": 14, "window_size": 112}
    vision |= {"fullatt_block_indexes": [1]}
    return hf.Qwen2_5_VLForConditionalGeneration(hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids))


def _processor(hf: Any, family: str, tokenizer: Any) -> Any:
    if family == "qwen3_vl":
        image = hf.Qwen2VLImageProcessor(patch_size=16)
        return hf.Qwen3VLProcessor(image, tokenizer, hf.Qwen3VLVideoProcessor(), chat_template=CHAT)
    return hf.Qwen2_5_VLProcessor(hf.Qwen2VLImageProcessor(), tokenizer, hf.Qwen2VLVideoProcessor(), chat_template=CHAT)


def weights_of(folder: Path) -> dict[str, Any]:
    """The checkpoint's configuration, for tests that break it."""
    return json.loads((folder / "config.json").read_text())
