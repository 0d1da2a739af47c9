"""Losses and times: weights do not move the minimizer, and times come as they should."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.flow import build_geometry
from wflib.flow.objective import (
    LATEST_TIME,
    flow_matching_error,
    function_change,
    function_sensitivity,
    sample_times,
    weighted_mean_square,
)
from wflib.manifold import flat_manifold, weight_manifold
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations

ARCHITECTURE = mlp([3, 4, 2])
EUCLIDEAN = build_geometry("euclidean", flat_manifold(ARCHITECTURE))


def targets(count: int = 300) -> torch.Tensor:
    random = generator(0, "targets")
    return torch.randn(count, 6, generator=random, dtype=torch.float64) + torch.arange(6)


def minimizer(x_1: torch.Tensor, weight: torch.Tensor | None, scale: torch.Tensor | None) -> torch.Tensor:
    """The constant predictor that minimizes the loss, by one Newton step: the loss is quadratic and separable."""
    constant = torch.zeros(6, dtype=torch.float64, requires_grad=True)

    def gradient() -> torch.Tensor:
        x_t, prediction = torch.zeros_like(x_1), constant.expand(len(x_1), -1)
        loss = weighted_mean_square(flow_matching_error(EUCLIDEAN, x_t, x_1, prediction), scale, weight)
        return torch.autograd.grad(loss, constant, create_graph=True)[0]

    first = gradient()
    curvature = torch.autograd.grad(first.sum(), constant)[0]
    return -(first / curvature).detach()


def test_weights_do_not_move_the_minimizer():
    x_1 = targets()
    weight = torch.rand(6, generator=generator(0, "weight"), dtype=torch.float64) + 0.01
    weight = weight / weight.mean()
    scale = (torch.rand(6, generator=generator(0, "scale"), dtype=torch.float64) + 0.1).expand(len(x_1), -1)
    for w, o in ((None, None), (weight, None), (None, scale), (weight, scale)):
        assert torch.allclose(minimizer(x_1, w, o), x_1.mean(0), atol=1e-10)
    by_example = torch.linspace(0.1, 5, len(x_1), dtype=torch.float64)[x_1[:, 0].argsort().argsort(), None].expand(-1, 6)
    moved = minimizer(x_1, None, by_example)  # weights that depend on x_1 would move it
    assert (moved - x_1.mean(0)).abs().max() > 0.1


def test_weights_of_mean_one_scale_nothing_but_shares():
    x_1 = targets()
    error, zero = torch.full_like(x_1, 0.3), torch.zeros_like(x_1)
    plain = weighted_mean_square(flow_matching_error(EUCLIDEAN, zero, x_1, x_1 + error), None, None)
    weight = torch.tensor([0.0, 0.0, 0.0, 3.0, 3.0, 0.0], dtype=torch.float64)
    assert plain.item() == pytest.approx(0.09)
    assert weighted_mean_square(
        flow_matching_error(EUCLIDEAN, zero, x_1, x_1 + error), None, weight
    ).item() == pytest.approx(0.09)
    error[:, 3:5] = 0
    assert weighted_mean_square(
        flow_matching_error(EUCLIDEAN, zero, x_1, x_1 + error), None, weight
    ).item() == pytest.approx(0)
    assert weighted_mean_square(
        flow_matching_error(EUCLIDEAN, zero, x_1, x_1 + 0.5), torch.full_like(x_1, 0.5), None
    ).item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["euclidean", "normalized", "geometric"])
def test_the_loss_is_zero_at_the_target_only(name):
    manifold = (
        flat_manifold(ARCHITECTURE) if name == "euclidean" else weight_manifold(ARCHITECTURE.canonical_form("weights"))
    )
    geometry, random = build_geometry(name, manifold), generator(0, "points")
    x_0, x_1, other = (
        manifold.projx(torch.randn(5, manifold.n_elements, generator=random, dtype=torch.float64)) for _ in range(3)
    )
    x_t = geometry.interpolate(x_0, x_1, torch.full((5,), 0.4, dtype=torch.float64))
    assert weighted_mean_square(flow_matching_error(geometry, x_t, x_1, x_1), None, None).item() == 0
    assert weighted_mean_square(flow_matching_error(geometry, x_t, x_1, other), None, None).item() > 0.1


def test_times_of_both_distributions():
    random, grid = generator(0, "times"), torch.linspace(0.05, 0.95, 10)
    exact = {"beta": 1 - (1 - grid).square(), "uniform": grid}
    found = {name: sample_times(name, 40_000, random) for name in exact}
    for name, t in found.items():
        assert t.min() >= 0
        assert t.max() <= LATEST_TIME < 1
        share = (t[:, None] / LATEST_TIME <= grid).float().mean(0)
        assert (share - exact[name]).abs().max() < 0.015
    assert found["beta"].mean().item() / LATEST_TIME == pytest.approx(1 / 3, abs=0.01)
    assert found["uniform"].mean().item() / LATEST_TIME == pytest.approx(1 / 2, abs=0.01)


def test_sensitivity_is_that_of_linear_outputs_and_ignores_neuron_order():
    linear = mlp([3, 2])
    inputs = torch.randn(30, 3, generator=generator(0, "inputs"))
    flat = torch.randn(2, linear.dimension, generator=generator(0, "linear"))
    found = linear.unflatten(function_sensitivity(Networks.from_flat(linear, flat), inputs)[None])
    for row in found["linear1.weight"][0]:
        assert torch.allclose(row, inputs.square().mean(0), atol=1e-5)
    assert torch.allclose(found["linear1.bias"], torch.ones(1, 2))
    flat = torch.randn(3, ARCHITECTURE.dimension, generator=generator(0, "w"))
    networks = Networks.from_flat(ARCHITECTURE, flat)
    shuffled = permute(networks, random_permutations(ARCHITECTURE, 3, generator(0, "p")))
    before, after = (function_sensitivity(side, inputs) for side in (networks, shuffled))
    assert torch.allclose(before, after, rtol=1e-4)


def test_function_change_is_the_error_in_the_blocks_of_the_generalized_gauss_newton_matrix():
    architecture, random = mlp([3, 4, 3]).canonical_form("weights"), generator(0, "change")
    x, error = (torch.randn(2, architecture.dimension, generator=random, dtype=torch.float64) for _ in range(2))
    inputs = torch.randn(5, 3, generator=random, dtype=torch.float64)
    error.requires_grad_()
    found, curvature = function_change(architecture, x, error, inputs)
    for row in range(2):
        outputs = architecture.forward(architecture.unflatten(x[row : row + 1]), inputs)[0]
        jacobian = torch.autograd.functional.jacobian(
            lambda point: architecture.forward(architecture.unflatten(point[None]), inputs)[0], x[row]
        )
        p = outputs.softmax(-1)
        hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        change = torch.stack([jacobian[..., where] @ error[row, where] for where in architecture.slices.values()])
        expected = torch.einsum("bnc,ncd,bnd->n", change, hessian, change).mean()
        assert found[row].item() == pytest.approx(expected.item(), rel=1e-10)
        assert curvature[row].item() == pytest.approx(torch.linalg.eigvalsh(hessian)[:, 1:].mean().item(), rel=1e-8)
    assert torch.autograd.grad(found.sum(), error)[0].abs().max() > 0
    # All class biases alike: a change that no probability feels, but a regression does.
    shift = torch.zeros_like(x)
    shift[:, architecture.slices["linear2.bias"]] = 1
    assert function_change(architecture, x, shift, inputs)[0].abs().max() < 1e-20
    regression = mlp([3, 4, 3], task_type="regression")
    change, curvature = function_change(regression, x[:, :-1], shift[:, :-1], inputs)
    assert change.tolist() == pytest.approx([3, 3])
    both = torch.zeros_like(shift)  # a second tensor's change adds its own square, without a product of the two
    both[:, architecture.slices["linear1.bias"]] = 1
    alone = function_change(regression, x[:, :-1], both[:, :-1], inputs)[0]
    together = function_change(regression, x[:, :-1], (both + shift)[:, :-1], inputs)[0]
    torch.testing.assert_close(together, alone + 3)
    assert curvature.tolist() == [1, 1]


def test_what_one_tensor_cannot_reach_does_not_move_another():
    architecture, random = mlp([3, 4, 2]).canonical_form("weights"), generator(0, "reach")
    inputs = torch.randn(20, 3, generator=random, dtype=torch.float64)
    targets = torch.randn(50, architecture.dimension, generator=random, dtype=torch.float64)
    points = torch.randn(1, architecture.dimension, generator=random, dtype=torch.float64).repeat(len(targets), 1)
    where, scale = architecture.slices["linear1.weight"], architecture.slices["log_scale"]
    stuck = targets.mean(0)
    stuck[where] += 1  # a prediction that is wrong in one tensor, and right in the mean of all others
    prediction = stuck.clone().requires_grad_()
    change, _ = function_change(architecture, points, prediction - targets, inputs)
    assert torch.autograd.grad(change.mean(), prediction)[0][scale].abs().max() < 1e-12

    def outputs(point: torch.Tensor) -> torch.Tensor:
        return architecture.forward(architecture.unflatten(point), inputs)

    whole = torch.func.jvp(outputs, (points,), (prediction - targets,))[1]
    whole = whole - whole.mean(-1, keepdim=True)
    assert torch.autograd.grad(whole.square().mean(), prediction)[0][scale].abs().max() > 1e-3


def test_the_gauss_newton_form_does_not_move_the_minimizer_unless_it_looks_at_the_target():
    random = generator(0, "gauss-newton")
    inputs = torch.randn(20, 3, generator=random, dtype=torch.float64)
    targets = torch.randn(6, ARCHITECTURE.dimension, generator=random, dtype=torch.float64)
    mean, somewhere = targets.mean(0).requires_grad_(), torch.randn(1, ARCHITECTURE.dimension, generator=random).double()

    def slope(points: torch.Tensor) -> float:
        """Largest entry of the expected loss's gradient at the mean of all targets."""
        change, _ = function_change(ARCHITECTURE, points, mean - targets, inputs)
        return torch.autograd.grad(change.mean(), mean)[0].abs().max().item()

    assert slope(somewhere.repeat(len(targets), 1)) < 1e-12
    assert slope(targets) > 0.01
