"""How networks of others are read and chosen."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from wflib.config.base import Count, Section

__all__ = ["ReadConfig"]


class ReadConfig(Section):
    """How networks that others have trained are read and chosen; of no account with ``zoo.source: train``."""

    module: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = Field(
        None, description="package:function that makes a torch.nn.Module of the networks' class, or it and an example."
    )
    inputs: Annotated[list[Count], Field(min_length=1)] | None = Field(
        None, description="Shape of one example, as [1, 28, 28]; null for what the source says."
    )
    layers: Annotated[list[Count], Field(min_length=2)] | None = Field(
        None, description="Widths of a perceptron from inputs to outputs, where no file says them."
    )
    activation: str | None = Field(None, description="Nonlinearity, where no file says it or where it chooses networks.")
    task_type: Literal["classification", "regression"] | None = Field(
        None, description="What outputs mean; null for what the format says, classification where it says nothing."
    )
    orientation: Literal["in-out", "out-in"] | None = Field(
        None, description="How flat vectors hold weights: (inputs, outputs), or (outputs, inputs) as torch does."
    )
    key: str | None = Field(None, description="Entry of a checkpoint that holds the network, where several could.")
    pattern: str | None = Field(
        None,
        description="Regular expression of file paths with named groups run, step, or figures of merit, as (?P<run>\\d+).",
    )
    precision: Literal["float32", "float64", "as-is"] = Field(
        "float32", description="What weights become; flows compute in float32, whatever is read."
    )
    trajectories: Literal["source", "each"] = Field(
        "source", description="Training runs as the source says, or each network as one of its own."
    )
    other_architectures: Literal["refuse", "leave-out"] = Field(
        "refuse", description="What becomes of networks that are not what most are."
    )
    skip_broken: Annotated[
        bool, Field(strict=True, description="Leave out files that cannot be read, and say how many.")
    ] = False
    first_runs: Count | None = Field(None, description="So many training runs, the first in natural order; null for all.")
    settled: Annotated[float, Field(gt=0, le=1, strict=True)] | None = Field(
        None, description="Leave out a run's steps before settled_by has come down to this share of its range in that run."
    )
    settled_by: str = Field("validation_loss", description="The figure of merit that says when a run has settled.")
    snapshots: Literal["all", "last"] = Field("all", description="Networks of a run that are kept.")
    every: Count = Field(1, description="Every so-manieth network of a run, counted back from its last.")
    steps: Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(min_length=1)] | None = Field(
        None, description="Steps to keep."
    )
    where: list[str] = Field([], description="Conditions on steps and figures of merit, as test_accuracy >= 0.9.")
    held_out_runs: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Names of the runs that no flow sees, with * and ?; null for a share drawn by the seed."
    )

    @field_validator("pattern")
    @classmethod
    def names_something(cls, pattern: str | None) -> str | None:
        """A pattern without named groups would say nothing, and each file would be a run of its own."""
        try:
            named = pattern is None or re.compile(pattern).groupindex.keys() - {"seed"}
        except re.error as error:
            raise ValueError(f"expected a regular expression ({error})") from error
        if not named:
            raise ValueError("expected named groups: (?P<run>\\d+), (?P<step>\\d+), or figures, (?P<loss>[\\d.]+)")
        return pattern
