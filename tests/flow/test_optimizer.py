"""Which optimizer steps which parameter, and that Muon's steps are orthogonal while AdamW's are not."""

from __future__ import annotations

import pytest
import torch

from wflib.flow.optimizer import build_optimizers

KINDS = ("neuron-tokens", "relational-transformer", "pna")


def taken(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_stepped_by_exactly_one_optimizer(make_flow, training_config, kind, optimizer):
    network = make_flow(kind=kind)[0].network
    found = [
        id(parameter)
        for each in build_optimizers(network, training_config(optimizer=optimizer))
        for parameter in taken(each)
    ]
    assert sorted(found) == sorted(id(parameter) for parameter in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_muon_takes_the_matrices_of_layers_and_nothing_else(make_flow, training_config, kind):
    network = make_flow(kind=kind)[0].network
    adamw, muon = build_optimizers(network, training_config(optimizer="muon"))
    assert isinstance(adamw, torch.optim.AdamW)
    assert isinstance(muon, torch.optim.Muon)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    theirs = {names[id(parameter)] for parameter in taken(muon)}
    assert theirs == {name for name, value in network.named_parameters() if name.startswith("layers.") and value.ndim == 2}
    assert len(theirs) > 10


def relative_singular_values(network: torch.nn.Module, config) -> torch.Tensor:
    """Fourth over first singular value of the first step of every matrix in the layers."""
    before = {name: value.detach().clone() for name, value in network.layers.named_parameters() if value.ndim == 2}
    random = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        # Gradients of quickly falling singular values, as those of trained networks are.
        gradient = torch.randn(parameter.shape, generator=random)
        if parameter.ndim == 2:
            u, s, v = torch.linalg.svd(gradient, full_matrices=False)
            gradient = u * (0.5 ** torch.arange(len(s))) @ v
        parameter.grad = gradient
    for optimizer in build_optimizers(network, config):
        optimizer.step()
    steps = [value.detach() - before[name] for name, value in network.layers.named_parameters() if value.ndim == 2]
    values = [torch.linalg.svdvals(step) for step in steps]
    return torch.stack([value[3] / value[0] for value in values])


def test_muon_steps_all_directions_alike_and_adamw_does_not(make_flow, training_config):
    settings = {"learning_rate": 0.1}
    muon = relative_singular_values(make_flow()[0].network, training_config(optimizer="muon", **settings))
    adamw = relative_singular_values(make_flow()[0].network, training_config(optimizer="adamw", **settings))
    assert muon.min() > 0.5
    assert adamw.median() < 0.5
