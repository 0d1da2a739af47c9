"""One call for what takes three: the same answers as the long way, and functions that stay what they are."""

from __future__ import annotations

import pytest
import torch

import wflib
from tests.cases import largest_difference, random_networks
from wflib.architecture import mlp
from wflib.evaluation import loss_barriers
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, squared_distance
from wflib.tasks import Split

ARCHITECTURE = mlp([3, 6, 5, 2])


@pytest.mark.parametrize("inputs", [None, torch.randn(20, 3, dtype=torch.float64)], ids=["weights", "activations"])
def test_align_finds_planted_permutations(inputs):
    original = random_networks(ARCHITECTURE, 1)
    planted = random_permutations(ARCHITECTURE, 4, generator(0, "planted"))
    copies = permute(original.map(lambda tensor: tensor.expand(4, *tensor.shape[1:])), planted)
    assert squared_distance(original, copies).min() > 0.1
    aligned = wflib.align(copies, original, inputs, restarts=10)
    assert squared_distance(original, aligned).max() < 1e-20
    assert largest_difference(aligned, copies) < 1e-10


def test_align_takes_the_first_network_for_reference():
    networks = random_networks(ARCHITECTURE, 3)
    aligned = wflib.align(networks)
    assert torch.equal(aligned.flat[0], networks.flat[0])
    assert (squared_distance(networks[:1], aligned) <= squared_distance(networks[:1], networks) + 1e-12).all()


def test_align_refuses_what_is_no_reference():
    networks = random_networks(ARCHITECTURE, 3)
    with pytest.raises(ValueError, match="expected one network of the same architecture, got 3 networks"):
        wflib.align(networks, networks)
    with pytest.raises(ValueError, match="got one of another architecture"):
        wflib.align(networks, random_networks(mlp([3, 4, 2]), 1))
    with pytest.raises(ValueError, match="at least one network"):
        wflib.align(networks[:0])


def test_barrier_is_that_of_the_evaluation():
    networks, random = random_networks(ARCHITECTURE, 3).to(torch.float32), generator(0, "examples")
    inputs, targets = torch.randn(9, 3, generator=random), torch.randint(2, (9,), generator=random)
    expected = loss_barriers(networks, Split(inputs, targets), 3)
    assert torch.equal(wflib.barrier(networks, inputs, targets, 3).maximal, expected.maximal)
    with pytest.raises(ValueError, match="at least two networks"):
        wflib.barrier(networks[:1], inputs, targets)


def test_a_reference_of_another_precision_is_one():
    networks = random_networks(ARCHITECTURE, 3)
    aligned = wflib.align(networks, networks[:1].to(torch.float32))
    assert aligned.dtype == torch.float64
    assert torch.equal(aligned.flat, wflib.align(networks).flat)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_formats_are_aligned_and_stay_what_they_are(dtype):
    networks = random_networks(ARCHITECTURE, 3).to(dtype)
    aligned = wflib.align(networks)
    assert aligned.dtype == dtype
    assert torch.equal(aligned.flat.sort(1).values, networks.flat.sort(1).values)
    assert torch.equal(
        wflib.barrier(aligned, torch.ones(2, 3), torch.tensor([0, 1])).excess.isfinite(), torch.ones(3, 3) > 0
    )


@pytest.mark.parametrize("shape", [(0, 3), (5, 4), (5,)])
def test_inputs_that_say_nothing_of_neurons_are_refused(shape):
    networks = random_networks(ARCHITECTURE, 3)
    with pytest.raises(ValueError, match=r"expected inputs \(examples, 3\) of one example at least, got"):
        wflib.align(networks, inputs=torch.zeros(shape, dtype=torch.float64))
    assert len(wflib.align(networks, inputs=torch.ones(1, 3, dtype=torch.float64))) == 3
