"""Many networks as one module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from wflib.architecture import Weights
from wflib.networks.checks import checked_inputs

if TYPE_CHECKING:  # networks make themselves into one
    from wflib.networks.networks import Networks

__all__ = ["StackedModule"]


class StackedModule(nn.Module):
    """Many networks as one module: inputs (examples, features) → outputs (networks, examples, outputs).

    Its parameters are the stacked tensors, named as in one network with dots as underscores, and one more at the end where
    something has that name; ``stacked`` gives them under their own names, as ``torch.func.functional_call`` with ``vmap``
    over ``architecture.module()`` takes them.

    Args:
        networks: What it starts from.
    """

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.architecture = networks.architecture
        self.names: dict[str, str] = {}
        for name, tensor in networks.weights.items():
            own = name.replace(".", "_")
            while hasattr(self, own):  # fc.0.weight after fc_0.weight, or what every module has, as names and training
                own += "_"
            self.names[name] = own
            self.register_parameter(own, nn.Parameter(tensor.detach().clone()))

    @property
    def stacked(self) -> Weights:
        """Stacked tensors by the names of one network's state dict."""
        return {name: getattr(self, own) for name, own in self.names.items()}

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of every network; inputs may have a leading network axis of their own."""
        weights = self.stacked
        return self.architecture.forward(weights, checked_inputs(self.architecture, weights, inputs))
