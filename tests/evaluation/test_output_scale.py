"""One factor for all logits: classes stay, losses change as they must."""

import pytest
import torch

from tests.cases import random_networks
from wflib.architecture import mlp
from wflib.evaluation import best_output_factor, with_output_factor, without_output_scale
from wflib.networks import network_losses
from wflib.rng import generator
from wflib.symmetry import canonicalize
from wflib.tasks import Split

ARCHITECTURE = mlp([5, 6, 3])


@pytest.fixture(params=["ordinary", "canonical"])
def networks(request):
    drawn = random_networks(ARCHITECTURE, 4).to(torch.float32)
    return drawn if request.param == "ordinary" else canonicalize(drawn).networks


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_logits_are_multiplied(networks, factor):
    inputs = torch.randn(7, 5, generator=generator(0, "inputs"))
    torch.testing.assert_close(with_output_factor(networks, factor).forward(inputs), factor * networks.forward(inputs))


def test_the_best_factor_undoes_another_one(networks):
    inputs = torch.randn(2000, 5, generator=generator(0, "inputs"))
    probabilities = networks[:1].forward(inputs)[0].softmax(-1)
    targets = torch.multinomial(probabilities, 1, generator=generator(0, "targets"))[:, 0]
    split, one = Split(inputs, targets), networks[:1]
    assert best_output_factor(one, split) == pytest.approx(1, rel=0.2)
    sharp = with_output_factor(one, 2.0)
    assert best_output_factor(sharp, split) == pytest.approx(0.5, rel=0.2)
    mended = with_output_factor(sharp, best_output_factor(sharp, split))
    assert network_losses(mended, split).item() < network_losses(sharp, split).item()


def test_without_scale_classes_stay_and_the_last_layer_has_norm_one():
    canonical = canonicalize(with_output_factor(random_networks(ARCHITECTURE, 4).to(torch.float32), 5.0)).networks
    inputs = torch.randn(7, 5, generator=generator(0, "inputs"))
    plain, bare = canonical.forward(inputs), without_output_scale(canonical).forward(inputs)
    assert torch.equal(plain.argmax(-1), bare.argmax(-1))
    ratio = (plain / bare).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert not torch.allclose(plain, bare)
    with pytest.raises(ValueError, match="expected canonical classifiers"):
        without_output_scale(random_networks(ARCHITECTURE, 2))


def test_regressions_and_negative_factors_are_refused(networks):
    with pytest.raises(ValueError, match="positive factor"):
        with_output_factor(networks, -1.0)
    with pytest.raises(ValueError, match="regression"):
        with_output_factor(random_networks(mlp([5, 6, 1], task_type="regression"), 2), 2.0)
