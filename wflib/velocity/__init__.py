"""The networks that predict where a flow goes: (weights, time) → field, equivariant to hidden permutations."""

from torch import nn

from wflib.architecture import Architecture
from wflib.config import VelocityConfig
from wflib.velocity.neuron_tokens import NeuronTokens
from wflib.velocity.pna import PNA
from wflib.velocity.preconditioning import Coefficients, Preconditioner
from wflib.velocity.relational_transformer import RelationalTransformer

__all__ = ["PNA", "Coefficients", "NeuronTokens", "Preconditioner", "RelationalTransformer", "build_velocity"]


def build_velocity(config: VelocityConfig, architecture: Architecture) -> nn.Module:
    """The velocity network that a configuration names.

    Args:
        config: Section ``velocity``.
        architecture: Architecture of the flow's coordinates.

    Returns:
        A module ``(x (batch, D), t (batch,)) → (batch, D)``.
    """
    if config.kind != "neuron-tokens":
        kind = RelationalTransformer if config.kind == "relational-transformer" else PNA
        return kind(architecture, config.dimension, config.layers, config.heads, config.identities)
    return NeuronTokens(
        architecture, config.dimension, config.edge_dimension, config.layers, config.heads, config.identities
    )
