"""Guidance: −λ times the loss's gradient in the flow's own coordinates, and it goes downhill."""

from __future__ import annotations

import pytest
import torch

from wflib.flow import TaskGuidance, input_basis, sample
from wflib.rng import generator
from wflib.zoo import Split, network_losses

STRENGTH = 0.7
CASES = pytest.mark.parametrize(
    ("geometry", "rotated"),
    [("euclidean", False), ("euclidean", True), ("normalized", True), ("geometric", False), ("geometric", True)],
)


@pytest.fixture
def setting(make_flow, dataset):
    """(geometry, rotated) → flow, examples, points, and the loss of points, all in float64."""

    def make(geometry: str, rotated: bool):
        flow, zoo = make_flow(geometry, basis=input_basis(dataset.train.inputs)[0] if rotated else None)
        flow.double()
        split = Split(dataset.train.inputs.double(), dataset.train.targets)
        x = flow.coordinates.encode(zoo.weights)[[0, 7, 19]].double()

        def loss(point: torch.Tensor) -> torch.Tensor:
            return network_losses(flow.architecture, flow.coordinates.decode_state(point), split)

        return flow, split, x, loss

    return make


@CASES
def test_guidance_is_the_finite_difference_coordinate_by_coordinate(setting, geometry, rotated):
    flow, split, x, loss = setting(geometry, rotated)
    applied = TaskGuidance(flow, split, STRENGTH, len(split.inputs), generator(0, "g"))(x, torch.zeros(len(x)))
    step, differences = 1e-6, torch.empty_like(x)
    for coordinate in range(x.shape[1]):
        nudge = torch.zeros_like(x)
        nudge[:, coordinate] = step
        differences[:, coordinate] = (loss(x + nudge) - loss(x - nudge)) / (2 * step)
    assert (applied + STRENGTH * differences).abs().max() < 1e-7
    assert differences.abs().max() > 1e-2
    if rotated:  # a gradient in the inputs' own axes would be another vector
        plain = flow.coordinates.architecture.flatten(flow.coordinates.decode_state(applied))
        assert (plain + STRENGTH * differences).abs().max() > 1e-3


@CASES
def test_a_small_step_lowers_the_loss_and_the_opposite_raises_it(setting, geometry, rotated):
    flow, split, x, loss = setting(geometry, rotated)
    applied = TaskGuidance(flow, split, STRENGTH, len(split.inputs), generator(0, "g"))(x, torch.zeros(len(x)))
    tangent = flow.geometry.tangent(x, applied)
    assert (loss(flow.geometry.step(x, 0.02 * tangent)) < loss(x)).all()
    assert (loss(flow.geometry.step(x, -0.02 * tangent)) > loss(x)).all()


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_guided_samples_have_lower_loss(make_flow, randomized, dataset, geometry):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    losses = {}
    for strength in (-0.3, 0.0, 0.3):
        guidance = TaskGuidance(flow, dataset.train, strength, 64, generator(0, "g"))
        drawn = sample(flow, 8, 8, generator(0, "s"), guidance)
        losses[strength] = (
            network_losses(flow.architecture, flow.coordinates.decode_state(drawn), dataset.train).mean().item()
        )
        if strength == 0:
            assert torch.equal(drawn, sample(flow, 8, 8, generator(0, "s")))
    assert losses[0.3] < losses[0.0] < losses[-0.3]


def test_batches_follow_the_generator(make_flow, dataset):
    flow, zoo = make_flow()
    x, t = flow.coordinates.encode(zoo.weights)[:3], torch.zeros(3)
    first, again, other = (TaskGuidance(flow, dataset.train, 1.0, 5, generator(seed, "g"))(x, t) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert TaskGuidance(flow, dataset.train, 1.0, 10_000, generator(0, "g")).batch_size == 64
