# SPDX-License-Identifier: Apache-2.0
"""What a recipe is: every key, its type and its default. The text is YAML; unknown keys are errors.

The sections are the rounds of a run: `sources`, `measure`, `clips`, `models`, `dedup`, `rules` (with `split`),
`captions`, `after_captions`, `tokens`, `pack`. A list item that names a meter or operator (`{meter: exposure,
rate_hz: 2}`) carries that class's own fields; they are owned and documented there. A bare name (`exposure`) leaves them
at their defaults.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from operators.catalog import meter_class, operator_class
from operators.contract import Meter, Operator
from operators.cut import CutConfig, SplitConfig
from pipelines.dedup import Dedup
from pipelines.recipe_text import RecipeError, apply_override, build, describe, nearest, parse_yaml
from pipelines.rules import Rule, Section

RECIPES_DIR = Path(__file__).parent / "recipes"


class Item(BaseModel):
    """A named list item whose other keys belong to the class it names."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the named class."""
        return dict(self.model_extra or {})


class Sources(Section):
    """Which files below the input are media. Suffixes without a dot, lower case; others are counted and named."""

    suffixes: tuple[str, ...] = (
        "mp4",
        "mov",
        "mkv",
        "webm",
        "avi",
        "m4v",
        "mts",
        "m2ts",
        "ts",
        "mpg",
        "mpeg",
        "mxf",
        "wmv",
        "flv",
    )
    image_suffixes: tuple[str, ...] = ("jpg", "jpeg", "png", "webp", "avif")


class MeterItem(Item):
    """`{meter: NAME, ...}`: a name of `operators.catalog.METERS` and that meter's fields."""

    meter: str


class OperatorItem(Item):
    """`{op: NAME, ...}`: a name of `operators.catalog.OPERATORS` and that operator's fields."""

    op: str


class MeasureSection(Section):
    """The one decode. A null leaves the default of `operators.measure.Measure`."""

    backend: Literal["pyav", "decord", "torchcodec", "torchcodec-cuda"] | None = None
    threads: int | None = Field(default=None, ge=1)
    segment_s: float = Field(default=60.0, gt=0)
    time_limit_s: float | None = Field(default=None, gt=0)
    memory_limit_gb: float | None = Field(default=None, gt=0)
    meters: tuple[MeterItem, ...] = ()


class Pack(Section):
    """How token rows become shard files: order by hash(clip_id, seed), files of at most `max_mb` MB (10^6 bytes)."""

    seed: int = 0
    max_mb: float = Field(default=256.0, gt=0)


