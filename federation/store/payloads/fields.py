"""What fields of several payloads are; JSON has UUIDs and moments as texts."""

from typing import Annotated, Any

from pydantic import Field

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# Counted from 1.
Number = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Object = dict[str, Any]
