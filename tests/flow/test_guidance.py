"""Guidance: −λ times the loss's gradient in the flow's own coordinates, and it goes downhill."""

from __future__ import annotations

import pytest
import torch

from wflib.flow import Guidance, TaskLoss, input_basis, integrate, sample
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.tasks import Split

STRENGTH = 0.7
CASES = pytest.mark.parametrize(
    ("geometry", "rotated"),
    [("euclidean", False), ("euclidean", True), ("normalized", True), ("geometric", False), ("geometric", True)],
)


POINTS = pytest.mark.parametrize("point", ["x_t", "end-point"])


def guide(flow, split: Split, strength: float, batch: int, seed: int = 0, **settings) -> Guidance:
    return Guidance(flow, TaskLoss(split, batch, generator(seed, "g")), strength, **settings)


@pytest.fixture
def setting(make_flow, randomized, dataset):
    """(geometry, rotated, point) → flow, examples, points, times, and the loss that guidance lowers, all in float64."""

    def make(geometry: str, rotated: bool, point: str):
        flow, zoo = make_flow(geometry, basis=input_basis(dataset.train.inputs)[0] if rotated else None)
        randomized(flow.network)
        flow.double()
        split = Split(dataset.train.inputs.double(), dataset.train.targets)
        x = flow.coordinates.encode(zoo.networks)[[0, 7, 19]].double()

        t = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64)

        def loss(points: torch.Tensor) -> torch.Tensor:
            end = flow.predict(points, t)[0] if point == "end-point" else points
            return network_losses(flow.coordinates.decode_state(end), split).detach()

        return flow, split, x, t, loss

    return make


@CASES
@POINTS
def test_guidance_is_the_finite_difference_coordinate_by_coordinate(setting, geometry, rotated, point):
    flow, split, x, t, loss = setting(geometry, rotated, point)
    applied = guide(flow, split, STRENGTH, len(split.inputs), point=point)(x, t)
    step, differences = 1e-6, torch.empty_like(x)
    for coordinate in range(x.shape[1]):
        nudge = torch.zeros_like(x)
        nudge[:, coordinate] = step
        differences[:, coordinate] = (loss(x + nudge) - loss(x - nudge)) / (2 * step)
    assert (applied + STRENGTH * differences).abs().max() < 1e-7
    assert differences.abs().max() > 1e-2
    if rotated:  # a gradient in the inputs' own axes would be another vector
        plain = flow.coordinates.decode_state(applied).flat
        assert (plain + STRENGTH * differences).abs().max() > 1e-3


@CASES
@POINTS
def test_a_small_step_lowers_the_loss_and_the_opposite_raises_it(setting, geometry, rotated, point):
    flow, split, x, t, loss = setting(geometry, rotated, point)
    applied = guide(flow, split, STRENGTH, len(split.inputs), point=point)(x, t)
    tangent = flow.geometry.tangent(x, applied)
    assert (loss(flow.geometry.step(x, 0.02 * tangent)) < loss(x)).all()
    assert (loss(flow.geometry.step(x, -0.02 * tangent)) > loss(x)).all()


@POINTS
@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_guided_samples_have_lower_loss(make_flow, randomized, dataset, geometry, point):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    losses = {}
    for strength in (-0.3, 0.0, 0.3):
        guidance = guide(flow, dataset.train, strength, 64, point=point)
        drawn = sample(flow, 8, 8, generator(0, "s"), guidance)
        losses[strength] = network_losses(flow.coordinates.decode_state(drawn), dataset.train).mean().item()
        if strength == 0:
            assert torch.equal(drawn, sample(flow, 8, 8, generator(0, "s")))
    assert losses[0.3] < losses[0.0] < losses[-0.3]


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_solvers_apply_the_tangent_part_of_it(make_flow, randomized, dataset, geometry):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    guidance = guide(flow, dataset.train, STRENGTH, len(dataset.train.inputs))
    x, t = flow.prior.sample(4, generator(0, "x")), torch.zeros(4)
    with torch.no_grad():
        whole = flow.velocity(x, t) + flow.geometry.tangent(x, guidance(x, t))
        expected = flow.geometry.step(x, 0.1 * whole)
    torch.testing.assert_close(integrate(flow, x, 10, guidance, keep=True)[1], expected)
    if geometry == "geometric":
        assert (guidance(x, t) - flow.geometry.tangent(x, guidance(x, t))).abs().max() > 1e-2


def test_batches_follow_the_generator(make_flow, dataset):
    flow, zoo = make_flow()
    x, t = flow.coordinates.encode(zoo.networks)[:3], torch.zeros(3)
    first, again, other = (guide(flow, dataset.train, 1.0, 5, seed)(x, t) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert TaskLoss(dataset.train, 10_000, generator(0, "g")).batch_size == 64


@pytest.mark.parametrize(
    ("schedule", "factor"), [("constant", 1.0), ("rising", 0.25), ("falling", 0.75), (torch.square, 0.0625)]
)
def test_schedules_scale_the_strength(make_flow, dataset, schedule, factor):
    flow, zoo = make_flow()
    x, t = flow.coordinates.encode(zoo.networks)[:3], torch.full((3,), 0.25)
    plain, scaled = (guide(flow, dataset.train, 0.5, 64, schedule=name)(x, t) for name in ("constant", schedule))
    torch.testing.assert_close(scaled, factor * plain)


def test_any_differentiable_objective_can_guide(make_flow):
    flow, zoo = make_flow()
    x = flow.coordinates.encode(zoo.networks)[:3]

    def energy(networks: Networks) -> torch.Tensor:
        return networks.flat.square().sum(1) / 2

    torch.testing.assert_close(Guidance(flow, energy, 0.5)(x, torch.zeros(3)), -0.5 * x)


def test_an_objective_gives_one_number_for_each_network(make_flow):
    """Their mean would make the strength depend on how many networks are drawn at a time."""
    flow, zoo = make_flow()
    guidance = Guidance(flow, lambda networks: networks.flat.square().mean(), 0.5)
    with pytest.raises(ValueError, match=r"one number for each of 3 networks, got shape \(\)"):
        guidance(flow.coordinates.encode(zoo.networks)[:3], torch.zeros(3))


@pytest.mark.parametrize("wrong", [{"schedule": "sometimes"}, {"point": "x_0"}])
def test_unknown_names_are_refused(make_flow, dataset, wrong):
    with pytest.raises(ValueError, match=r"Guidance: (schedule|point) must be"):
        guide(make_flow()[0], dataset.train, 1.0, 8, **wrong)
