# SPDX-License-Identifier: Apache-2.0
"""A rule: a condition on one column, the gate at which it is looked at, and what a row becomes that fails it."""

from functools import cached_property
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from reelmill.column import Column

SELECT_VERSION = 1  # raise it when the same rules and scores would give other rows
GATES = ("header", "measure", "models", "dedup", "captions")  # cheap to dear
Gate = Literal["header", "measure", "models", "dedup", "captions"]
Number = Annotated[float, Field(allow_inf_nan=False)]

# Derived from `sources` for header rules.
HEADER_COLUMNS = (
    Column("long_side_px", pa.int32(), "larger of width and height after rotation, pixels; null if unknown"),
    Column("short_side_px", pa.int32(), "smaller of width and height after rotation, pixels; null if unknown"),
    Column("display_aspect", pa.float64(), "width over height as displayed, pixel aspect applied; null if unknown"),
)


class Section(BaseModel):
    """Frozen and strict: no unknown keys, no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Where(Section):
    """Which rows a rule is about: those whose `column` lies within [min, max]; a null lies nowhere."""

    column: str
    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _has_bounds(self) -> "Where":
        if self.min is None and self.max is None:
            raise ValueError(f"where on {self.column!r} needs min and/or max")
        return self

    @property
    def text(self) -> str:
        """`short_side_px >= 720`"""
        return f"{self.column} {_bounds(self.min, self.max)}"


class Rule(Section):
    """A condition on one column. A row that does not meet it gets `tier`, with a reason.

    Args:
        name: unique in the recipe.
        column: a scalar column, or a list column of samples if `max_bad_share` is given. Rules of gate `header` see
            the columns of `sources`; all others see the clip's scores.
        min, max: inclusive bounds, in the column's unit, rounded to the column's precision before comparing.
        in_: (key `in`) the allowed values.
        on_null: what a null or NaN means: `reject` fails the rule (reason `unmeasured:<column>`), `keep` meets it.
        gate: the round after which the column exists.
        max_bad_share: the largest allowed share (0-1) of samples that lie outside [min, max].
        where: the rows that the rule is about, such as one size tier; null: all.
        tier: what a row that fails becomes: `reject`, or `condition_only` (captioned, tokenized, not trained on as is).
        source: who published the number, or `ours` and why.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$")
    column: str
    min: Number | None = None
    max: Number | None = None
    in_: tuple[bool | int | float | str, ...] | None = Field(default=None, alias="in", min_length=1)
    on_null: Literal["reject", "keep"] = "reject"
    gate: Gate = "measure"
    max_bad_share: float | None = Field(default=None, ge=0, le=1)
    where: Where | None = None
    tier: Literal["reject", "condition_only"] = "reject"
    source: str = "ours"

    @field_validator("name")
    @classmethod
    def _not_an_index(cls, name: str) -> str:
        if name.isdecimal():
            raise ValueError(f"{name!r} is a number; a name must differ from an index")
        return name

    @model_validator(mode="after")
    def _shape(self) -> "Rule":
        has_bounds = self.min is not None or self.max is not None
        if has_bounds == (self.in_ is not None):
            raise ValueError(f"rule {self.name!r} needs min and/or max, or in" + (", not both" if has_bounds else ""))
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"rule {self.name!r}: min {self.min:g} is greater than max {self.max:g}")
        if self.max_bad_share is not None and not has_bounds:
            raise ValueError(f"rule {self.name!r}: max_bad_share needs min or max, a sample outside them is bad")
        return self

    @cached_property
    def threshold(self) -> str:
        """The condition as text: `>= 3840`, `in [h264, hevc]`, `<= 5 % of samples outside >= 3`.

        With `where`, the rows it is about follow: `<= 0.01 where short_side_px >= 720`.
        """
        text = f"in [{', '.join(map(_plain, self.in_))}]" if self.in_ is not None else _bounds(self.min, self.max)
        text = text if self.max_bad_share is None else f"<= {self.max_bad_share * 100:g} % of samples outside {text}"
        return text if self.where is None else f"{text} where {self.where.text}"


def type_problem(rule: Rule, dtype: pa.DataType) -> str | None:
    """Why `rule` cannot judge a column of type `dtype`; null if it can."""
    is_list = pa.types.is_list(dtype) or pa.types.is_large_list(dtype)
    if rule.max_bad_share is not None:
        if is_list and _is_number(dtype.value_type):
            return None
        return f"max_bad_share needs a list of samples (a `*_samples` column), {rule.column!r} is {dtype}"
    if is_list or pa.types.is_struct(dtype):
        return f"column {rule.column!r} is {dtype}; a rule on a list needs max_bad_share"
    if rule.in_ is None:
        return None if _is_number(dtype) else f"min and max need a number, {rule.column!r} is {dtype}; use in"
    wrong = [value for value in rule.in_ if not _fits(value, dtype)]
    return f"in holds {wrong[0]!r}, which is no {dtype} as column {rule.column!r} is" if wrong else None


def _is_number(dtype: pa.DataType) -> bool:
    return pa.types.is_integer(dtype) or pa.types.is_floating(dtype)


def _fits(value: bool | float | str, dtype: pa.DataType) -> bool:
    if pa.types.is_boolean(dtype) or isinstance(value, bool):
        return pa.types.is_boolean(dtype) and isinstance(value, bool)
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return isinstance(value, str)
    if pa.types.is_integer(dtype):
        return isinstance(value, int)
    return pa.types.is_floating(dtype) and isinstance(value, int | float)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{_plain(low)} .. {_plain(high)}"
    return f">= {_plain(low)}" if low is not None else f"<= {_plain(high)}"
