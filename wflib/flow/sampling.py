"""Drawing networks: steps along a flow, on the manifold where there is one, guided or disturbed on the way."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wflib.distributed import ours, put_together, world_size
from wflib.flow.conditioning import AS_IN_ZOO
from wflib.flow.fields import Asked, Field
from wflib.flow.flow import Flow
from wflib.flow.multistep import Multistep, as_it_is
from wflib.flow.solvers import SOLVERS, adaptive, require_solver
from wflib.flow.stochastic import AddedNoise, Diffusion
from wflib.velocity.preconditioning import Frame

__all__ = ["DIVERGED", "ExtraVelocity", "integrate", "sample"]

DIVERGED = "they ran there on the way: lower the guidance or condition_strength, or take more steps"
"""The remedy for draws that are not finite."""

ExtraVelocity = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) → what is added to the velocity, (batch, D)."""


@torch.no_grad()
def integrate(
    field: Field,
    x_0: Tensor,
    steps: int,
    guidance: ExtraVelocity | None = None,
    solver: str = "euler",
    stochastic: AddedNoise | Diffusion | None = None,
    keep: bool = False,
    last_step: float = 0.0,
) -> Tensor:
    """K steps from t = 0 to t = 1, equal ones, or K − 1 equal ones and a last one of the given length.

    K steps of ``euler`` and of ``multistep`` are exactly K evaluations, of ``heun`` 2 K, of ``rk4`` 4 K; steps of
    ``multistep`` are of order one under guidance, which moves points between them. The last Euler step of a flow, where
    h = 1 − t, lands on its prediction x̂_1 itself: the longer it is, the more of what the flow has learned of the end of
    its way is left out.

    Args:
        field: A trained flow, or another field with a geometry and a velocity.
        x_0: Starting points, (batch, D).
        steps: K, at least one; with ``dopri5`` only where trajectories are kept.
        guidance: Extra velocity; projected on the tangent space.
        solver: ``euler``, ``multistep``, ``heun``, ``rk4`` or ``dopri5``; the last in flat space.
        stochastic: Noise, or a diffusion, which goes with ``euler`` only.
        keep: Whether to return the points after every step, too.
        last_step: Length of the last step, below one; 0 for equal steps. Guidance goes no further in it than in the others:
            one gradient is too little for a long way.

    Returns:
        End points (batch, D), put where x_1 must lie; with ``keep`` (K + 1, batch, D), the starting points first.

    Raises:
        ValueError: ``steps`` is below one, or solver, geometry, noise and a last step do not go together.
    """
    if steps < 1:
        raise ValueError(f"integrate: steps must be at least 1, got {steps}.")
    if not 0 <= last_step < 1:
        raise ValueError(f"integrate: last_step expected from 0 to below 1, got {last_step}.")
    if stochastic is not None and solver in ("dopri5", "multistep"):
        raise ValueError(f"integrate: noise changes the path that {solver} goes by; choose another solver.")
    if last_step > 0 and (stochastic is not None or solver == "dopri5"):
        raise ValueError("integrate: last_step goes with neither noise nor dopri5, whose steps have lengths of their own.")
    if isinstance(stochastic, Diffusion) and solver != "euler":
        raise ValueError(f"integrate: a diffusion takes steps of its own, of order one; choose solver: euler, not {solver}.")
    if isinstance(stochastic, Diffusion) and isinstance(field, Asked) and field.strength != 0:
        raise ValueError(
            f"integrate: a diffusion keeps the marginals of a flow, and condition_strength: {field.strength:g} makes a "
            "field that has none, whose score is not known; choose condition_strength: 0, or noise in the diffusion's place."
        )
    geometry, lengths, share = field.geometry, steps_of(steps, last_step), 1.0
    require_solver(solver, geometry, "multistep", "dopri5")
    multistep = Multistep(geometry, frames(field, x_0), guidance is None) if solver == "multistep" else None

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        found = field.velocity(x, t)
        return found if guidance is None else found + share * geometry.tangent(x, guidance(x, t))

    if solver == "dopri5":
        points = list(adaptive(velocity, x_0, torch.linspace(0, 1, steps + 1, device=x_0.device)))
    else:
        points = [x_0]
        for time, h in lengths:
            x, share = points[-1], min(1.0, lengths[0][1] / h)
            if isinstance(stochastic, AddedNoise):
                x = stochastic.before(geometry, x, time)
            t = x.new_full((len(x),), time)
            if isinstance(stochastic, Diffusion):
                moved = stochastic.step(x, field.velocity(x, t), time, h)
                x = moved if guidance is None else moved + h * guidance(x, t)  # which is no part of the score
            elif multistep is not None:
                ahead = multistep.step(field.velocity(x, t), x, time, h)
                if guidance is not None:
                    ahead = ahead + h * share * geometry.tangent(x, guidance(x, t))
                x = geometry.step(x, ahead)
            else:
                x = SOLVERS[solver](velocity, geometry, x, t, h)
            points = [*points, x] if keep else [x]
    points[-1] = geometry.project_prediction(points[-1])
    return torch.stack(points) if keep else points[-1]


