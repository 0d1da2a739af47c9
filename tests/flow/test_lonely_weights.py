"""Neurons with one number of their own: canonical networks have it 1 or −1, and no flow runs between two points."""

from __future__ import annotations

import pytest
import torch

from stages.fetch_data import check_networks
from tests.architecture.cases import traced
from tests.flow.test_every_kind import KINDS, settings
from wflib.architecture import NORMS, Architecture, mlp
from wflib.config import load_settings
from wflib.flow import Coordinates, Flow, draw_networks
from wflib.flow.prior import build_prior
from wflib.manifold import require_connected, weight_manifold
from wflib.rng import generator
from wflib.tasks import Dataset, Split

ONE_INPUT, WITHOUT_BIAS = mlp([1, 4, 2]), mlp([1, 4, 2], bias=False)
NORM_WITHOUT_OFFSETS = traced("rms-norm")[1]


def flow_on(architecture: Architecture, geometry: str) -> Flow:
    config = settings(geometry, "velocity.gradient_examples=0", "flow.coupling=independent")
    return Flow(config.flow, config.velocity, Coordinates(architecture), 0.3)


def drift(architecture: Architecture) -> float:
    """How far draws from the prior, put on the manifold, are from what their networks' coordinates are."""
    coordinates = Coordinates(architecture)
    x = build_prior(coordinates.manifold, architecture, 0.3).sample(50, generator(0, "draws")).double()
    x = coordinates.manifold.projx(x)
    return (coordinates.encode(coordinates.decode(x)) - x).abs().max().item()


@pytest.mark.parametrize("geometry", ["normalized", "geometric"])
def test_flows_refuse_them_and_say_what_helps(geometry):
    lonely = ONE_INPUT.canonical_form("weights")
    assert drift(lonely) > 1  # coordinates that the networks do not have
    expected = r"of linear1\.weight each is alone.*canonicalize\.norm: weights-and-bias.*or flow\.geometry: euclidean"
    with pytest.raises(ValueError, match=expected):
        flow_on(lonely, geometry)
    for norm in NORMS:
        for architecture, name in ((WITHOUT_BIAS, r"linear1\.weight"), (NORM_WITHOUT_OFFSETS, r"1\.weight")):
            with pytest.raises(ValueError, match=rf"of {name} each is alone.*Use flow\.geometry: euclidean\.$"):
                require_connected(architecture.canonical_form(norm))
    for architecture in (ONE_INPUT, WITHOUT_BIAS):
        assert len(draw_networks(flow_on(architecture, "euclidean"), 2, steps=2)) == 2


@pytest.mark.parametrize("geometry", ["normalized", "geometric"])
def test_with_biases_that_count_one_input_is_enough(geometry):
    joined = ONE_INPUT.canonical_form("weights-and-bias")
    assert drift(joined) < 1e-5
    assert len(draw_networks(flow_on(joined, geometry), 2, steps=2)) == 2


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", [*KINDS, "mlp", "one hidden neuron", "without biases"])
def test_other_networks_are_taken(name, norm):
    others = {
        "mlp": mlp([5, 4, 3, 2]),
        "one hidden neuron": mlp([3, 1, 2]),
        "without biases": mlp([5, 4, 2], bias=False),
    }
    architecture = {**KINDS, **others}[name].canonical_form(norm)
    require_connected(architecture)
    require_connected(architecture.ordinary_form())
    parts = weight_manifold(architecture).parts
    assert all(part.shape[1] > 1 for part in parts if part.sphere)
    assert any(part.sphere for part in parts)


def test_a_zoo_for_such_a_flow_is_not_trained_first():
    random = generator(0, "inputs")
    split = Split(torch.randn(20, 1, generator=random), torch.arange(20) % 2)
    dataset = Dataset("toy", "classification", 2, split, split, split)

    def check(*changes: str) -> None:
        check_networks(load_settings(changes=["zoo.widths=[4]", *changes]), dataset)

    with pytest.raises(ValueError, match=r"of linear1\.weight each is alone"):
        check("flow.geometry=geometric", "canonicalize.norm=weights")
    for changes in (["flow.geometry=geometric"], ["canonicalize.norm=weights"]):
        check(*changes)
