"""Flows on canonical regressions: no output scale says that they are canonical, and the last layer stays flat."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.flow import Coordinates, Flow, FlowTrainer, draw_networks, load_flow, sample, save_flow
from wflib.flow.prior import canonical_prior
from wflib.manifold import weight_manifold
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import canonicalize
from wflib.tasks import Split
from wflib.testing import assert_same_function
from wflib.zoo import Zoo, canonical_zoo

ARCHITECTURE, STD = mlp([20, 16, 12, 2], task_type="regression"), 0.3


def initial(count: int) -> dict[str, torch.Tensor]:
    flat = STD * torch.randn(count, ARCHITECTURE.dimension, generator=generator(0, "initial"))
    return ARCHITECTURE.unflatten(flat)


@pytest.fixture
def regressions() -> Zoo:
    held_out = torch.arange(12) >= 9
    ordinary = Zoo(Networks(ARCHITECTURE, initial(12)), torch.arange(12), torch.ones(12).long(), held_out, "aligned")
    return canonical_zoo(ordinary, "weights")


def test_the_prior_has_the_widths_of_canonical_initializations():
    expected = canonicalize(Networks(ARCHITECTURE, initial(3_000)), "weights").networks.weights
    canonical = ARCHITECTURE.canonical_form("weights")
    prior = canonical_prior(weight_manifold(canonical), canonical, STD)
    found = ARCHITECTURE.unflatten(prior.sample(3_000, generator(0, "prior")))
    assert torch.allclose(found["linear2.weight"].norm(dim=-1), torch.ones(3_000, 12))
    for name in ("linear1.bias", "linear2.bias", "linear3.weight", "linear3.bias"):
        assert 0.8 < (found[name].std() / expected[name].std()).item() < 1.25, name
    assert expected["linear3.weight"].std() > 1.3 * STD  # the ordinary width would be wrong


@pytest.mark.parametrize("loss", ["standardized", "gauss-newton"])
@pytest.mark.parametrize("geometry", ["normalized", "geometric"])
def test_a_flow_trains_draws_and_survives_its_file(make_flow, training_config, regressions, tmp_path, geometry, loss):
    like, _ = make_flow(geometry)
    coordinates = Coordinates(regressions.architecture)
    flow = Flow(like.config, like.velocity_config, coordinates, STD, {"task": "toy"})
    inputs = torch.randn(30, 20, generator=generator(0, "x"))
    trainer = FlowTrainer(flow, regressions, training_config(loss=loss), Split(inputs, torch.randn(30, 2)))
    trainer.run()
    assert all(0 < row["loss"] < 1e3 for row in trainer.history)
    x = sample(flow, 5, 4, generator(0, "s"))
    weights = ARCHITECTURE.unflatten(x)
    assert torch.allclose(weights["linear1.weight"].norm(dim=-1), torch.ones(5, 16), atol=1e-5)
    assert (weights["linear3.weight"].flatten(1).norm(dim=1) - 1).abs().min() > 1e-3
    save_flow(tmp_path / "flow.safetensors", flow)
    loaded = load_flow(tmp_path / "flow.safetensors")
    assert loaded.coordinates.architecture.canonical
    assert torch.equal(sample(loaded, 5, 4, generator(0, "s")), x)
    assert len(draw_networks(loaded, 3, seed=0)) == 3
    wider = loaded.with_widths({"hidden1": 20})
    assert wider.coordinates.architecture.canonical
    ordinary = Networks(ARCHITECTURE, initial(4)).to(torch.float64)
    assert_same_function(ordinary, coordinates.decode(coordinates.encode(ordinary)), inputs.double())


def test_what_is_said_must_fit_the_architecture(make_flow):
    flow, _ = make_flow("geometric")
    with pytest.raises(ValueError, match="works on canonical networks"):
        Flow(flow.config, flow.velocity_config, Coordinates(ARCHITECTURE), STD)
