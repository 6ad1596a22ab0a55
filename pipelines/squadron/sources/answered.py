"""Answered: which questions of a corpus its rows do not answer, as SQuAD 2.0 has them.

Such a question cannot tell whether search finds the row, so nobody asks it. SQuAD says so in a column `answers`, whose
`text` is an empty list, or in a column `is_impossible`; a corpus without these columns has questions that are answered.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ANSWERS, IS_IMPOSSIBLE = "answers", "is_impossible"
_WRITTEN_EMPTY = re.compile(r"""\s*(?:\[\s*\]\s*$|\{.*['"]text['"]\s*:\s*(?:array\()?\[\s*\])""", re.DOTALL)
"""An empty list, or answers whose text is one, as JSON or Python write them into a cell of a CSV file."""


def has_no_answer(record: Mapping[str, Any]) -> bool:
    """Whether a record's question is one that it does not answer."""
    answers = record.get(ANSWERS)
    if isinstance(answers, Mapping):
        answers = answers.get("text")
    if isinstance(answers, str):
        return _WRITTEN_EMPTY.match(answers) is not None or _is_true(record.get(IS_IMPOSSIBLE))
    return answers == [] or _is_true(record.get(IS_IMPOSSIBLE))


def without_answer(table: pa.Table | pa.RecordBatch) -> np.ndarray | None:
    """`bool [rows]`: which questions their rows do not answer; None when the table does not say so."""
    unanswered: np.ndarray | None = None
    for name in (ANSWERS, IS_IMPOSSIBLE):
        mask = _of_column(table.column(name)) if name in table.schema.names else None
        if mask is not None:
            rows = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
            unanswered = rows if unanswered is None else unanswered | rows
    return unanswered


def _of_column(column: pa.Array | pa.ChunkedArray) -> pa.Array | None:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_struct(array.type) and array.type.get_field_index("text") >= 0:
        array = pc.struct_field(array, "text")
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return pc.equal(pc.list_value_length(array), 0)
    if pa.types.is_boolean(array.type):
        return array
    if pa.types.is_string(array.type):
        return pc.match_substring_regex(array, f"(?s)^{_WRITTEN_EMPTY.pattern}")
    return None


def _is_true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "1"))
