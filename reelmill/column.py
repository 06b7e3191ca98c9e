# SPDX-License-Identifier: Apache-2.0
"""A column: its name, its Arrow type and what its values mean."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """One typed, documented column.

    Args:
        name: `<noun>_<unit>`; counts start with `num_`.
        dtype: Arrow type. Lists hold one value per frame or per sample.
        doc: one sentence with the unit and what null means.
    """

    name: str
    dtype: pa.DataType
    doc: str

    def __post_init__(self) -> None:
        if not self.name.isidentifier() and " " not in self.name:
            raise ValueError(f"column name {self.name!r} is not an identifier")
        if not self.doc:
            raise ValueError(f"column {self.name!r} has no doc")


def arrow_schema(columns: Iterable[Column], metadata: dict[str, str] | None = None) -> pa.Schema:
    """The Arrow schema of `columns`, each doc kept as field metadata. Raises ValueError on a repeated name."""
    fields: dict[str, pa.Field] = {}
    for column in columns:
        if column.name in fields:
            raise ValueError(f"column {column.name!r} is declared twice")
        fields[column.name] = pa.field(column.name, column.dtype, metadata={"doc": column.doc})
    return pa.schema(list(fields.values()), metadata=metadata)
