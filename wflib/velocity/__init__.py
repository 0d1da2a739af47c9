"""The networks that predict where a flow goes: (weights, time) → field, equivariant to hidden permutations.

:class:`wflib.velocity.pna.PNA` is imported from its module: PyTorch Geometric behind it takes a second.
"""

from typing import Any

from torch import nn

from wflib.architecture import Architecture
from wflib.config import VelocityConfig
from wflib.velocity.graph_network import GraphNetwork
from wflib.velocity.neuron_tokens import NeuronTokens
from wflib.velocity.preconditioning import Coefficients, Preconditioner, bulk, without_outliers
from wflib.velocity.relational_transformer import RelationalTransformer

__all__ = [
    "Coefficients",
    "NeuronTokens",
    "Preconditioner",
    "RelationalTransformer",
    "build_velocity",
    "bulk",
    "compile_parts",
    "without_outliers",
]


def build_velocity(config: VelocityConfig, architecture: Architecture, scalars: int = 0, fields: int = 0) -> nn.Module:
    """The velocity network that a configuration names.

    Args:
        config: Section ``velocity``.
        architecture: Architecture of the flow's coordinates.
        scalars: Number of scalars besides time that the field depends on.
        fields: Number of fields over the weights besides x that it depends on.

    Returns:
        A module ``(x (batch, D), t (batch,), scalars (batch, scalars) or None, fields (batch, fields, D) or None) →
        (batch, D)``.
    """
    if config.kind == "neuron-tokens":
        sizes = (config.dimension, config.edge_dimension, config.layers, config.heads)
        return NeuronTokens(architecture, *sizes, config.identities, scalars, fields)
    settings = (config.dimension, config.layers, config.heads, config.identities, scalars, fields)
    if config.kind == "relational-transformer":
        return RelationalTransformer(architecture, *settings)
    from wflib.velocity.pna import PNA  # see above

    return PNA(architecture, *settings)


def compile_parts(network: nn.Module, kernels: bool = True, **options: Any) -> None:
    """Compile in place what a velocity network does most of its work in.

    That is each layer, and on graphs what reads edges, by ``torch.compile``; layers share what is compiled for the first.

    Args:
        network: A velocity network of any kind.
        kernels: Whether a relational transformer works on its edges by kernels where there are some for it; they are for
            float32 on CPU.
        options: As ``torch.compile`` takes them.

    Raises:
        RuntimeError: The kernels cannot be built.
    """
    if kernels and isinstance(network, RelationalTransformer):
        network.use_kernels()
    readers = network.edge_outputs if isinstance(network, GraphNetwork) else ()
    for part in (*network.get_submodule("layers").children(), *readers):
        part.compile(**options)
