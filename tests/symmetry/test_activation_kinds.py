"""Activation matching of networks of every kind: channels, tokens, heads with their widths."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.architecture.cases import Wired, change, random_inputs
from tests.symmetry.kinds import BUILT, KINDS, NETWORKS, disguised, drawn, equal
from wflib.architecture import Architecture, NeuronPlaces, cnn, neuron_places
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import activation_matching, identity, permute, random_permutations
from wflib.symmetry.activation_matching import by_example, firing, places_of_all

over_kinds = pytest.mark.parametrize("name", KINDS)


def repeated(weights):
    return {name: tensor[:1].expand(NETWORKS, *tensor.shape[1:]) for name, tensor in weights.items()}


@over_kinds
@pytest.mark.parametrize("examples", [1, 4])
def test_planted_permutations_are_found_exactly(name, examples):
    architecture = KINDS[name]()
    weights = repeated(drawn(architecture))
    hidden = disguised(architecture, weights)
    assert not equal(hidden, weights)
    inputs = random_inputs(architecture)[:examples]
    found = activation_matching(
        Networks(architecture, {n: t[:1] for n, t in weights.items()}), Networks(architecture, hidden), inputs, chunk=2
    )
    back = permute(Networks(architecture, hidden), found).weights
    # Neurons that never fire may be exchanged; what weights read of them does not change the function.
    assert change(architecture, weights, back) < 1e-10
    if examples > 1 and name in {"vit", "transformer", "cnn-batch", "layer-norm", "group-norm", "relative-positions"}:
        assert equal(back, weights)


@over_kinds
def test_activations_move_with_their_neurons(name):
    """The places found are those of the neurons: permuting a network permutes what lies there, and nothing else does."""
    architecture = KINDS[name]()
    weights = drawn(architecture)
    order = random_permutations(architecture, NETWORKS, generator(0, "order"))
    known = neuron_places(architecture.inputs, architecture.shapes, architecture.operations)
    parents = {group.name: group.parent for group in architecture.hidden_groups}
    inputs = random_inputs(architecture)
    networks = Networks(architecture, weights)
    before, after = (firing(side, inputs, known) for side in (networks, permute(networks, order)))
    for group, values in before.items():
        moved = values
        if parents[group] is not None:
            index = order[parents[group]][:, None, :, None, None].expand_as(values)
            moved = moved.gather(2, index)
        axis = moved.ndim - 2
        index = order[group].unsqueeze(1).unsqueeze(-1).expand_as(moved)
        torch.testing.assert_close(after[group], moved.gather(axis, index))
        assert not torch.allclose(after[group], values)


@pytest.mark.parametrize("name", BUILT)
def test_no_order_brings_activations_nearer(name):
    architecture = BUILT[name]()
    reference, networks = Networks(architecture, drawn(architecture, 1)), Networks(architecture, drawn(architecture, seed=1))
    inputs, known = random_inputs(architecture), places_of_all(architecture)
    aims = firing(reference, inputs, known)

    def distance(permutations):
        fires = firing(permute(networks, permutations), inputs, known)
        return sum((aims[group] - fires[group]).square().flatten(1).sum(1) for group in aims)

    best = distance(activation_matching(reference, networks, inputs))
    assert bool((best <= distance(identity(architecture, NETWORKS)) + 1e-9).all())
    others = torch.stack([distance(random_permutations(architecture, NETWORKS, generator(seed))) for seed in range(20)])
    assert bool((others >= best * (1 - 1e-12)).all())
    assert bool((others.mean(0) > best * 1.001).all())


def windows(m, x):
    """Two windows of each example, one example after the other."""
    return m.last(torch.tanh(m.middle(functional.relu(m.first(x.reshape(-1, 4))))).reshape(len(x), -1))


def steps(m, x):
    """All examples at the first of two steps, then all at the second."""
    h = m.middle(functional.relu(m.first(x.view(-1, 2, 4).transpose(0, 1).reshape(-1, 4))))
    return m.last(torch.tanh(h).view(2, -1, 3).transpose(0, 1).flatten(1))


@pytest.mark.parametrize("run", [windows, steps])
@pytest.mark.parametrize("examples", [2, 7])
def test_examples_are_told_from_their_windows(run, examples):
    module = Wired(run, first=nn.Linear(4, 5), middle=nn.Linear(5, 3), last=nn.Linear(6, 2))
    architecture = Architecture.from_module(module.double(), torch.zeros(1, 8, dtype=torch.float64))
    weights = drawn(architecture)
    hidden = disguised(architecture, weights)
    networks, inputs = Networks(architecture, weights), torch.randn(examples, 8, generator=generator(0, "x")).double()
    known = neuron_places(architecture.inputs, architecture.shapes, architecture.operations)
    merged = [one for one in known.values() if one.shape[0] == 2]
    assert merged
    together = firing(networks, inputs, known)
    for at in range(examples):
        for group, alone in firing(networks, inputs[at : at + 1], known).items():
            torch.testing.assert_close(together[group][:, at : at + 1], alone)
    for index in range(NETWORKS):
        one = Networks(architecture, {name: tensor[index : index + 1] for name, tensor in weights.items()})
        other = Networks(architecture, {name: tensor[index : index + 1] for name, tensor in hidden.items()})
        back = permute(other, activation_matching(one, other, inputs))
        assert change(architecture, one.weights, back.weights) < 1e-10
    value = torch.arange(2.0 * examples * 5).view(1, 2 * examples, 5)
    with pytest.raises(ValueError, match=r"has 2 entries for each example.*use weight matching"):
        by_example(value, merged[0], [value[:, 1:3], value[:, -2:]])


def test_chunks_change_nothing():
    architecture = BUILT["resnet"]()
    reference, weights, inputs = drawn(architecture, 1), drawn(architecture, 5, seed=1), random_inputs(architecture)
    whole, parts = (
        activation_matching(Networks(architecture, reference), Networks(architecture, weights), inputs, chunk)
        for chunk in (1024, 2)
    )
    assert equal(whole, parts)
    assert not equal(whole, identity(architecture, 5))


def test_what_cannot_be_found_is_refused(monkeypatch):
    architecture = cnn((1, 8, 8), [4, 3], 5)
    weights, inputs = drawn(architecture), random_inputs(architecture)
    one = {name: tensor[:1] for name, tensor in weights.items()}
    module = sys.modules["wflib.symmetry.activation_matching"]  # its name in the package is the function's
    monkeypatch.setattr(module, "neuron_places", lambda *given: {"conv1": neuron_places(*given)["conv1"]})
    with pytest.raises(ValueError, match=r"no value of the network holds the neurons of conv2.*use weight matching"):
        activation_matching(Networks(architecture, one), Networks(architecture, weights), inputs)
    known = NeuronPlaces("flat", (1, 4, 3), torch.arange(12).view(3, 4))
    with pytest.raises(ValueError, match=r"flat expected \(1, 4, 3\) for one example.*got \(5, 3, 4\)"):
        by_example(torch.zeros(2, 5, 3, 4), known)
    assert by_example(torch.zeros(2, 5, 4, 3), known).shape == (2, 5, 12)
    assert by_example(torch.zeros(2, 1, 4, 3), known).shape == (2, 1, 12)
