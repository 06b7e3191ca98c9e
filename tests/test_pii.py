# SPDX-License-Identifier: Apache-2.0
"""What is taken for personal data in text that was read from pictures, and what is not."""

import pyarrow as pa
import pytest

from operators.pii import Pii, found_in


@pytest.mark.parametrize(
    ("line", "emails", "phones"),
    [
        ("write to jo.doe+a@mail.example.com today", 1, 0),
        ("INFO @ REELMILL . ORG", 1, 0),
        ("Tel. +49 (0)30 123456-78", 0, 1),
        ("(212) 555-0123", 0, 1),
        ("0171/2345678", 0, 1),
        ("13800138000", 0, 1),
        ("06 12 34 56 78", 0, 1),
        ("2024-06-15 31.12.2023", 0, 0),
        ("192.168.10.255", 0, 0),
        ("4K 3840x2160 60fps 1/250 f2.8", 0, 0),
        ("00000000000", 0, 0),
        ("12:30:45 - 12:31", 0, 0),
        ("$1,299,000.00", 0, 0),
        ("@reelmill", 0, 0),
        ("ISBN 9783161484100", 0, 0),
    ],
)
def test_lines(line: str, emails: int, phones: int) -> None:
    found = found_in([line])
    assert (found["pii_num_emails"], found["pii_num_phones"]) == (emails, phones)
    assert found["has_pii"] == bool(emails or phones)


def test_the_operator_counts_different_ones_and_keeps_none() -> None:
    lines = [["a@b.org", "A@B.ORG", "c@d.org"], [], None]
    table = pa.table({"clip_id": ["x", "y", "z"], "text_strings": pa.array(lines, pa.list_(pa.string()))})
    rows = Pii().process(None, table).to_pylist()
    assert [row["pii_num_emails"] for row in rows] == [2, 0, None]
    assert [row["has_pii"] for row in rows] == [True, False, None]
    assert [row["error_kind"] for row in rows] == [None] * 3