def steps_of(steps: int, last_step: float) -> list[tuple[float, float]]:
    """Where each step begins, and its length."""
    if last_step == 0 or steps == 1:
        return [(index / steps, 1 / steps) for index in range(steps)]
    h = (1 - last_step) / (steps - 1)
    return [*((index * h, h) for index in range(steps - 1)), (1 - last_step, last_step)]


def frames(field: Field, x: Tensor) -> Callable[[float], Frame]:
    """Where the Gaussian model of a field stands still, if it has one."""
    flow = field.flow if isinstance(field, Asked) else field
    return flow.preconditioner.frame if isinstance(flow, Flow) else as_it_is(x)


def sample(
    flow: Flow,
    networks: int,
    steps: int,
    generator: torch.Generator,
    guidance: ExtraVelocity | None = None,
    solver: str = "euler",
    stochastic: AddedNoise | Diffusion | None = None,
    condition: float | Tensor | str | None = None,
    condition_strength: float = 0.0,
    keep: bool = False,
    chunk: int = 256,
    progress: Callable[[int], None] | None = None,
    shared: bool = False,
    last_step: float = 0.0,
) -> Tensor:
    """Draw networks from a flow.

    Args:
        flow: A trained flow.
        networks: How many.
        steps: Steps of the solver.
        generator: Draws the starting points.
        guidance: Extra velocity, such as :class:`wflib.flow.Guidance`.
        solver: See :func:`integrate`; ``euler`` for a distilled flow.
        stochastic: Noise, or a diffusion with the flow's marginals.
        condition: Wished-for figure of a conditioned flow, one or (networks,), NaN for any; ``zoo`` for figures as networks
            of the zoo have them. None: so where the figure is the step, of which x_0 says nothing, else any.
        condition_strength: Classifier-free guidance w, see :class:`wflib.flow.Asked`.
        keep: Whether to return whole trajectories.
        chunk: Networks integrated at a time, which bounds memory.
        progress: Called with the number of networks drawn so far.
        shared: Whether all processes of :mod:`wflib.distributed` call this and share the work; where steps draw random
            numbers, in guidance or noise, each does all of it.
        last_step: Length of the last step, see :func:`integrate`; 0 for equal ones.

    Returns:
        Coordinates (networks, D), or (steps + 1, networks, D) with ``keep``; ``flow.coordinates.decode`` makes ordinary
        networks of them.

    Raises:
        ValueError: The arguments do not go together, or do not fit the flow.
    """
    if networks < 1:
        raise ValueError(f"sample: expected at least one network to draw, got {networks}.")
    if chunk < 1:
        raise ValueError(f"sample: chunk expected at least one network at a time, got {chunk}.")
    if flow.jumps and (solver != "euler" or isinstance(stochastic, Diffusion) or last_step > 0):
        raise ValueError(
            "sample: a distilled flow jumps by its mean velocity; choose solver: euler, without a diffusion or a last step."
        )
    if isinstance(condition, Tensor) and condition.numel() not in (1, networks):
        raise ValueError(f"sample: expected one condition or {networks}, one for each network, got {condition.numel()}.")
    if condition is None and condition_strength != 0:
        raise ValueError("sample: condition_strength needs a condition to be strong about.")
    if isinstance(condition, str) and (condition != AS_IN_ZOO or flow.condition is None):
        expected = "a number or zoo" if flow.condition is not None else "None, as this flow has no condition"
        raise ValueError(f"sample: condition expected {expected}, got {condition!r}; flow.condition: step trains one.")
    x_0 = flow.start.sample(networks, generator)
    figure = None if isinstance(condition, str) else condition
    if flow.condition is not None and (isinstance(condition, str) or (condition is None and flow.condition.name == "step")):
        figure = flow.condition.draw(networks, generator)
    apart = shared and world_size() > 1 and guidance is None and stochastic is None
    if apart and solver != "dopri5":  # whose steps depend on all networks of a chunk
        chunk = min(chunk, math.ceil(networks / world_size()))
    drawn: list[Tensor] = []
    done = 0
    for number, start in enumerate(x_0.split(chunk)):
        if apart and not ours(number):
            drawn.append(start.new_zeros((steps + 1, *start.shape) if keep else start.shape))
            done += len(start)
            continue
        field: Field = flow
        if figure is not None or flow.jumps:
            part = figure
            if isinstance(figure, Tensor) and figure.numel() > 1:
                part = figure[done : done + len(start)]
            field = Asked(flow, part, condition_strength, 1 / steps if flow.jumps else None)
        drawn.append(integrate(field, start, steps, guidance, solver, stochastic, keep, last_step))
        done += len(start)
        if progress is not None:
            progress(done)
    return put_together(torch.cat(drawn, -2)) if apart else torch.cat(drawn, -2)
