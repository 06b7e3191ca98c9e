# SPDX-License-Identifier: Apache-2.0
"""Which parts of frames a model gets at native size: promises as properties, and the cases that they are for."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.budget import RULES
from captioning.details import READABLE_PX, Detail, plan_details

RULE = RULES["qwen3_vl"]
SHARES = st.floats(0, 1)
LINES = st.builds(
    lambda pts, text, left, top, width, height: {
        "pts": pts,
        "text": text,
        "left": left,
        "top": top,
        "width": width * (1 - left),
        "height": height * (1 - top),
    },
    st.integers(0, 2),
    st.text("abc", min_size=1, max_size=12),
    SHARES,
    SHARES,
    SHARES,
    st.floats(0, 0.05),
)


def line(text: str, left: float = 0.4, top: float = 0.5, pts: int = 0, height: float = 0.01) -> dict[str, Any]:
    return {"pts": pts, "text": text, "left": left, "top": top, "width": 0.01 * len(text), "height": height}


def plan(*lines: dict[str, Any], shown_px: int = 540, max_num: int = 4, max_tokens: int = 500) -> tuple[Detail, ...]:
    return plan_details(lines, (3840, 2160), shown_px, (max_num, max_tokens), RULE)


@given(
    st.lists(LINES, max_size=12),
    st.tuples(st.integers(16, 4400), st.integers(16, 4400)),
    st.integers(16, 4400),
    st.integers(0, 5),
    st.integers(0, 700),
    st.sampled_from([RULES["qwen2_5_vl"], RULES["qwen3_vl"]]),
)
@settings(max_examples=200, deadline=None)
def test_details_keep_their_promises(
    lines: list[dict[str, Any]], size: tuple[int, int], shown_px: int, max_num: int, max_tokens: int, rule: Any
) -> None:
    found = plan_details(lines, size, shown_px, (max_num, max_tokens), rule)
    assert len(found) <= max_num
    assert sum(detail.num_tokens for detail in found) <= max_tokens
    texts = [text for detail in found for text in detail.texts]
    assert len(texts) == len(set(texts))
    for detail in found:
        assert detail.width_px % rule.factor == detail.height_px % rule.factor == 0
        assert detail.num_tokens == detail.width_px * detail.height_px // rule.factor**2 > 0
        assert 0 <= detail.left_px <= size[0] - detail.width_px
        assert 0 <= detail.top_px <= size[1] - detail.height_px
        assert all(any(line["text"] == text and line["pts"] == detail.pts for line in lines) for text in detail.texts)
    if shown_px >= size[1]:
        assert not found
    assert found == plan_details(lines[::-1], size, shown_px, (max_num, max_tokens), rule)


def test_a_line_that_can_be_read_in_the_frames_is_left_to_them() -> None:
    high, low = line("SALE", height=READABLE_PX / 540), line("SALE", height=(READABLE_PX - 1) / 540)
    assert not plan(high)
    assert [detail.texts for detail in plan(low)] == [("SALE",)]
    assert not plan(low, shown_px=2160)  # nothing is larger than native


def test_a_text_is_shown_once_where_it_is_largest_and_neighbours_share_a_box() -> None:
    small, large = line("EXIT", pts=0), line("EXIT", pts=1, height=0.012)
    below = line("no entry", left=0.38, top=0.515, pts=1)
    (one,) = plan(small, large, below)
    assert (one.pts, set(one.texts)) == (1, {"EXIT", "no entry"})
    apart = line("far away", left=0.9, top=0.1, pts=1)
    assert [set(detail.texts) for detail in plan(large, below, apart)] == [{"far away"}, {"EXIT", "no entry"}]


def test_most_letters_first_and_what_does_not_fit_is_left_out() -> None:
    lines = [line(text, left=0.1, top=0.1 + 0.2 * n) for n, text in enumerate(("a", "bb" * 20, "ccc"))]
    assert [detail.texts[0] for detail in plan(*lines, max_num=2)] == ["bb" * 20, "ccc"]
    assert [detail.texts[0] for detail in plan(*lines, max_tokens=20)] == ["a", "ccc"]