class Recipe(Section):
    """A whole recipe. `recipe` is its name."""

    recipe: str = Field(min_length=1)
    sources: Sources = Sources()
    measure: MeasureSection = MeasureSection()
    clips: CutConfig = CutConfig()
    models: tuple[OperatorItem, ...] = ()
    dedup: Dedup | None = None
    rules: tuple[Rule, ...] = ()
    split: SplitConfig = SplitConfig()
    captions: dict[str, Any] | None = Field(default_factory=dict)
    after_captions: tuple[OperatorItem, ...] = ()
    tokens: tuple[dict[str, Any], ...] = ()
    pack: Pack = Pack()

    @field_validator("rules")
    @classmethod
    def _distinct_rules(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        _distinct("rule", [rule.name for rule in rules])
        return rules

    def to_json(self) -> str:
        """Canonical JSON of the whole recipe, defaults included; `load_recipe` reads it back."""
        data = self.model_dump(mode="json", by_alias=True)
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def to_yaml(self) -> str:
        """The same as YAML, sections in order, for people."""
        import yaml

        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe: the name of a built-in one or the path of a YAML (or JSON) file.

    Args:
        overrides: `path=value` texts, applied in order before anything is checked (see `apply_override`).

    Raises:
        RecipeError: names the file, the path into the recipe, the value, and the nearest known key.
    """
    path = _find(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: not text, so no recipe; give a YAML file or the name of a built-in recipe"
        ) from error
    data = _spelled_out(parse_yaml(text, path.name))
    for override in overrides:
        apply_override(data, override)
    return parse_recipe(data, path.name)


def parse_recipe(data: dict[str, Any], file: str = "recipe") -> Recipe:
    """A recipe from parsed data, every named meter and operator built once to check its keys. Raises RecipeError."""
    try:
        recipe = Recipe.model_validate_json(json.dumps(_spelled_out(data), default=str))
    except ValidationError as error:
        raise RecipeError(describe(error, Recipe, "", file)) from error
    build_meters(recipe, file)
    build_models(recipe, file)
    build_after_captions(recipe, file)
    build_caption(recipe, file)
    build_tokenizers(recipe, file)
    return recipe


def _spelled_out(data: dict[str, Any]) -> dict[str, Any]:
    """The data with every bare name among the meters and models as the item that it stands for."""
    measure = data.get("measure")
    if isinstance(measure, dict) and "meters" in measure:
        data = data | {"measure": measure | {"meters": _items(measure["meters"], "meter")}}
    return data | {key: _items(data[key], "op") for key in ("models", "after_captions") if key in data}


def _items(listed: Any, key: str) -> Any:
    if not isinstance(listed, list):
        return listed
    return [{key: item} if isinstance(item, str) else item for item in listed]


def built_in_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that ship."""
    return {path.stem: path for path in sorted(RECIPES_DIR.glob("*.yaml"))}


def build_meters(recipe: Recipe, file: str = "recipe") -> tuple[Meter, ...]:
    """The recipe's meters. Raises RecipeError on an unknown name or key, or a meter given twice."""
    meters = []
    for i, item in enumerate(recipe.measure.meters):
        place = f"measure.meters[{i}]"
        meters.append(build(_look_up(meter_class, item.meter, place, file), item.options, place, file=file))
    _distinct("meter", [item.meter for item in recipe.measure.meters], f"{file}: measure.meters: ")
    return tuple(meters)


def build_measure(recipe: Recipe, meters: tuple[Meter, ...]) -> Operator:
    """The measure operator; what the recipe leaves null keeps the operator's default."""
    from operators.measure import Measure

    options = recipe.measure.model_dump(exclude={"segment_s", "meters"}, exclude_none=True)
    return Measure(meters=meters, **options)


def build_models(recipe: Recipe, file: str = "recipe") -> tuple[Operator, ...]:
    """The recipe's model operators, in order. Raises RecipeError like `build_meters`."""
    return _build_operators(recipe.models, "models", file)


def build_after_captions(recipe: Recipe, file: str = "recipe") -> tuple[Operator, ...]:
    """The operators that read captions, in order. Raises RecipeError like `build_meters`, or without captions."""
    if recipe.after_captions and recipe.captions is None:
        raise RecipeError(f"{file}: after_captions: there are no captions to work on, captions is null")
    return _build_operators(recipe.after_captions, "after_captions", file)


def _build_operators(items: Iterable[OperatorItem], section: str, file: str) -> tuple[Operator, ...]:
    operators = []
    for i, item in enumerate(items):
        place = f"{section}[{i}]"
        operators.append(build(_look_up(operator_class, item.op, place, file), item.options, place, file=file))
    return tuple(operators)


def build_caption(recipe: Recipe, file: str = "recipe") -> Operator | None:
    """The caption operator; None if `captions` is null."""
    from captioning.operator import Caption

    return None if recipe.captions is None else build(Caption, recipe.captions, "captions", file=file)


def build_tokenizers(recipe: Recipe, file: str = "recipe") -> tuple[Operator, ...]:
    """One tokenize operator per item of `tokens`: `{tokenizer: NAME, ...}` with that tokenizer's fields and its own."""
    if not recipe.tokens:
        return ()
    from tokenization.catalog import tokenizer_class
    from tokenization.operator import Tokenize

    own = {field.name for field in fields(Tokenize)}
    operators = []
    for i, item in enumerate(recipe.tokens):
        place, name = f"tokens[{i}]", item.get("tokenizer")
        if not isinstance(name, str):
            near = next((key for key in item if nearest(key, ["tokenizer"])), None)
            wrong = f"unknown key {near!r}; did you mean 'tokenizer'?" if near else "key 'tokenizer' is missing"
            raise RecipeError(f"{file}: {place}: {wrong}")
        cls = _look_up(tokenizer_class, name, place, file)
        tokenizer = build(cls, {key: value for key, value in item.items() if key not in own}, place, file=file)
        options = {key: value for key, value in item.items() if key in own and key != "tokenizer"}
        operators.append(replace(build(Tokenize, options, place, file=file), tokenizer=tokenizer))
    return tuple(operators)


def _find(name_or_path: str) -> Path:
    built_in = built_in_recipes()
    if name_or_path in built_in:
        return built_in[name_or_path]
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise RecipeError(f"{name_or_path}: no such file or built-in recipe{nearest(name_or_path, built_in)}")


def _look_up(catalog: Callable[[str], type], name: str, place: str, file: str) -> type:
    try:
        return catalog(name)
    except ValueError as error:
        raise RecipeError(f"{file}: {place}: {error}") from error


def _distinct(what: str, names: Iterable[str], prefix: str = "") -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise RecipeError(f"{prefix}{what} {name!r} is given twice")
        seen.add(name)
