# SPDX-License-Identifier: Apache-2.0
"""Reading recipe text: YAML, `--set path=value`, typed building of options, and errors that name the place."""

import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

T = TypeVar("T")
NAME_KEYS = ("name", "meter", "op", "tokenizer")  # what a list item may be addressed by, besides its index
MAX_LISTED = 24  # words in a message
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


class RecipeError(ValueError):
    """A recipe that cannot be used: one message with file, path into the recipe, value and the nearest known key."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`; if none is near the known words, unless they are many; or nothing."""
    choices = sorted(set(known))
    match = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; known: {', '.join(choices)}" if 0 < len(choices) <= MAX_LISTED else ""


def parse_yaml(text: str, file: str) -> dict[str, Any]:
    """The mapping in a YAML text. Raises RecipeError on bad YAML, a repeated key, or anything but a mapping."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for index, key in enumerate(keys):
                if key in keys[:index]:
                    line = node.value[index][0].start_mark.line + 1
                    raise RecipeError(f"{file}: line {line}: key {key!r} is given twice")
            return super().construct_mapping(node, deep)

    try:
        data = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{file}: a recipe is a mapping of sections, this is a {type(data).__name__}")
    return data


def apply_override(data: dict[str, Any], override: str) -> None:
    """Sets `path=value` inside parsed recipe data, in place; the value is read as YAML.

    A list item is addressed by its index or its name: `rules.3.min`, `rules.border.min`,
    `measure.meters.exposure.rate_hz`. `rules.border=null` takes an item out.

    Raises:
        RecipeError: no `=`, an index or name that no item has, or a path through a plain value.
    """
    import yaml

    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise RecipeError(f"--set {override}: expected path=value, for example rules.border.max_bad_share=0.1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: {text!r} is not a YAML value") from error
    target: Any = data
    for depth, key in enumerate(keys[:-1]):
        target = _step(target, key, override, ".".join(keys[:depth]))
    last = keys[-1]
    if isinstance(target, list):
        at = _index(target, last, override, ".".join(keys[:-1]))
        target[at : at + 1] = [] if value is None else [value]
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise RecipeError(f"--set {override}: {'.'.join(keys[:-1])} is {target!r}, it has no {last!r}")


def _step(target: Any, key: str, override: str, place: str) -> Any:
    if isinstance(target, list):
        return target[_index(target, key, override, place)]
    if not isinstance(target, dict):
        raise RecipeError(f"--set {override}: {place} is {target!r}, it has no {key!r}")
    if target.get(key) is None:  # a section the recipe leaves at its defaults
        target[key] = {}
    return target[key]


def _index(items: list[Any], key: str, override: str, place: str) -> int:
    if key.isdecimal():
        if int(key) < len(items):
            return int(key)
        raise RecipeError(f"--set {override}: {place} has {len(items)} items, there is no item {key}")
    names = [_name_of(item) for item in items]
    if names.count(key) == 1:
        return names.index(key)
    if key in names:
        raise RecipeError(f"--set {override}: {place} has {names.count(key)} items named {key!r}; use the index")
    raise RecipeError(f"--set {override}: {place} has no item {key!r}{nearest(key, filter(None, names))}")


def _name_of(item: Any) -> str:
    keys = [key for key in NAME_KEYS if key in item] if isinstance(item, Mapping) else []
    return str(item[keys[0]]) if keys else ""


@lru_cache(maxsize=256)
def _holder(cls: type) -> type[BaseModel]:
    return create_model("Options", it=(cls, ...), __config__=ConfigDict(extra="forbid", strict=True))


def build(cls: type[T], options: Mapping[str, Any], place: str, *, file: str = "recipe") -> T:
    """An object of `cls` (a pydantic model or a dataclass) from recipe options, strictly typed.

    Raises:
        RecipeError: unknown key, wrong type, missing key, or a ValueError of the class itself.
    """
    text = json.dumps({"it": dict(options)}, default=str)  # JSON mode: a list may become a tuple, a text never a number
    try:
        return _holder(cls).model_validate_json(text).it  # type: ignore[attr-defined]
    except ValidationError as error:
        raise RecipeError(describe(error, cls, place, file, skip=1)) from error


def describe(error: ValidationError, cls: type, place: str, file: str, *, skip: int = 0) -> str:
    """One line per problem: `file: path: what is wrong`."""
    return "\n".join(f"{file}: {_describe(problem, cls, place, skip)}" for problem in error.errors(include_url=False))


def _describe(problem: Any, cls: type, place: str, skip: int) -> str:
    loc = problem["loc"][skip:]
    kind, value = problem["type"], problem["input"]
    if kind in UNKNOWN_KEY:
        near = nearest(str(loc[-1]), _fields(_at(cls, loc[:-1])))
        return f"{_path(place, loc[:-1])}unknown key {loc[-1]!r}{near}"
    if kind == "missing":
        return f"{_path(place, loc[:-1])}key {loc[-1]!r} is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "value_error":
        return f"{_path(place, loc)}{message}"
    hint = nearest(value, _literals(cls, loc)) if isinstance(value, str) and kind == "literal_error" else ""
    return f"{_path(place, loc)}{json.dumps(value, default=str)}: {message[0].lower()}{message[1:]}{hint}"


def _path(place: str, loc: Iterable[Any]) -> str:
    """`rules[3].min: `, or nothing for the recipe itself."""
    path = place
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return f"{path}: " if path else ""


def _literals(cls: Any, loc: Iterable[Any]) -> list[str]:
    annotation = _at(cls, loc)
    return [a for a in typing.get_args(annotation) if isinstance(a, str)]


def _at(annotation: Any, loc: Iterable[Any]) -> Any:
    """The annotation that stands at `loc`; None where it cannot be told (a tagged union, a free mapping)."""
    for part in loc:
        if isinstance(part, int):
            annotation = next(iter(typing.get_args(annotation)), None)
        else:
            annotation = _fields(annotation).get(part)
        annotation = _without_none(annotation)
    return annotation


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        choices = [a for a in typing.get_args(annotation) if a is not type(None)]
        return choices[0] if len(choices) == 1 else None
    return annotation


def _fields(cls: Any) -> dict[str, Any]:
    """Key -> annotation of a pydantic model or dataclass; empty for anything else."""
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        return {field.alias or name: field.annotation for name, field in cls.model_fields.items()}
    if isinstance(cls, type) and is_dataclass(cls):
        hints = typing.get_type_hints(cls)
        return {name: hints[name] for name in cls.__dataclass_fields__}
    return {}
