"""Merge two networks of your own by alignment: ``python examples/merge_two_networks.py``."""

from __future__ import annotations

from typing import Annotated

import torch
import typer
from torch import nn

import wflib
from wflib.networks import Networks, accuracy, network_losses, predict
from wflib.tasks import TASKS, Split


@torch.enable_grad()
def trained(train: Split, seed: int, steps: int) -> nn.Sequential:
    """A network trained as anyone would."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(train.inputs), train.targets).backward()
        optimizer.step()
    return module


def scores(networks: Networks, test: Split) -> str:
    """Means over networks, in words."""
    right = accuracy(predict(networks, test.inputs), test.targets).mean()
    return f"test loss {network_losses(networks, test).mean():.3f} nats, accuracy {right:.3f}"


@torch.no_grad()
def main(steps: Annotated[int, typer.Option(help="Training steps of each network.")] = 100) -> None:
    """Train two networks from different initial weights, bring their neurons into one order, average their weights."""
    dataset = TASKS["digits"]().shaped((64,))
    modules = [trained(dataset.train, seed, steps) for seed in (0, 1)]
    architecture = wflib.Architecture.from_module(modules[0], dataset.train.inputs[:1])
    networks = wflib.Networks.from_state_dicts(architecture, [module.state_dict() for module in modules])
    matched = {
        "as trained": networks,
        "weights matched": wflib.align(networks),
        "activations matched": wflib.align(networks, inputs=dataset.train.inputs),
    }
    typer.echo(f"{'the two networks':<28}{scores(networks, dataset.test)}")
    for name, pair in matched.items():
        merged = pair[:1].lerp(pair[1:], 0.5)
        typer.echo(f"{'merged, ' + name:<28}{scores(merged, dataset.test)}")
    modules[0].load_state_dict(merged[0])  # a state dict as any other


if __name__ == "__main__":
    typer.run(main)
