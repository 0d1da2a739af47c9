"""Architectures as torch modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wflib.activation import ACTIVATIONS
from wflib.architecture.chain import Layer
from wflib.architecture.spec import Architecture

__all__ = ["OperationsModule", "build_module", "require_module"]


def require_module(who: str, given: object) -> None:
    """Refuse what is no module, above all its class.

    Raises:
        ValueError: Says what was given.
    """
    if not isinstance(given, nn.Module):
        raise ValueError(f"{who}: expected an instance of torch.nn.Module, got {given!r}; make one, as MyNetwork().")


class OperationsModule(nn.Module):
    """One network that runs an architecture's operations; parameters and statistics keep their names."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        statistics = set(architecture.statistics)
        for name, shape in architecture.shapes:
            *path, leaf = name.split(".")
            holder: nn.Module = self
            for part in path:
                if part not in holder._modules:
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            if name in statistics:
                holder.register_buffer(leaf, torch.zeros(shape))
            else:
                holder.register_parameter(leaf, nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights from N(0, 1 / fan-in); factors of norms and variances are one, biases and means zero."""
        ones = {
            getattr(operation, name)
            for operation in self.architecture.operations
            if operation.kind.endswith("_norm")
            for name in ("weight", "variance")
            if getattr(operation, name, None)
        }
        for name, tensor in self.state_dict(keep_vars=True).items():
            if name in ones:
                tensor.fill_(1)
            elif tensor.ndim < 2:
                tensor.zero_()
            else:
                tensor.normal_(std=tensor[0].numel() ** -0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """(examples, *inputs) → (examples, outputs)."""
        weights = {name: tensor.unsqueeze(0) for name, tensor in self.state_dict(keep_vars=True).items()}
        return self.architecture.forward(weights, inputs).squeeze(0)


def build_module(architecture: Architecture) -> nn.Module:
    """A perceptron as ``torch.nn.Sequential``, any other network as :class:`OperationsModule`."""
    try:
        layers = architecture.layers
    except ValueError:
        return OperationsModule(architecture)
    if any(layer.activation not in ACTIVATIONS for layer in layers):
        return OperationsModule(architecture)
    return sequential(architecture, layers)


def sequential(architecture: Architecture, layers: Sequence[Layer]) -> nn.Sequential:
    """Linear modules and activations, in the order in which they run."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for index, layer in enumerate(layers, 1):
        name = layer.weight.removesuffix(".weight")
        outputs, inputs = architecture.shape(layer.weight)
        parts[name] = nn.Linear(inputs, outputs, bias=layer.bias is not None)
        if layer.activation != "identity":
            parts[f"{layer.activation}{index}"] = ACTIVATIONS[layer.activation].module()
    return nn.Sequential(parts)
