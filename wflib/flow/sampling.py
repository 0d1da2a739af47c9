"""Drawing networks: Euler steps along the flow, on the manifold where there is one, with optional guidance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wflib.flow.flow import Flow

__all__ = ["Guidance", "integrate", "sample"]

Guidance = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) → what is added to the velocity, (batch, D)."""


@torch.no_grad()
def integrate(flow: Flow, x_0: Tensor, steps: int, guidance: Guidance | None = None) -> Tensor:
    """K Euler steps from t = 0 to t = 1: exactly K evaluations of the network.

    x ← step(x, h u_t(x)), h = 1/K. The last step, where h = 1 − t, lands on the prediction itself, so t = 1 is never
    evaluated.

    Args:
        flow: A trained flow.
        x_0: Starting points, (batch, D).
        steps: K, at least one.
        guidance: Extra velocity; projected on the tangent space.

    Returns:
        End points (batch, D), put where x_1 must lie.

    Raises:
        ValueError: ``steps`` is below one.
    """
    if steps < 1:
        raise ValueError(f"integrate: steps must be at least 1, got {steps}.")
    geometry, x = flow.geometry, x_0
    for index in range(steps):
        t = x.new_full((len(x),), index / steps)
        velocity = flow.velocity(x, t)
        if guidance is not None:
            velocity = velocity + geometry.tangent(x, guidance(x, t))
        x = geometry.step(x, velocity / steps)
    return geometry.project_prediction(x)


def sample(
    flow: Flow,
    networks: int,
    steps: int,
    generator: torch.Generator,
    guidance: Guidance | None = None,
    chunk: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw networks from a flow.

    Args:
        flow: A trained flow.
        networks: How many.
        steps: Euler steps.
        generator: Draws the starting points.
        guidance: Extra velocity.
        chunk: Networks integrated at a time, which bounds memory.
        progress: Called with the number of networks drawn so far.

    Returns:
        Coordinates (networks, D); ``flow.coordinates.decode`` makes ordinary networks of them.
    """
    x_0 = flow.prior.sample(networks, generator)
    drawn = []
    for start in x_0.split(chunk):
        drawn.append(integrate(flow, start, steps, guidance))
        if progress is not None:
            progress(sum(map(len, drawn)))
    return torch.cat(drawn)
