"""Flow-matching losses of an x_1-prediction, and how coordinates are weighted in them.

With ``distance: tangent`` the error is e = displacement(x_t, x̂_1) − displacement(x_t, x_1), which is x̂_1 − x_1 on straight
paths and a difference of logarithms at x_t on the manifold, where its minimizer is (1 − t) times the marginal velocity. With
``distance: geodesic`` it is e = log_{x̂_1}(x_1), whose square is the squared geodesic distance: the same on straight paths,
on the manifold its minimizer is the Fréchet mean of x_1. The loss is the weighted mean over batch and coordinates of

- ``mean-squared``:  e²
- ``standardized``:  e² / o(t)², o the preconditioner's output scale: every coordinate and time counts alike
- ``function``:      w e² / o(t)², w the share of the network's function that the coordinate decides, plus a floor
- ``gauss-newton``:  Σ_b (J_b ε_b)ᵀ H (J_b ε_b), what the error of each tensor b changes of a network's predictions, plus a
                     floor of e² / o(t)²; ε = e o(0) / o(t), J and H the outputs' Jacobian and the loss' second derivative
                     in the outputs, both at a draw from the Gaussian of mean x̂_1 and deviation o(t)

A flow that predicts velocities has e = (1 − t) (û_t − u_t), and e / (1 − t) in ``mean-squared``. A positive diagonal
weighting does not move the minimizer E[x_1 | x_t]; it decides where capacity goes. Nor does the Gauss–Newton form, because
J is taken at a point that depends on x_t alone, never on x_1, and is not differentiated. Both statements hold where e is
free to have the mean zero: for velocities, on straight paths without projection, and for ``tangent``. Where x̂_1 is bound to
spheres on straight paths (``normalized``, which cannot reach E[x_1 | x_t] at all) or e turns with x̂_1 (``geodesic``), the
minimizer of a weighted loss is the nearest point or the Fréchet mean in that weighting's metric, not in the manifold's.

The Gauss–Newton form has no blocks between two tensors. They would let an error of one tensor make up for another's, and a
network that cannot reach E[x_1 | x_t] in the large tensors would then shift the small ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.flow.geometry import Geometry
from wflib.networks import Networks
from wflib.symmetry import pool, pooling_index

__all__ = ["flow_matching_error", "function_change", "function_sensitivity", "sample_times", "weighted_mean_square"]

LATEST_TIME = 0.99


def sample_times(distribution: str, count: int, generator: torch.Generator) -> Tensor:
    """Times in [0, 0.99]: ``beta`` draws Beta(1, 2) by inversion, t = 1 − √(1 − u); ``uniform`` draws u."""
    uniform = torch.rand(count, generator=generator, device=generator.device)
    return (1 - (1 - uniform).sqrt() if distribution == "beta" else uniform) * LATEST_TIME


def flow_matching_error(
    geometry: Geometry, x_t: Tensor, x_1: Tensor, prediction: Tensor, distance: str = "tangent"
) -> Tensor:
    """The error e above of a prediction of x_1.

    Args:
        geometry: Gives displacements.
        x_t: (batch, D).
        x_1: (batch, D).
        prediction: x̂_1, already projected, (batch, D).
        distance: ``tangent`` or ``geodesic``.

    Returns:
        (batch, D).
    """
    if distance == "geodesic":
        return geometry.displacement(prediction, x_1)
    return geometry.displacement(x_t, prediction) - geometry.displacement(x_t, x_1)


def weighted_mean_square(error: Tensor, output_scale: Tensor | None, weight: Tensor | None) -> Tensor:
    """Mean of w e² / o² over batch and coordinates."""
    if output_scale is not None:
        error = error / output_scale
    squared = error.square()
    return (squared if weight is None else squared * weight).mean()


def function_sensitivity(networks: Networks, inputs: Tensor) -> Tensor:
    """How strongly outputs feel each coordinate: the diagonal of the mean Gauss–Newton matrix, pooled over permutations.

    h_i = mean over networks and examples of Σ_c (∂f_c / ∂θ_i)², by reverse-mode differentiation of per-example outputs.

    Args:
        networks: A few tens.
        inputs: Training examples (examples, *shape), a few hundred.

    Returns:
        (D,).
    """
    architecture = networks.architecture

    def outputs(flat: Tensor, example: Tensor) -> Tensor:
        network = {name: tensor.unsqueeze(0) for name, tensor in architecture.unflatten(flat).items()}
        return architecture.forward(network, example.unsqueeze(0))[0, 0]

    jacobian = torch.func.vmap(torch.func.jacrev(outputs), in_dims=(None, 0))
    total = torch.zeros(architecture.dimension, device=inputs.device)
    for flat in networks.flat:
        total += jacobian(flat, inputs).square().sum(1).mean(0)
    index = pooling_index(architecture).to(inputs.device)
    return pool(total / len(networks), index)[index]


def function_change(architecture: Architecture, x: Tensor, error: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """How far predictions move when x moves by an error, to first order and tensor by tensor.

    Σ over tensors b of the mean over examples of (J_b ε_b)ᵀ H (J_b ε_b): the generalized Gauss–Newton form Jᵀ H J without
    the blocks between two tensors. H is the second derivative of the task's loss in the outputs: diag(p) − p pᵀ for
    classifiers, so that half of a term is the change's Kullback–Leibler divergence, and the identity for regressions.

    Args:
        architecture: What a network is.
        x: Where J = ∂f/∂x and H are taken, (batch, D); nothing is differentiated with respect to it.
        error: ε, (batch, D); differentiable.
        inputs: Training examples (examples, *shape), in the axes of the coordinates.

    Returns:
        The change, and the mean of H's eigenvalues that can differ from zero, both (batch,).
    """
    point = x.detach()
    blocks = torch.zeros(len(architecture.tensors), architecture.dimension, device=x.device)
    for block, where in zip(blocks, architecture.slices.values(), strict=True):
        block[where] = 1

    def outputs(point: Tensor) -> Tensor:
        return architecture.forward(architecture.unflatten(point), inputs)

    def change_of(block: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = torch.func.jvp(outputs, (point,), (error * block,))[:2]
        return found

    of_blocks = torch.func.vmap(change_of, out_dims=(None, 0))  # type: ignore[arg-type]  # torch's type lacks (None, …)
    found, change = of_blocks(blocks.to(error.dtype))
    if architecture.task_type == "regression":
        return change.square().sum(-1).mean(-1).sum(0), torch.ones_like(change[0, :, 0, 0])
    p = found.detach().softmax(-1)
    change = change - (p * change).sum(-1, keepdim=True)
    eigenvalues = (1 - p.square().sum(-1)).mean(-1) / (p.shape[-1] - 1)
    return (p * change.square()).sum(-1).mean(-1).sum(0), eigenvalues
