"""Coordinates compute the network's function in any basis; guidance descends in them."""

from __future__ import annotations

import pytest
import torch

from wflib.flow import Coordinates, TaskGuidance, input_basis
from wflib.rng import generator
from wflib.testing import assert_same_function
from wflib.zoo import Split, network_losses


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_coordinates_keep_the_function(zoo, canonical_zoo, dataset, canonical, rotated):
    source = canonical_zoo if canonical else zoo
    basis = input_basis(dataset.train.inputs)[0] if rotated else None
    coordinates = Coordinates(source.architecture, basis)
    x = coordinates.encode(source.weights)
    architecture, weights = coordinates.decode(x)
    assert architecture == zoo.architecture
    assert_same_function(zoo.architecture, zoo.weights, architecture, weights, dataset.test.inputs, 1e-4)
    assert torch.allclose(coordinates.encode_network(zoo.architecture, zoo.weights), x, atol=1e-5)
    assert (x - source.flat).abs().max().item() > 0.1 if rotated else torch.equal(x, source.flat)
    with pytest.raises(ValueError, match="same function"):
        assert_same_function(
            zoo.architecture, zoo.weights, zoo.architecture, {k: v + 0.1 for k, v in weights.items()}, dataset.test.inputs
        )


def test_basis_is_orthogonal_and_sorted(dataset):
    basis, values = input_basis(dataset.train.inputs)
    assert torch.allclose(basis.T @ basis, torch.eye(5), atol=1e-5)
    moments = (dataset.train.inputs @ basis).square().mean(0)
    assert torch.allclose(moments, values, rtol=1e-4)
    assert (values.diff() <= 0).all()


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_guidance_is_the_finite_difference_of_the_loss(make_flow, dataset, geometry):
    flow, zoo = make_flow(geometry, basis=input_basis(dataset.train.inputs)[0])
    flow.double()
    split = Split(dataset.train.inputs.double(), dataset.train.targets)
    guidance = TaskGuidance(flow, split, 0.7, 64, generator(0, "g"))
    x = flow.coordinates.encode(zoo.weights)[:2].double()
    applied, step = guidance(x, torch.zeros(2)), 1e-6

    def loss(point):
        return network_losses(flow.architecture, flow.coordinates.decode_state(point), split)

    for coordinate in range(x.shape[1]):
        nudge = torch.zeros_like(x)
        nudge[:, coordinate] = step
        difference = (loss(x + nudge) - loss(x - nudge)) / (2 * step)
        assert torch.allclose(applied[:, coordinate], -0.7 * difference, atol=1e-6)
    down = flow.geometry.step(x, flow.geometry.tangent(x, 0.1 * applied))
    up = flow.geometry.step(x, flow.geometry.tangent(x, -0.1 * applied))
    assert (loss(down) < loss(x)).all()
    assert (loss(up) > loss(x)).all()
