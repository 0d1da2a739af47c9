"""Preconditioning by a Gaussian model of (x_0, x_1), so that a network sees and predicts unit-variance quantities.

With x_t = a x_0 + b x_1 (a = 1 − t, b = t on straight paths; sine ratios of the mean angle on spheres) and, per pool of
coordinates, means μ_0, μ_1, deviations s_0, s_1 and covariance s_01 of the coupling in use:

    c² = a² s_0² + 2 a b s_01 + b² s_1²                       variance of x_t
    k  = (a s_01 + b s_1²) / c²                               regression of x_1 on x_t
    o² = a² (s_0² s_1² − s_01²) / c²                          what is left of x_1's variance
    x̂_1 = μ_1 + k (x_t − a μ_0 − b μ_1) + o F((x_t − a μ_0 − b μ_1) / c, t)

F = 0 is the posterior mean of the Gaussian model; k → 1 and o → 0 as t → 1, so x̂_1 → x_t there. With path noise the pairs
are those of ends that it has moved, so that moments contain it, and x̂_1 is the moved end. Where paths are bent between
x_0 and x_1, o is stretched to what this model leaves open of their displacements, pool by pool. After Karras et al.,
"Elucidating the design space of diffusion-based generative models" (2022), section 5, extended to dependent couplings.

Networks that are not preconditioned, as published ones are, predict x̂_1 = F(x_t, t): centres and k are 0, scales are 1.

On straight paths the Gaussian model's own flow stands still in z = (x_t − a μ_0 − b μ_1) / c, and a network turns z by its
prediction:

    dz/dt = F φ'(t),   φ = atan2(b √det, a s_0² + b s_01),   φ' = √det / c²,   det = s_0² s_1² − s_01²:

what :mod:`wflib.flow.multistep` takes its steps in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture
from wflib.manifold.sphere import sine_ratio
from wflib.symmetry import pool, pooling_index

__all__ = ["Coefficients", "Frame", "Preconditioner", "bulk", "without_outliers"]

BULK = 10.0
QUANTILE_VALUES = 2**22


@dataclass(frozen=True)
class Coefficients:
    """The formulas above at given times: each (batch, D)."""

    centre: Tensor
    input_scale: Tensor
    skip: Tensor
    output_scale: Tensor


@dataclass(frozen=True)
class Frame:
    """Coordinates z = (x − mean) / deviation at one time, in which a Gaussian model's flow stands still: each (D,).

    Attributes:
        mean: m(t).
        drift: m'(t).
        deviation: c(t).
        growth: c'(t) / c(t).
        phase: φ(t), by which z turns.
        pace: φ'(t).
    """

    mean: Tensor
    drift: Tensor
    deviation: Tensor
    growth: Tensor
    phase: Tensor
    pace: Tensor


class Preconditioner(nn.Module):
    """Moments per pool of coordinates, and the coefficients made of them.

    Args:
        architecture: Architecture of the flow's coordinates.
        identities: Whether every coordinate has statistics of its own, rather than one with those it can be permuted with.
        bent: Whether paths are bent, so that o is stretched (:meth:`stretch_to`).
        plain: Whether the network is not preconditioned; moments are measured all the same.
    """

    index: Tensor
    mean_0: Tensor
    mean_1: Tensor
    deviation_0: Tensor
    deviation_1: Tensor
    covariance: Tensor
    angle: Tensor
    stretch: Tensor | None
    STATISTICS = ("mean_0", "mean_1", "deviation_0", "deviation_1", "covariance", "angle")

    def __init__(
        self, architecture: Architecture, identities: bool = False, bent: bool = False, plain: bool = False
    ) -> None:
        super().__init__()
        self.plain = plain
        self.register_buffer("index", pooling_index(architecture, identities), persistent=False)
        pools = int(self.index.max()) + 1
        for name in self.STATISTICS:
            self.register_buffer(name, torch.ones(pools) if name.startswith("deviation") else torch.zeros(pools))
        self.register_buffer("stretch", torch.ones(pools) if bent else None)

    def fit(self, x_0: Tensor, x_1: Tensor, angle: Tensor) -> None:
        """Set the moments from coupled pairs.

        A few values far outside of what is usual in their pool count as its edge (:func:`without_outliers`), and no
        deviation is zero: of a side that hardly varies it is a thousandth of the other side's. What lies as the prior's own
        values do is never outside: in a pruned layer most weights are all but zero, and those that count lie far from them.

        Args:
            x_0: Prior side of the pairs, (pairs, D).
            x_1: Data side, (pairs, D).
            angle: Mean angle between x_0 and x_1 of each coordinate's sphere, zero for flat coordinates, (D,).

        Raises:
            ValueError: Values so large that single precision cannot hold their moments.
        """
        index = self.index
        largest = max(x_0.abs().max().item(), x_1.abs().max().item())
        x_0, x_1 = without_outliers(x_0, index), without_outliers(x_1, index, bulk(x_0, index)[1])

        def moment(values: Tensor) -> Tensor:
            return pool(values.double().mean(0), index)

        mean_0, mean_1 = moment(x_0), moment(x_1)
        centred_0, centred_1 = x_0 - mean_0[index].to(x_0), x_1 - mean_1[index].to(x_1)
        deviation_0 = moment(centred_0.square()).sqrt()
        deviation_1 = moment(centred_1.square()).sqrt()
        # A pool of which a side never varies would ask for division by zero: snapshots of one run share a beginning.
        least = torch.finfo(x_1.dtype).eps * torch.maximum(mean_0.abs(), mean_1.abs()).clamp_min(1)
        deviation_0 = torch.maximum(deviation_0, 1e-3 * deviation_1).maximum(least)
        deviation_1 = torch.maximum(deviation_1, 1e-3 * deviation_0)
        # Rank one coupling (|correlation| = 1) would leave nothing to predict and a zero output scale.
        bound = 0.9999 * deviation_0 * deviation_1
        covariance = moment(centred_0 * centred_1).clamp(-bound, bound)
        for name, value in zip(
            self.STATISTICS, (mean_0, mean_1, deviation_0, deviation_1, covariance, pool(angle.double(), index)), strict=True
        ):
            getattr(self, name).copy_(value)
        found = self(torch.tensor([0.0, 0.5], device=index.device).to(self.mean_0))
        if not all(bool(torch.isfinite(part).all()) for part in vars(found).values()):
            raise ValueError(
                f"train-flow: expected weights whose moments single precision can hold, found values up to {largest:.3g}; "
                "leave out networks with huge weights or biases, or choose canonicalize.norm: weights-and-bias and a "
                "flow.geometry other than euclidean."
            )

    def model(self, centred: Tensor, coefficients: Coefficients) -> Tensor:
        """μ_1 + k (x_t − a μ_0 − b μ_1), the Gaussian model's x̂_1 of a centred x_t, both (batch, D); 0 if plain."""
        if self.plain:
            return torch.zeros_like(centred)
        return self.data_mean + coefficients.skip * centred

    @torch.no_grad()
    def stretch_to(self, missed: Tensor) -> None:
        """Stretch o, where paths are bent, to what the Gaussian model misses of displacements, over o: (points, D)."""
        if self.stretch is not None:
            self.stretch.mul_(pool(missed.square().double().mean(0), self.index).sqrt().clamp_min(1e-3))

    @torch.no_grad()
    def move(self, shift: Tensor, ratio: Tensor) -> None:
        """Follow a change of the prior, such as other hidden widths: μ ← ratio μ + shift, deviations ← ratio · deviations.

        Args:
            shift: Added to both means, (pools,).
            ratio: Factor of every width, (pools,).
        """
        for mean in (self.mean_0, self.mean_1):
            mean.mul_(ratio).add_(shift)
        for deviation in (self.deviation_0, self.deviation_1):
            deviation.mul_(ratio)
        self.covariance.mul_(ratio.square())

    def forward(self, t: Tensor) -> Coefficients:
        """Coefficients at times (batch,)."""
        if self.plain:
            nothing = torch.zeros(len(t), len(self.index), dtype=self.mean_0.dtype, device=self.index.device)
            return Coefficients(nothing, nothing + 1, nothing, nothing + 1)
        t = t[:, None]
        a, b = sine_ratio(1 - t, self.angle), sine_ratio(t, self.angle)
        s_0, s_1, s_01 = self.deviation_0.square(), self.deviation_1.square(), self.covariance
        variance = a.square() * s_0 + 2 * a * b * s_01 + b.square() * s_1
        left = (a.square() * (s_0 * s_1 - s_01.square()) / variance).sqrt()
        if self.stretch is not None:
            left = left * self.stretch
        parts = (a * self.mean_0 + b * self.mean_1, variance.rsqrt(), (a * s_01 + b * s_1) / variance, left)
        return Coefficients(*(part[:, self.index] for part in parts))

    def frame(self, t: float) -> Frame:
        """Where the Gaussian model's flow stands still at time t; coordinates on spheres stay as they are (z = x, φ = t)."""
        a, b = 1 - t, t
        s_0, s_1, s_01 = self.deviation_0.double().square(), self.deviation_1.double().square(), self.covariance.double()
        mean_0, mean_1, root = self.mean_0.double(), self.mean_1.double(), (s_0 * s_1 - s_01.square()).sqrt()
        variance = a * a * s_0 + 2 * a * b * s_01 + b * b * s_1
        straight, still = self.angle == 0, torch.zeros_like(s_0)
        parts = (
            (a * mean_0 + b * mean_1, still),
            (mean_1 - mean_0, still),
            (variance.sqrt(), still + 1),
            ((b * s_1 - a * s_0 + (a - b) * s_01) / variance, still),
            (torch.atan2(b * root, a * s_0 + b * s_01), still + t),
            (root / variance, still + 1),
        )
        return Frame(*(torch.where(straight, flat, sphere)[self.index].to(self.mean_0) for flat, sphere in parts))

    @property
    def data_mean(self) -> Tensor:
        """μ_1 of every coordinate, (D,)."""
        return self.mean_1[self.index]


