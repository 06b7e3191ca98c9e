# SPDX-License-Identifier: Apache-2.0
"""The prompts, from `prompts.yaml`: rendered, and hashed into the captioner's id."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from captioning.schema import Answer, Merged, Picture, Scene, Summary, Whole, json_schema
from reelmill.ids import fingerprint

PATH = Path(__file__).with_name("prompts.yaml")
QUESTIONS: dict[type[Answer], str] = {
    Scene: "scene",
    Picture: "picture",
    Whole: "whole",
    Merged: "merge",
    Summary: "summary",
}
"""What is answered -> its prompt."""


@lru_cache(maxsize=4)
def _read(path: Path) -> dict[str, str]:
    import yaml

    prompts = yaml.safe_load(path.read_text(encoding="utf-8"))
    wanted = {"system", "repair", "detail", "evidence", "no_evidence", *QUESTIONS.values()}
    if missing := sorted(wanted - set(prompts)):
        raise ValueError(f"{path}: there is no prompt {', '.join(missing)}")
    return {name: text.strip() for name, text in prompts.items()}


def prompt_hash() -> str:
    """16 hex digits over all prompts."""
    return fingerprint("caption-prompts", _read(PATH))


def system() -> str:
    return _read(PATH)["system"]


def question(answer: type[Answer], sentences: Sequence[str] = (), texts: Any = None) -> str:
    """What the model is asked for an answer of that type.

    Args:
        answer: a type of `QUESTIONS`.
        sentences: evidence, for questions on pictures.
        texts: JSON-able texts, for questions on texts.
    """
    prompts = _read(PATH)
    evidence = _filled(prompts["evidence"], {"sentences": " ".join(sentences)}) if sentences else prompts["no_evidence"]
    schema = json.dumps(json_schema(answer), ensure_ascii=False, separators=(",", ":"))
    told = json.dumps(texts, ensure_ascii=False, indent=1)
    return _filled(prompts[QUESTIONS[answer]], {"schema": schema, "evidence": evidence, "texts": told})


def repair(problem: str) -> str:
    """What is said after an answer that was refused."""
    return _filled(_read(PATH)["repair"], {"problem": problem})


def detail(time_s: float) -> str:
    """What is said before a part of a frame."""
    return _filled(_read(PATH)["detail"], {"seconds": f"{time_s:.1f}"})


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """`str.format` would trip over the braces of JSON; a part that holds a placeholder is not filled again."""
    for name in parts:
        text = text.replace("{" + name + "}", f"\0{name}\0")
    for name, part in parts.items():
        text = text.replace(f"\0{name}\0", part)
    return text
