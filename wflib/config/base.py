"""What sections of settings are made of: frozen models that know all their keys, and numbers with ranges."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DEVICE", "Count", "Device", "Finite", "Fraction", "NonNegative", "Positive", "Section", "Seed", "Time"]

Count = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
DEVICE = Field(description="auto takes a GPU where there is one.")


Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Time = Annotated[float, Field(ge=0, le=1, strict=True)]


class Section(BaseModel):
    """Settings that belong together: frozen, unknown names are errors, and so are NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
