"""What networks cost: to draw, to train anew, and from how many on drawing pays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wflib.report.tables import duration

__all__ = ["Cost", "cost_of_run"]

ZOO_STAGES = ("fetch-data", "train-zoo", "align", "canonicalize")
"""What comes before any fit."""


@dataclass(frozen=True)
class Cost:
    """Seconds on one machine.

    Attributes:
        before: All that comes before the first draw: the zoo, what is done to it, and the fit.
        draw: Of one network drawn.
        training: Of one network made anew by the zoo's recipe, as many at once as the zoo had: a run, or a draw of chains.
    """

    before: float
    draw: float
    training: float

    @property
    def pays_from(self) -> float:
        """Number of networks from which drawing is cheaper than training: before / (training − draw); infinite if never."""
        return self.before / (self.training - self.draw) if self.draw < self.training else math.inf

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers for a JSON file; ``pays_from`` is left out where drawing never pays."""
        found = {"seconds_before": self.before, "seconds_per_draw": self.draw, "seconds_per_training": self.training}
        return found | ({"pays_from": self.pays_from} if math.isfinite(self.pays_from) else {})

    def sentence(self) -> str:
        """For the head of the report."""
        told = (
            f"cost: drawing a network takes {milliseconds(self.draw)}, training one anew {milliseconds(self.training)}, all "
            f"that comes before the first draw {duration(self.before)}"
        )
        if math.isinf(self.pays_from):
            return f"{told}: drawing never pays, training anew is cheaper."
        return f"{told}: drawing pays from {significant(self.pays_from)} networks on."


def cost_of_run(seconds: Mapping[str, float], drawing: Mapping[str, Any], trained: int, from_zoo: bool = True) -> Cost:
    """The cost of a pipeline's run.

    Args:
        seconds: Stage → its seconds.
        drawing: What the stage sample says of itself: ``networks``, ``draw_seconds``, and of another model than the flow
            ``fit_seconds``, which then count in the place of train-flow's.
        trained: Trajectories that the stage train-zoo trained, or draws of its chains.
        from_zoo: Whether the model that was drawn from learns from the zoo, whose seconds count then.
    """
    before = sum(seconds[stage] for stage in ZOO_STAGES) if from_zoo else seconds["fetch-data"]
    before += drawing["fit_seconds"] if "fit_seconds" in drawing else seconds["train-flow"]
    return Cost(before, drawing["draw_seconds"] / drawing["networks"], seconds["train-zoo"] / trained)


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def significant(number: float) -> str:
    """Two significant figures, with thousands apart."""
    digits = max(0, int(np.floor(np.log10(number))) - 1)
    return f"{round(number, -digits):,.0f}"
