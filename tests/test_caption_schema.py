# SPDX-License-Identifier: Apache-2.0
import json

import jsonschema
import pytest
from pydantic import ValidationError

from captioning.schema import LENGTH_BANDS, CaptionTexts, json_schema, schema_hash
from reelmill.tables import CAPTION_TEXTS

TEXTS = {name: f"text of {name}" for name in CAPTION_TEXTS}


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


def test_the_schema_tells_the_band_but_has_no_length_keyword():
    text = json.dumps(json_schema())
    assert "Length" not in text
    for name, (shortest, longest) in LENGTH_BANDS.items():
        assert f"{shortest} to {longest} characters" in json_schema()["properties"][name]["description"]


def test_the_hash_follows_the_schema(monkeypatch):
    before = schema_hash()
    assert before == schema_hash()
    monkeypatch.setattr("captioning.schema.json_schema", lambda: {**json_schema(), "title": "other"})
    assert schema_hash() != before
