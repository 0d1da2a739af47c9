"""Initial weights have the moments that the recipe says, tensor by tensor."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.architecture import cnn, mlp, resnet, vit
from wflib.rng import generator
from wflib.zoo import INITS, initial_moments, initialize

NETWORKS = {"mlp": mlp([20, 30, 9]), "cnn": cnn((2, 6, 6), [7], 5), "resnet": resnet((1, 6, 6), [6, 9], 5)}
NETWORKS["vit"] = vit((1, 4, 4), 8, [6], 3)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("name", NETWORKS)
def test_entries_have_the_mean_and_deviation_of_their_tensor(name, init):
    architecture = NETWORKS[name]
    moments = initial_moments(architecture, 0.3, init)
    assert set(moments) == {key for key, _ in architecture.shapes}
    drawn = initialize(architecture, 2000, 0.3, generator(0, "moments"), init).weights
    for key, tensor in drawn.items():
        mean, deviation = moments[key]
        assert float(tensor.mean()) == pytest.approx(mean, abs=0.08 * deviation + 1e-12)
        assert float(tensor.std()) == pytest.approx(deviation, rel=0.08)
    ones = {key for key, tensor in drawn.items() if bool((tensor == 1).all())}
    assert ones == {key for key in drawn if "norm" in key and key.endswith((".weight", "running_var"))}


def test_deviations_are_those_of_the_sizes():
    found = {init: initial_moments(NETWORKS["cnn"], 0.3, init) for init in INITS}
    conv = {init: moments["conv1.weight"][1] for init, moments in found.items()}  # 2 × 3 × 3 in, 7 × 3 × 3 out
    expected = {"normal": 0.3, "torch": 1 / math.sqrt(54), "he": math.sqrt(2 / 18), "glorot": math.sqrt(2 / 81)}
    assert conv == pytest.approx(expected)
    biases = {init: moments["conv1.bias"][1] for init, moments in found.items()}
    assert biases == pytest.approx({"normal": 0.3, "torch": 1 / math.sqrt(54), "he": 0, "glorot": 0})
    attention = initial_moments(NETWORKS["vit"], 0.3, "glorot")["block1.attention.in_proj_weight"]
    assert attention[1] == pytest.approx(math.sqrt(2 / 16))  # queries, keys and values are maps of their own
    layer = torch.nn.Linear(20, 4000)
    assert float(layer.weight.detach().std()) == pytest.approx(
        initial_moments(NETWORKS["mlp"], 1, "torch")["linear1.weight"][1], 0.02
    )


def test_another_init_is_refused():
    with pytest.raises(ValueError, match="init must be one of normal, torch, he, glorot, got 'uniform'"):
        initial_moments(NETWORKS["mlp"], 0.3, "uniform")
