"""Settings of a task's data: which examples are in which part."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wflib.config.base import Section, Seed

__all__ = ["DataConfig"]


class DataConfig(Section):
    """How a task's examples are split into three parts."""

    split: Annotated[
        Seed,
        Field(
            description="Seed of the split; 42 for the usual parts. MNIST and Fashion-MNIST keep their published test "
            "images and choose others for validation; tasks without examples take 42 alone."
        ),
    ]
