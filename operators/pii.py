# SPDX-License-Identifier: Apache-2.0
"""Personal data that can be read in a clip: e-mail addresses and telephone numbers, counted, not kept."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from operators.contract import Operator, Resources
from operators.text import Text
from reelmill.column import Column
from reelmill.tables import CLIP_ID

STRINGS = next(column for column in Text.writes if column.name == "text_strings")
_FAILED = "null if no text was read"
# A reader of pictures leaves blanks around dots and signs, so those are allowed.
EMAIL = re.compile(r"[\w.+-]+ ?@ ?[\w-]+(?: ?\. ?[\w-]+)* ?\. ?[a-z]{2,24}\b", re.IGNORECASE)
# Digits in groups, with what people put between them; what is none is sorted out by `is_phone`.
DIGITS = re.compile(r"(?<![\w.])(?:\+|00)?\(?\d(?:[ ().\-/]{0,2}\d){6,16}(?![\w%])")
DATE = re.compile(r"(?:\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ]\d{4})")
ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}$")


@dataclass(frozen=True, kw_only=True)
class Pii(Operator):
    """Counts of what looks like an e-mail address or a telephone number in the lines that `text` read.

    Reads: text_strings. Writes: pii_num_emails, pii_num_phones, has_pii.
    Source: ours. Telephone numbers: 7-15 digits (ITU-T E.164), in groups or with an international prefix, or 10-11
        digits in a row; dates and network addresses are none.
    """

    name: ClassVar[str] = "pii"
    resources: ClassVar[Resources] = Resources(num_cpus=1.0, memory_gb=0.2)
    seconds_per_row: ClassVar[float] = 0.0005
    reads: ClassVar[tuple[Column, ...]] = (CLIP_ID, STRINGS)
    writes: ClassVar[tuple[Column, ...]] = (  # type: ignore[assignment]
        Column("pii_num_emails", pa.int32(), f"different e-mail addresses that were read; {_FAILED}"),
        Column("pii_num_phones", pa.int32(), f"different telephone numbers that were read; {_FAILED}"),
        Column("has_pii", pa.bool_(), f"any of the two; {_FAILED}"),
    )

    def process(self, state: None, batch: pa.Table) -> pa.Table:
        rows = [found_in(lines) for lines in batch[STRINGS.name].to_pylist()]
        return self.with_writes(batch, rows)


def found_in(lines: Iterable[str] | None) -> dict[str, Any]:
    """The columns of one clip."""
    if lines is None:
        return {}
    lines = list(lines)
    emails = {match.replace(" ", "").lower() for line in lines for match in EMAIL.findall(line)}
    phones = {re.sub(r"\D", "", match) for line in lines for match in DIGITS.findall(line) if is_phone(match)}
    return {"pii_num_emails": len(emails), "pii_num_phones": len(phones), "has_pii": bool(emails or phones)}


def is_phone(text: str) -> bool:
    """Whether a run of digits that DIGITS found is a telephone number."""
    text = text.strip()
    digits = re.sub(r"\D", "", text)
    if DATE.search(text) or ADDRESS.match(text) or not 7 <= len(digits) <= 15 or len(set(digits)) < 3:
        return False
    if text.startswith(("+", "00")):
        return True
    groups = re.findall(r"\d+", text)
    return (
        2 <= len(groups) <= 6 and len(digits) >= 8 and len(groups[-1]) >= 2
        if len(groups) > 1
        else 10 <= len(digits) <= 11
    )
