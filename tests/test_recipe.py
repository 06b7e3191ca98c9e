# SPDX-License-Identifier: Apache-2.0
"""Recipes: the ones that ship, the texts of errors, overrides."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from captioning.defects import own_questions
from pipelines.plan import build_plan, check
from pipelines.recipe import built_in_recipes, load_recipe, parse_recipe
from pipelines.recipe_text import RecipeError, apply_override, build, parse_yaml

DOCS = Path(__file__).parent.parent / "docs" / "recipes.md"
PUBLISHED = ("UltraVideo", "Goku", "Open-Sora", "Ad-Up", "ours")
SMALL = """\
recipe: small
measure:
  meters:
    - {meter: content}
    - {meter: exposure, rate_hz: 2}
    - {meter: grey, rate_hz: 1}
clips: {detector: {kind: content, threshold: 27}}
rules:
  - {name: bright, column: exposure_luma_mean, min: 0.1}
  - {name: border, column: grey_variance_samples, min: 3, max_bad_share: 0.05}
tokens:
  - {tokenizer: reference}
"""


def load_text(tmp_path: Path, text: str, *overrides: str):
    (tmp_path / "my.yaml").write_text(text)
    return load_recipe(str(tmp_path / "my.yaml"), overrides)


def error_of(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_text(tmp_path, text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(built_in_recipes()))
def test_every_recipe_that_ships_is_complete(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.recipe == name
    check(build_plan(recipe))
    for rule in recipe.rules:
        assert rule.source.startswith(PUBLISHED), rule.name


@pytest.mark.parametrize("name", sorted(built_in_recipes()))
def test_the_docs_list_every_rule(name: str) -> None:
    lines = DOCS.read_text().splitlines()
    for rule in load_recipe(name).rules:
        tier = "" if rule.tier == "reject" else f" ({rule.tier})"
        row = f"| {name} | `{rule.name}` | {rule.gate} | `{rule.column}` | {rule.threshold}{tier} | {rule.source} |"
        assert row in lines, f"docs/recipes.md lacks this row:\n{row}"


def test_ultravideo_holds_the_published_numbers() -> None:
    rules = {rule.name: rule for rule in load_recipe("ultravideo").rules}
    assert (rules["size"].column, rules["size"].min, rules["size"].gate) == ("long_side_px", 3840, "header")
    assert (rules["border"].min, rules["border"].max_bad_share) == (3, 0.05)
    assert (rules["exposure"].max, rules["exposure"].max_bad_share) == (0.12, 0.05)
    assert (rules["grey"].min, rules["grey"].max_bad_share) == (1.2, 0.05)
    assert rules["source_length"].min == 30
    clips = load_recipe("ultravideo").clips
    assert (clips.detector.kind, clips.short_s, clips.long_s) == ("adaptive", 3, 10)
    quick, strict = ({rule.name for rule in load_recipe(name).rules} for name in ("quickstart", "ultravideo-strict"))
    with_weights = {"dissolve", "vtss", *(f"defect_{name}" for name in own_questions())}
    assert set(rules) - with_weights - {"video", "source_length"} <= quick, "quickstart has the same rules"
    assert all(rules[name].on_null == "keep" for name in with_weights)
    assert (rules["vtss"].column, rules["vtss"].min) == ("vtss_score", 0.01)
    assert quick <= set(rules) | strict


def test_a_bare_name_is_a_meter_or_operator_at_its_defaults(tmp_path: Path) -> None:
    spelled = "meters:\n    - {meter: content}\n    - {meter: exposure, rate_hz: 2}\n    - {meter: grey, rate_hz: 1}"
    short = SMALL.replace(spelled, "meters: [content, exposure, {meter: grey, rate_hz: 1}]") + "models: [text]\n"
    recipe = load_text(tmp_path, short, "measure.meters.exposure.rate_hz=4")
    assert recipe == load_text(tmp_path, SMALL.replace("rate_hz: 2", "rate_hz: 4") + "models: [{op: text}]\n")
    assert "measure.meters[0]: unknown meter 'grew'" in error_of(tmp_path, SMALL, "measure.meters=[grew]")


def test_null_takes_an_item_out() -> None:
    recipe = load_recipe("quickstart", ["models.text=null", "rules.text=null", "measure.meters.noise=null"])
    assert recipe.models == ()
    assert "text" not in [rule.name for rule in recipe.rules]
    assert "noise" not in [item.meter for item in recipe.measure.meters]


def test_a_recipe_survives_its_own_json_and_yaml(tmp_path: Path) -> None:
    recipe = load_recipe("ultravideo", ["measure.threads=2"])
    for text in (recipe.to_json(), recipe.to_yaml()):
        again = load_text(tmp_path, text)
        assert again == recipe
        assert again.to_json() == recipe.to_json()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate_hz: 1", "rate: 1", "my.yaml: measure.meters[2]: unknown key 'rate'; did you mean 'rate_hz'?"),
        ("rate_hz: 1", "rate_hz: fast", 'my.yaml: measure.meters[2].rate_hz: "fast": input should be a valid number'),
        ("rate_hz: 1", "rate_hz: 1}\n    - {meter: grey", "my.yaml: measure.meters: meter 'grey' is given twice"),
        ("meter: grey", "meter: gray", "my.yaml: measure.meters[2]: unknown meter 'gray'; did you mean 'grey'?"),
        ("measure:", "mesure:", "my.yaml: unknown key 'mesure'; did you mean 'measure'?"),
        (
            "recipe: small",
            "recipes: small",
            "my.yaml: key 'recipe' is missing\nmy.yaml: unknown key 'recipes'; did you mean 'recipe'?",
        ),
        ("min: 0.1", "minimum: 0.1", "my.yaml: rules[0]: unknown key 'minimum'; did you mean 'min'?"),
        ("min: 0.1", "min: '0.1'", 'my.yaml: rules[0].min: "0.1": input should be a valid number'),
        ("min: 0.1", "min: .nan", "my.yaml: rules[0].min: "),
        (
            "min: 0.1",
            "min: 0.1, gate: measured",
            "my.yaml: rules[0].gate: \"measured\": input should be 'header', "
            "'measure', 'models', 'dedup' or 'captions'; did you mean 'measure'?",
        ),
        ("min: 0.1", "min: 2, max: 1", "my.yaml: rules[0]: rule 'bright': min 2 is greater than max 1"),
        ("min: 0.1", "on_null: keep", "my.yaml: rules[0]: rule 'bright' needs min and/or max, or in"),
        ("min: 0.1", "min: 1, in: [2]", "my.yaml: rules[0]: rule 'bright' needs min and/or max, or in, not both"),
        ("max_bad_share: 0.05", "max_bad_share: 5", "my.yaml: rules[1].max_bad_share: 5"),
        ("name: bright", "name: border", "my.yaml: rules: rule 'border' is given twice"),
        ("name: bright", "name: '3'", "my.yaml: rules[0].name: '3' is a number"),
        ("threshold: 27", "treshold: 27", "my.yaml: clips.detector: unknown key 'treshold'; did you mean 'threshold'?"),
        (
            "kind: content",
            "kind: contents",
            "my.yaml: clips.detector.kind: \"contents\": input should be 'content', 'adaptive', 'threshold', "
            "'transnet', 'key_frames' or 'none'; did you mean 'content'?",
        ),
        (
            "tokenizer: reference",
            "tokeniser: reference",
            "my.yaml: tokens[0]: unknown key 'tokeniser'; did you mean 'tokenizer'?",
        ),
        ("tokens:", "captions: {engin: a}\ntokens:", "my.yaml: captions: unknown key 'engin'; did you mean 'engine'?"),
        ("tokens:", "recipe: again\ntokens:", "my.yaml: line 11: key 'recipe' is given twice"),
        (
            "tokens:",
            "models: [{op: embeding}]\ntokens:",
            "my.yaml: models[0]: unknown operator 'embeding'; did you mean 'embedding'?",
        ),
    ],
)
def test_errors_name_file_place_value_and_nearest_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert SMALL.count(old) >= 1
    text = error_of(tmp_path, SMALL.replace(old, new, 1))
    assert text.startswith(message), text


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="quikstart: no such file or built-in recipe; did you mean 'quickstart'"):
        load_recipe("quikstart")
    assert "not valid YAML" in error_of(tmp_path, "recipe: [1")
    assert "a recipe is a mapping of sections, this is a list" in error_of(tmp_path, "- 1")


def test_overrides_find_items_by_index_and_by_name(tmp_path: Path) -> None:
    recipe = load_text(
        tmp_path,
        SMALL,
        "rules.0.min=0.25",
        "rules.border.max_bad_share=0.1",
        "measure.meters.exposure.rate_hz=4.0",
        "clips.trim_s=0.2",
        "clips.detector={kind: adaptive}",
        "captions=null",
        "split.seed=3",
        "sources.suffixes=[mp4]",
    )
    assert recipe.rules[0].min == 0.25
    assert recipe.rules[1].max_bad_share == 0.1
    assert recipe.measure.meters[1].options == {"rate_hz": 4.0}
    assert (recipe.clips.trim_s, recipe.clips.detector.kind, recipe.captions) == (0.2, "adaptive", None)
    assert (recipe.split.seed, recipe.sources.suffixes) == (3, ("mp4",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rules.bordr.min=1", "--set rules.bordr.min=1: rules has no item 'bordr'; did you mean 'border'?"),
        ("rules.7.min=1", "--set rules.7.min=1: rules has 2 items, there is no item 7"),
        ("rules.0.min", "--set rules.0.min: expected path=value"),
        ("recipe.x.y=1", "--set recipe.x.y=1: recipe is 'small', it has no 'x'"),
        ("clips.trim=1", "my.yaml: clips: unknown key 'trim'; did you mean 'trim_s'?"),
        ("rules.0.min=[1", "--set rules.0.min=[1: '[1' is not a YAML value"),
    ],
)
def test_overrides_that_fit_nothing(tmp_path: Path, override: str, message: str) -> None:
    assert error_of(tmp_path, SMALL, override).startswith(message)


def test_an_ambiguous_name_asks_for_the_index() -> None:
    data = {"tokens": [{"tokenizer": "reference"}, {"tokenizer": "reference"}]}
    with pytest.raises(RecipeError, match="2 items named 'reference'; use the index"):
        apply_override(data, "tokens.reference.codebook=x")


@dataclass(frozen=True, kw_only=True)
class Inner:
    size_px: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    scales: tuple[int, ...] = ()
    bound: float | None = None

    def __post_init__(self) -> None:
        if self.scales and min(self.scales) < 1:
            raise ValueError(f"scales {self.scales} must be >= 1")


def test_build_is_strict_and_goes_into_nested_classes() -> None:
    assert build(Outer, {"inner": {"size_px": 2}, "scales": [1, 2], "bound": 3}, "x") == Outer(
        inner=Inner(size_px=2), scales=(1, 2), bound=3.0
    )
    for options, message in [
        ({"inner": {"size": 2}}, r"x\.inner: unknown key 'size'; did you mean 'size_px'\?"),
        ({"inner": {"size_px": 2.5}}, r"x\.inner\.size_px: 2\.5: "),
        ({"scales": ["1"]}, r'x\.scales\[0\]: "1": '),
        ({"scales": [0]}, r"x: scales \(0,\) must be >= 1"),
    ]:
        with pytest.raises(RecipeError, match=message):
            build(Outer, options, "x")


def test_recipes_parsed_from_data_do_not_share_state() -> None:
    data = parse_yaml(SMALL, "small")
    first = parse_recipe(data)
    apply_override(data, "rules.bright.min=0.5")
    assert (first.rules[0].min, parse_recipe(data).rules[0].min) == (0.1, 0.5)
