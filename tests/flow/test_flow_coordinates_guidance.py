"""Coordinates compute the network's function in any basis."""

from __future__ import annotations

import pytest
import torch

from wflib.flow import Coordinates, input_basis
from wflib.testing import assert_same_function


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_coordinates_keep_the_function(zoo, canonical_zoo, dataset, canonical, rotated):
    source = canonical_zoo if canonical else zoo
    basis = input_basis(dataset.train.inputs)[0] if rotated else None
    coordinates = Coordinates(source.architecture, basis)
    x = coordinates.encode(source.networks)
    ordinary = coordinates.decode(x)
    assert ordinary.architecture == zoo.architecture
    assert_same_function(zoo.networks, ordinary, dataset.test.inputs, 1e-4)
    assert torch.allclose(coordinates.encode(zoo.networks), x, atol=1e-5)
    assert (x - source.networks.flat).abs().max().item() > 0.1 if rotated else torch.equal(x, source.networks.flat)
    with pytest.raises(ValueError, match="same function"):
        assert_same_function(zoo.networks, ordinary.map(lambda tensor: tensor + 0.1), dataset.test.inputs)


def test_basis_is_orthogonal_and_sorted(dataset):
    basis, values = input_basis(dataset.train.inputs)
    assert torch.allclose(basis.T @ basis, torch.eye(5), atol=1e-5)
    moments = (dataset.train.inputs @ basis).square().mean(0)
    assert torch.allclose(moments, values, rtol=1e-4)
    assert (values.diff() <= 0).all()
