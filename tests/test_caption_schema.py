# SPDX-License-Identifier: Apache-2.0
import json

import jsonschema
import pytest
from pydantic import ValidationError

from captioning.schema import (
    ANSWERS,
    LENGTH_BANDS,
    VOCABULARIES,
    CaptionTexts,
    Merged,
    Picture,
    Plan,
    Scene,
    Summary,
    Whole,
    bounded,
    json_schema,
    schema_hash,
)
from reelmill.tables import CAPTION_LABELS, CAPTION_TEXTS

TEXTS = {name: f"text of {name}" for name in CAPTION_TEXTS}
ANSWER_TYPES = sorted({answer for answers in ANSWERS.values() for answer in answers}, key=lambda t: t.__name__)


def example(schema: dict, root: dict | None = None) -> dict:
    """The first word of each vocabulary, the column's own text elsewhere."""
    root = root or schema
    found = {}
    for name, part in schema["properties"].items():
        if "$ref" in part:
            found[name] = example(root["$defs"][part["$ref"].rpartition("/")[2]], root)
        elif part["type"] == "array":
            found[name] = part["items"]["enum"][:1]
        else:
            found[name] = part["enum"][0] if "enum" in part else f"text of {name}"
    return found


def test_the_types_keys_are_the_released_columns_in_their_order():
    schema = json_schema()
    assert tuple(schema["properties"]) == CAPTION_TEXTS == tuple(LENGTH_BANDS)
    assert schema["required"] == list(CAPTION_TEXTS)
    assert schema["additionalProperties"] is False


def test_schema_and_type_accept_and_refuse_the_same_objects():
    broken = [
        {k: v for k, v in TEXTS.items() if k != "Style"},
        {**TEXTS, "Mood": "calm"},
        {**TEXTS, "Style": 3},
    ]
    jsonschema.validate(TEXTS, json_schema())
    assert CaptionTexts.model_validate(TEXTS).by_column() == TEXTS
    assert CaptionTexts.model_validate({**TEXTS, "Background": None}).by_column()["Background"] is None
    for answer in broken:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(answer, json_schema())
        with pytest.raises(ValidationError):
            CaptionTexts.model_validate(answer)


def test_a_plan_asks_for_each_text_and_label_once():
    for plan in Plan:
        text = json.dumps([json_schema(answer) for answer in ANSWERS[plan] if answer is not Merged])
        for name in (*CAPTION_TEXTS, *VOCABULARIES):
            asked_once = 1 if plan is Plan.GROUPED or name != "Summarized Description" else 2  # once more, of parts
            assert text.count(f'"{name}": {{"') == asked_once, name
    assert tuple(VOCABULARIES) == tuple(column.name for column in CAPTION_LABELS)
    assert set(json_schema(Merged)["properties"]) == set(CAPTION_TEXTS) - {"Summarized Description"}


@pytest.mark.parametrize("answer", ANSWER_TYPES, ids=lambda t: t.__name__)
def test_an_answer_is_closed_and_whole(answer):
    schema = json_schema(answer)
    good = example(schema)
    jsonschema.validate(good, schema)
    assert answer.model_validate_json(json.dumps(good)).model_dump(by_alias=True, mode="json") == good
    for part in (schema, *schema.get("$defs", {}).values()):
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False


def test_evidence_stands_before_the_labels_that_rest_on_it():
    for answer in (Scene, Picture):
        names = list(json_schema(answer)["properties"])
        labels = [names.index(name) for name in VOCABULARIES if name in names]
        assert names[0].endswith("_evidence")
        assert min(labels) > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"Summarized Description": " "}', "blank"),
        ('{"Summarized Description": "a\\u0007b"}', r"U\+0007"),
        ('{"Summarized Description": "a\ufffdb"}', r"U\+FFFD"),
        ('{"Summarized Description": "a\nb"}', "control character"),
        ('```json\n{"Summarized Description": "ab"}\n```', "expected value"),
        ('{"Summarized Description": "ab"', "EOF"),
        ('{"Summarized Description": "ab"} so', "trailing"),
        ("{}", "required"),
    ],
)
def test_what_is_not_an_answer_is_refused(text, said):
    with pytest.raises(ValidationError, match=said):
        Summary.model_validate_json(text)


def test_the_schema_tells_the_band_and_only_the_bounded_one_has_lengths():
    for answer in (CaptionTexts, Whole):
        assert "Length" not in json.dumps(json_schema(answer))
    for name, (shortest, longest) in LENGTH_BANDS.items():
        assert f"{shortest} to {longest} characters" in json_schema()["properties"][name]["description"]
    picture = bounded(json_schema(Whole))["$defs"]["Picture"]["properties"]
    assert (picture["Style"]["minLength"], picture["Style"]["maxLength"]) == (1, 644)
    assert "maxLength" in picture["picture_evidence"]
    assert "maxLength" not in picture["medium"]


def test_the_hash_follows_the_schema(monkeypatch):
    before = schema_hash()
    assert before == schema_hash(CaptionTexts) != schema_hash(*ANSWERS[Plan.GROUPED])
    monkeypatch.setattr("captioning.schema.json_schema", lambda answer: {"title": "other"})
    assert schema_hash() != before
