"""Coordinates: there and back, in any basis, without a change of the function."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.flow import Coordinates, input_basis
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import canonicalize
from wflib.testing import assert_same_function

ARCHITECTURE = mlp([5, 4, 3, 2])
INPUTS = torch.randn(40, 5, generator=generator(0, "inputs"), dtype=torch.float64)
BASIS = torch.linalg.qr(torch.randn(5, 5, generator=generator(0, "basis"), dtype=torch.float64))[0]


def networks(count: int = 6) -> Networks:
    flat = torch.randn(count, ARCHITECTURE.dimension, generator=generator(0, "networks"), dtype=torch.float64)
    return Networks.from_flat(ARCHITECTURE, flat)


def cases(canonical: bool, rotated: bool):
    """Coordinates, and networks of their architecture."""
    own = canonicalize(networks()).networks if canonical else networks()
    return Coordinates(own.architecture, BASIS if rotated else None), own


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_there_and_back(canonical, rotated):
    coordinates, own = cases(canonical, rotated)
    x = coordinates.encode(own)
    back = coordinates.decode_state(x)
    assert torch.allclose(back.flat, own.flat, atol=1e-12)
    assert torch.allclose(coordinates.encode(back), x, atol=1e-12)
    assert torch.equal(x, own.flat) != rotated
    assert coordinates.architecture.canonical == canonical
    assert coordinates.manifold.has_spheres == canonical
    assert torch.allclose(coordinates.manifold.projx(x), x, atol=1e-12)


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_decoding_keeps_the_function(canonical, rotated):
    coordinates, _ = cases(canonical, rotated)
    x = coordinates.encode(networks())
    ordinary = coordinates.decode(x)
    assert ordinary.architecture == ARCHITECTURE
    assert_same_function(networks(), ordinary, INPUTS)
    # The coordinates themselves are a network on rotated inputs, and not on others.
    state, outputs = coordinates.architecture.unflatten(x), networks().forward(INPUTS)
    same, other = (INPUTS @ BASIS, INPUTS) if rotated else (INPUTS, INPUTS @ BASIS)
    assert torch.allclose(coordinates.architecture.forward(state, same), outputs, atol=1e-10)
    assert not torch.allclose(coordinates.architecture.forward(state, other), outputs, atol=0.1)


def test_a_basis_that_is_not_orthogonal_changes_the_function():
    coordinates = Coordinates(ARCHITECTURE, BASIS * 1.1)
    ordinary = coordinates.decode(coordinates.encode(networks()))
    with pytest.raises(ValueError, match="same function"):
        assert_same_function(networks(), ordinary, INPUTS)


@pytest.mark.parametrize("rotated", [False, True])
def test_rotations_keep_distances_and_initial_weights_order(rotated):
    coordinates, own = cases(True, rotated)
    x, y = coordinates.encode(own), Coordinates(coordinates.architecture).encode(own)
    manifold = coordinates.manifold
    assert torch.allclose(manifold.squared_distances(x, x), manifold.squared_distances(y, y), atol=1e-6)
    initial = coordinates.encode_initial(networks())
    assert torch.equal(initial, Coordinates(ARCHITECTURE, coordinates.basis).encode(networks()))
    assert initial.shape[1] == coordinates.architecture.dimension - 1


def test_input_basis_diagonalizes_the_second_moment():
    inputs = (INPUTS * torch.tensor([1.0, 3.0, 0.1, 2.0, 5.0])).float()
    basis, values = input_basis(inputs)
    assert torch.allclose(basis.T @ basis, torch.eye(5), atol=1e-5)
    rotated = inputs @ basis
    assert torch.allclose(rotated.T @ rotated / len(inputs), torch.diag(values), atol=1e-4)
    assert (values.diff() <= 0).all()


def test_other_widths_keep_the_basis():
    wider = Coordinates(ARCHITECTURE, BASIS).with_widths({group.name: 9 for group in ARCHITECTURE.hidden_groups})
    assert [group.size for group in wider.architecture.hidden_groups] == [9, 9]
    assert torch.equal(wider.basis, BASIS)
