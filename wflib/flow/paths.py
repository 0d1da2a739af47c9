"""Paths that follow training: from x_0 through the early snapshots of a run to its network x_1.

Training is bent: small transformers go twice as far as their two ends lie apart, and where a network goes next is said by
the gradient where it is, hardly by those at the ends. A flow may therefore learn the polygon

    x_0 = y_0, y_1, …, y_P, y_{P+1} = x_1,     x_t on the side y_k y_{k+1}, at its share (t − τ_k) / (τ_{k+1} − τ_k),

of which y_1 … y_P are the run's early snapshots and each side is the geometry's path. τ_k is the length up to y_k over the
whole, both means over runs, so that flows move about as fast everywhere. It is still a conditional path from a draw of the
prior to a network, whatever the coupling: the marginals at t = 0 and t = 1 are those of straight paths. But the velocity u_t
is none towards E[x_1 | x_t], and x_t + (1 − t) u_t no prediction of x_1.
"""

from __future__ import annotations

from itertools import chain, pairwise

import torch
from torch import Tensor

from wflib.flow.flow import Flow
from wflib.zoo import AnyZoo

__all__ = ["TrainingPaths"]

LATEST_SHARE = 0.999
"""Of a side: what is left of it gives the direction of the velocity, and is divided by."""

FAR = 10
"""Times the median length of a side counts as its longest: one network with a huge weight would set the pace of all."""


class TrainingPaths:
    """The polygons of a zoo's runs.

    Attributes:
        times: τ of all corners from 0 to 1, (P + 2,), of equal distances until :meth:`fit`.

    Args:
        flow: Gives coordinates and geometry.
        zoo: Of the form the geometry works on, with early snapshots.

    Raises:
        ValueError: No early snapshots, or not as many of every run.
    """

    def __init__(self, flow: Flow, zoo: AnyZoo) -> None:
        early = zoo.early_part
        counts = torch.bincount(early.trajectory, minlength=int(zoo.trajectory.max()) + 1)
        counts = counts[torch.unique(zoo.trajectory)]
        least, most = int(counts.min()), int(counts.max())
        if least != most or most == 0:
            found = "none" if most == 0 else f"{least} to {most}"
            raise ValueError(
                f"flow.path: training expected as many early snapshots of every run, one at least, found {found}; set "
                "zoo.early_snapshots, or choose flow.path: straight."
            )
        self.flow, self.early = flow, early.whole() if early.fits_memory else early
        self.dtype = flow.preconditioner.mean_0.dtype
        self.corners = flow.coordinates.encode(self.early.networks).to(self.dtype) if early.fits_memory else None
        order = early.step.argsort(stable=True)
        order = order[early.trajectory[order].argsort(stable=True)].view(-1, most)
        self.rows = torch.zeros(int(early.trajectory.max()) + 1, most, dtype=torch.int64)
        self.rows[early.trajectory[order[:, 0]]] = order
        self.times = torch.linspace(0, 1, most + 2)

    def side(self, runs: Tensor, number: Tensor, x_0: Tensor, x_1: Tensor) -> tuple[Tensor, Tensor]:
        """Where the sides of some polygons begin and end.

        Args:
            runs: Trajectory of each pair, (batch,).
            number: Which side of it, 0 … P, (batch,).
            x_0: (batch, D).
            x_1: (batch, D).

        Returns:
            Both (batch, D).
        """
        last = self.sides - 1
        before, after = (self.corner(runs, (number + ahead).clamp(0, last - 1)).to(x_1) for ahead in (-1, 0))
        first, end = ((number == place)[:, None].to(x_1.device) for place in (0, last))
        return torch.where(first, x_0, before), torch.where(end, x_1, after)

    def corner(self, runs: Tensor, number: Tensor) -> Tensor:
        """Early snapshots of some runs, (batch, D)."""
        rows = self.rows[runs, number]
        if self.corners is not None:
            return self.corners[rows]
        return self.flow.coordinates.encode(self.early[rows].networks).to(self.dtype)

    @property
    def sides(self) -> int:
        """Of each polygon, P + 1."""
        return self.rows.shape[1] + 1

    def fit(self, runs: Tensor, x_0: Tensor, x_1: Tensor) -> None:
        """Measure how long the sides are; arguments of :meth:`at`."""
        lengths = []
        early = (self.corner(runs, torch.full_like(runs, number)).to(x_1) for number in range(self.sides - 1))
        for before, after in pairwise(chain([x_0], early, [x_1])):
            length = self.flow.geometry.displacement(before, after).norm(dim=1).cpu()
            lengths.append(length.clamp_max(FAR * length.median()).mean())
        reached = torch.stack(lengths).double().cumsum(0)
        self.times[1:] = reached / reached[-1]

    def at(self, runs: Tensor, x_0: Tensor, x_1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Points of the polygons, and (1 − t) dx_t/dt, both (batch, D).

        Args:
            runs: Trajectory of each pair, (batch,).
            x_0: (batch, D).
            x_1: (batch, D).
            t: In [0, 1), (batch,).
        """
        when = t.cpu().to(self.times).contiguous()
        number = torch.searchsorted(self.times, when, right=True).sub(1).clamp(0, self.sides - 1)
        before, after = self.side(runs, number, x_0, x_1)
        since, until = self.times[number], self.times[number + 1]
        share = ((when - since) / (until - since)).clamp_max(LATEST_SHARE)
        x_t = self.flow.geometry.interpolate(before, after, share.to(x_1))
        rate = (1 - when) / ((1 - share) * (until - since))
        return x_t, rate[:, None].to(x_1) * self.flow.geometry.displacement(x_t, after)