def bulk(values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Median of every pool, and half of the distance between its 10 % and 90 % quantiles, both (pools,)."""
    some = values[: max(1, QUANTILE_VALUES // values.shape[1])]
    flat, pools = some.flatten(), index.repeat(len(some))
    order = flat.argsort()
    ranked = flat[order[pools[order].argsort(stable=True)]]
    counts = torch.bincount(pools)
    first = counts.cumsum(0) - counts
    low, middle, high = (ranked[first + ((counts - 1) * share).round().long()] for share in (0.1, 0.5, 0.9))
    return middle, (high - low) / 2


def without_outliers(values: Tensor, index: Tensor, least: Tensor | None = None) -> Tensor:
    """Values with those far outside of their pool's bulk put on its edge; the very same numbers where there are none.

    The edge is ten times half of the distance between the 10 % and 90 % quantiles away from the median: 13 deviations of a
    normal distribution. Otherwise one neuron that weight decay has all but removed, whose bias is divided by its norm, would
    decide the moments of all.

    Args:
        values: (points, D).
        index: Pool of each coordinate, (D,).
        least: That half of the distance is at least so large, (pools,); None for any.

    Returns:
        (points, D).
    """
    middle, half = bulk(values, index)
    # A pool most of which is one number (neurons that are dead in most networks) has no bulk to measure by.
    reach = torch.where(half > 0, BULK * (half if least is None else half.maximum(least)), torch.inf)
    return values.clamp((middle - reach)[index], (middle + reach)[index])
