"""Flows at other hidden widths, and flows that see the leading input directions only."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from wflib.flow import Coordinates, load_flow, sample, save_flow
from wflib.networks import Networks
from wflib.rng import generator
from wflib.testing import assert_equivariant

GEOMETRIES = ("euclidean", "normalized", "geometric")
KINDS = ("neuron-tokens", "relational-transformer", "pna")


def fitted(flow, zoo):
    """The flow with moments of independent pairs."""
    x_1 = flow.coordinates.encode(zoo.networks)
    x_0 = flow.prior.sample(len(x_1), generator(0, "x_0"))
    flow.preconditioner.fit(x_0, x_1, flow.geometry.angles(x_0, x_1))
    return flow


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_widths_give_the_same_flow_and_others_run(make_flow, randomized, geometry, kind):
    flow, zoo = make_flow(geometry, kind=kind)
    flow = fitted(flow, zoo).eval()
    randomized(flow.network)
    sizes = {group.name: group.size for group in flow.architecture.hidden_groups}
    x, t = flow.coordinates.encode(zoo.networks)[:6], torch.linspace(0, 0.9, 6)
    same = flow.with_widths(sizes)
    assert torch.allclose(same.velocity(x, t), flow.velocity(x, t), atol=1e-5, rtol=1e-5)
    wide = flow.with_widths({"hidden1": 9, "hidden2": 11})
    drawn = sample(wide, 5, 3, generator(0, "wide"))
    assert drawn.shape == (5, wide.architecture.dimension) != x[:5].shape
    networks = wide.coordinates.decode(drawn)
    assert networks.architecture.shape("linear2.weight") == (11, 9)
    assert bool(torch.isfinite(networks.forward(torch.randn(4, 5))).all())
    with pytest.raises(ValueError, match="expected some of the hidden groups"):
        flow.with_widths({"input": 3})


def test_statistics_follow_the_prior(make_flow):
    """What lies on a sphere shrinks with the root of its dimension; the log scale shifts as its prior does."""
    flow, zoo = make_flow("geometric")
    wide = fitted(flow, zoo).with_widths({"hidden2": 12})  # four times as wide
    last = flow.architecture.layers[-1].weight
    # Spheres of 2 × 3 weights and two biases, and of 2 × 12 and two.
    for name, ratio in ((last, math.sqrt(8 / 26)), ("linear1.weight", 1.0), ("linear2.weight", 1.0)):
        narrow_part, wide_part = (
            model.architecture.unflatten(model.preconditioner.deviation_1[model.preconditioner.index])[name]
            for model in (flow, wide)
        )
        assert torch.allclose(wide_part[0, 0] / narrow_part[0, 0], torch.tensor(ratio), atol=1e-5)
    shift = (wide.prior.mean[-1] - flow.prior.mean[-1]).item()
    before = 0.5**2 * (
        4 * 0.5**2 * (5 + 1) + 1
    )  # the mean squared norm of a neuron's incoming weights before the last layer
    assert shift == pytest.approx(0.5 * math.log((24 * before + 2) / (6 * before + 2)), abs=1e-5)
    moved = (
        wide.preconditioner.mean_1[wide.preconditioner.index[-1]] - flow.preconditioner.mean_1[flow.preconditioner.index[-1]]
    )
    assert moved.item() == pytest.approx(shift, abs=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_wide_networks_of_the_same_neurons_have_the_same_outputs(make_flow, geometry):
    """Each last hidden neuron three times: without shares outputs are three times as large, biases aside."""
    flow, zoo = make_flow(geometry)
    narrow, inputs = flow.coordinates, torch.randn(20, 5, generator=generator(0, "inputs"))
    ordinary = narrow.decode(narrow.encode(zoo.networks)[:4])
    expected, last = ordinary.forward(inputs), ordinary.architecture.output_layer
    size = narrow.architecture.size("hidden2")
    thrice = {name: tensor for name, tensor in ordinary.weights.items()}
    for name in ("linear2.weight", "linear2.bias"):
        thrice[name] = thrice[name].repeat_interleave(3, 1)
    thrice[last.weight] = thrice[last.weight].repeat_interleave(3, 2)
    wide = narrow.with_widths({"hidden2": 3 * size})
    plain = replace(wide, shares={})
    networks = Networks(ordinary.architecture.with_widths({"hidden2": 3 * size}), thrice)
    x = plain.encode(networks)
    torch.testing.assert_close(wide.decode(x).forward(inputs), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(wide.encode(wide.decode_state(x)), x, atol=1e-5, rtol=1e-4)
    bias = ordinary.weights[last.bias][:, None]
    torch.testing.assert_close(plain.decode(x).forward(inputs) - bias, 3 * (expected - bias), atol=1e-4, rtol=1e-4)
    back = wide.with_widths({"hidden2": size})
    assert back.shares == {} == narrow.with_widths({"hidden1": 9}).shares


def test_neurons_with_identities_have_one_width(make_flow):
    flow, _ = make_flow(identities=True)
    with pytest.raises(ValueError, match=r"velocity\.identities"):
        flow.with_widths({"hidden1": 9})


def test_leading_directions_are_columns_of_the_first_layer(zoo):
    coordinates = Coordinates(zoo.architecture)
    part, places = coordinates.leading(2)
    kept = part.unflatten(zoo.networks.flat[:, places])
    assert torch.equal(kept["linear1.weight"], zoo.weights["linear1.weight"][..., :2])
    assert all(torch.equal(kept[name], zoo.weights[name]) for name in kept if name != "linear1.weight")
    for everything in (0, 5, 99):
        assert torch.equal(coordinates.leading(everything)[1], torch.arange(zoo.architecture.dimension))


def test_a_flow_sees_leading_directions_only_and_stays_equivariant(make_flow, randomized):
    flow, zoo = make_flow(directions=2)
    fitted(flow, zoo)
    randomized(flow.network).requires_grad_(False)
    x, t = flow.coordinates.encode(zoo.networks)[:4], torch.full((4,), 0.5)
    hidden = flow.architecture.unflatten(torch.zeros(1, flow.architecture.dimension))
    hidden["linear1.weight"][..., 2:] = 1
    unseen = flow.architecture.flatten(hidden).bool()[0]
    moved = torch.where(unseen, x + 1, x)
    change = flow.predict(moved, t)[0] - flow.predict(x, t)[0]
    assert float(change[:, ~unseen].abs().max()) == 0
    assert float(change[:, unseen].abs().min()) > 0
    assert float((flow.predict(torch.where(unseen, x, x + 1), t)[0] - flow.predict(x, t)[0])[:, ~unseen].abs().max()) > 1e-3
    assert_equivariant(lambda p: flow.predict(p, t)[0], flow.architecture, x, generator(0, "p"), 1e-4)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_wide_conditioned_flows_survive_their_file(make_flow, randomized, geometry, tmp_path):
    flow, _ = make_flow(geometry, condition="loss")
    randomized(flow.network)
    wide = flow.with_widths({"hidden2": 9}).eval()
    save_flow(tmp_path / "flow.safetensors", wide)
    asked = {"condition": 0.3, "condition_strength": 0.5}
    theirs, ours = (sample(f, 3, 2, generator(0, "s"), **asked) for f in (wide, load_flow(tmp_path / "flow.safetensors")))
    assert torch.equal(theirs, ours)
    assert load_flow(tmp_path / "flow.safetensors").coordinates.shares == wide.coordinates.shares != {}
    assert theirs.shape[1] > flow.architecture.dimension
