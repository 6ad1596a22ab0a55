"""What sections of settings are made of."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PositiveInt, StringConstraints
from pydantic_core import PydanticCustomError

_METADATA_COLUMN = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,62}(=.+)?$", re.DOTALL)


def _metadata_column(entry: str) -> str:
    if not _METADATA_COLUMN.match(entry):
        raise PydanticCustomError(
            "metadata_column",
            "text that is a name in the index, of letters, digits and _; or NAME=COLUMN where the corpus calls it "
            "otherwise, for example 'page_no=Page No', and a dot reaches into objects: 'author=meta.author'",
        )
    return entry


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
# A column to store: NAME, or NAME=COLUMN where the corpus calls it otherwise.
MetadataColumn = Annotated[
    str, AfterValidator(_metadata_column), Field(json_schema_extra={"pattern": _METADATA_COLUMN.pattern})
]
Bytes = PositiveInt
Fraction = Annotated[float, Field(ge=0, le=1)]
# A local path or an fsspec URI. A relative path is taken from the place that set it.
LOCATION: dict[str, JsonValue] = {"location": True}
# Where a service is, to which its key is sent.
ADDRESS: dict[str, JsonValue] = {"address": True}


class Section(BaseModel):
    """Frozen, typed, unknown keys refused; its errors do not show values, which may be secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True)
