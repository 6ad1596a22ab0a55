"""What sections of settings are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
# A local path or an fsspec URI. A relative path is taken from the place that set it.
LOCATION: dict[str, JsonValue] = {"location": True}
# Where a service is, to which its key is sent.
ADDRESS: dict[str, JsonValue] = {"address": True}


class Section(BaseModel):
    """Frozen, typed, unknown keys refused; its errors do not show values, which may be secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True)
