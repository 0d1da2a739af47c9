"""Flows for those who want networks, not coordinates: draw ordinary networks, and say how likely given ones are.

>>> from tempfile import TemporaryDirectory
>>> from wflib.architecture import mlp
>>> from wflib.config import load_settings
>>> from wflib.flow import Coordinates, Flow, draw_networks, load_flow, log_likelihood_of_networks, save_flow
>>> settings = load_settings(changes=["velocity.dimension=16", "velocity.layers=1", "velocity.gradient_examples=0"])
>>> folder = TemporaryDirectory()
>>> path = f"{folder.name}/flow.safetensors"
>>> save_flow(path, Flow(settings.flow, settings.velocity, Coordinates(mlp([30, 16, 16, 2])), 0.3))  # as train-flow does

Three lines from a file to state dicts of ``torch.nn.Sequential``:

>>> flow = load_flow(path)
>>> networks = draw_networks(flow, 3, seed=0, steps=2)
>>> states = networks.state_dicts()  # networks.module() is all of them at once

And back, from a state dict to its log-likelihood in nats:

>>> log_likelihood_of_networks(flow, states[0], steps=2).shape
torch.Size([1])
>>> folder.cleanup()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.flow.flow import Flow
from wflib.flow.likelihood import draw_probes, log_likelihood
from wflib.flow.sampling import DIVERGED, sample
from wflib.networks import Networks, require_finite
from wflib.rng import generator

__all__ = ["draw_networks", "log_likelihood_of_coordinates", "log_likelihood_of_networks", "ordinary_architecture"]


def ordinary_architecture(flow: Flow) -> Architecture:
    """What the drawn networks are: the coordinates' architecture, without the output scale of canonical ones."""
    return flow.architecture.ordinary_form()


def draw_networks(flow: Flow, networks: int, seed: int = 0, steps: int = 32, **settings: Any) -> Networks:
    """Draw ordinary networks.

    Args:
        flow: From :func:`wflib.flow.load_flow`.
        networks: How many.
        seed: The same seed draws the same networks.
        steps: Steps of the solver.
        settings: Further arguments of :func:`wflib.flow.sample`: ``solver``, ``guidance``, ``condition``, …

    Returns:
        Networks on the CPU: a sequence of state dicts, or ``.module()``, ``.modules()``, ``.save(path)``.

    Raises:
        ValueError: No flow, some networks ran to NaN or infinity on the way, or the settings do not fit the flow.

    Example:
        >>> import torch
        >>> from wflib.architecture import mlp
        >>> from wflib.config import load_settings
        >>> from wflib.flow import Coordinates, Flow
        >>> settings = load_settings(changes=["velocity.dimension=16", "velocity.layers=1", "velocity.gradient_examples=0"])
        >>> flow = Flow(settings.flow, settings.velocity, Coordinates(mlp([30, 16, 16, 2])), 0.3)  # or load_flow(path)
        >>> draw_networks(flow, 3, steps=2, solver="heun").module()(torch.zeros(5, 30)).shape
        torch.Size([3, 5, 2])
    """
    if not isinstance(flow, Flow):
        raise ValueError(f"draw_networks: expected a flow, got {flow!r}; read one with wflib.load_flow(path).")
    x = sample(flow, networks, steps, generator(seed, "draw"), **settings)
    require_finite({"coordinates": x}, "draw_networks", DIVERGED)
    drawn = flow.coordinates.decode(x).to("cpu")
    drawn.require_finite("draw_networks: weights behind the coordinates", DIVERGED)
    return drawn


def log_likelihood_of_networks(
    flow: Flow,
    networks: Networks | Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    seed: int = 0,
    probes: int | None = 1,
    steps: int = 32,
    end: float = 0.99,
    chunk: int = 64,
    solver: str = "heun",
) -> Tensor:
    """log p_1 of ordinary networks under a flow, in nats.

    The density is that of the flow's coordinates: of weights, or for the geometric flow of canonical weights, with respect
    to the volume of the manifold. A network whose hidden neurons are permuted has the same one, unless the flow knows
    neurons by identity; then networks must be aligned as its zoo is.

    Args:
        flow: A trained flow, Euclidean or geometric.
        networks: Networks, one state dict, or several.
        seed: Of Hutchinson's probes; the same for every network, so that differences between networks vary less.
        probes: How many; None for the exact divergence.
        steps: Steps of the solver.
        end: Time that the networks are taken to belong to, see :func:`wflib.flow.log_likelihood`.
        chunk: Networks at a time, which bounds memory.
        solver: See :mod:`wflib.flow.solvers`; ``rk4`` takes twice the evaluations of ``heun`` and is far more exact.

    Returns:
        (networks,).

    Raises:
        ValueError: The tensors do not fit the flow's architecture, some network is not finite, or the flow has no density.
    """
    architecture = ordinary_architecture(flow)
    if isinstance(networks, Mapping):
        networks = [networks]
    if not isinstance(networks, Networks):
        networks = Networks.from_state_dicts(architecture, networks)
    networks.require_finite("log_likelihood_of_networks", "leave those networks out")
    return log_likelihood_of_coordinates(
        flow, flow.coordinates.encode(networks), seed, probes, steps, end, chunk, solver=solver
    )


def log_likelihood_of_coordinates(
    flow: Flow,
    x: Tensor,
    seed: int = 0,
    probes: int | None = 1,
    steps: int = 32,
    end: float = 0.99,
    chunk: int = 64,
    progress: Callable[[int], None] | None = None,
    solver: str = "heun",
) -> Tensor:
    """log p_1 of points that are a flow's coordinates already, in nats; see :func:`log_likelihood_of_networks`.

    Args:
        flow: A trained flow, Euclidean or geometric.
        x: (networks, D), put on the manifold where the flow has one.
        seed: Of Hutchinson's probes, the same for every point.
        probes: How many; None for the exact divergence.
        steps: Steps of the solver.
        end: Time that the points are taken to belong to.
        chunk: Points at a time, which bounds memory.
        progress: Called with the number of points done so far.
        solver: See :mod:`wflib.flow.solvers`.

    Returns:
        (networks,), on the CPU.

    Raises:
        ValueError: Points of another shape, NaN or infinity in some, or a flow that has no density.
    """
    if x.ndim != 2 or x.shape[1] != flow.architecture.dimension:
        raise ValueError(
            f"Shape mismatch: expected coordinates (networks, {flow.architecture.dimension}), got {tuple(x.shape)}; "
            "flow.coordinates.encode makes them of networks."
        )
    if not len(x):
        raise ValueError("log_likelihood: expected at least one network, got none.")
    require_finite({"coordinates": x}, "log_likelihood_of_coordinates", "leave those networks out")
    drawn = None if probes is None else draw_probes(x[:1], probes, generator(seed, "probes")).to(flow.preconditioner.mean_0)
    found, done = [], 0
    for part in x.split(chunk):
        directions = None if drawn is None else drawn.expand(-1, len(part), -1)
        points = flow.geometry.project_prediction(part.to(flow.preconditioner.mean_0))
        found.append(log_likelihood(flow, flow.start, points, steps, solver, directions, end).cpu())
        done += len(part)
        if progress is not None:
            progress(done)
    return torch.cat(found)
