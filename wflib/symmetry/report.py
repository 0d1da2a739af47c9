"""What a network's symmetries are, to read: groups, ties, scalings, and how much these make redundant at least."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from wflib.architecture import Architecture, require_module

__all__ = ["Symmetries", "symmetries"]


@dataclass(frozen=True)
class Symmetries:
    """Symmetries of one architecture; ``str`` prints them.

    Attributes:
        architecture: What they follow from.
    """

    architecture: Architecture

    @property
    def parameters(self) -> int:
        """Number of learned parameters."""
        statistics = set(self.architecture.statistics)
        return sum(math.prod(shape) for name, shape in self.architecture.shapes if name not in statistics)

    @property
    def permutable(self) -> int:
        """Number of neurons that may be exchanged for others."""
        return sum(self.instances(group.name) * group.size for group in self.architecture.hidden_groups if group.size > 1)

    @property
    def scalable(self) -> int:
        """Number of positive factors that may be chosen freely."""
        return sum(scaling.size for scaling in self.architecture.scalings if scaling.kind != "sign")

    @property
    def mixable(self) -> int:
        """Dimension of the matrices that may stand between queries and keys of heads: width² for each head."""
        return sum(count for _, count in self.architecture.derivation.matrices)

    @property
    def redundant(self) -> float:
        """Share of the parameters that scalings and the matrices between queries and keys make redundant.

        More may be: matrices between values and outputs, of which scalings are the diagonals, those of layers without a
        nonlinearity between, biases that a norm or a softmax takes out.
        """
        return (self.scalable + self.mixable) / self.parameters

    @property
    def log_order(self) -> float:
        """Natural logarithm of the number of permutations and signs that leave the function alone."""
        groups = self.architecture.hidden_groups
        permutations = sum(self.instances(group.name) * math.lgamma(group.size + 1) for group in groups)
        signs = sum(scaling.size for scaling in self.architecture.scalings if scaling.kind != "positive")
        return permutations + signs * math.log(2)

    def instances(self, group: str) -> int:
        """How often a group exists: once, or for each neuron of its parent."""
        parent = next(g.parent for g in self.architecture.groups if g.name == group)
        return 1 if parent is None else self.architecture.size(parent)

    def ties(self, group: str) -> list[str]:
        """The axes of tensors that count a group's neurons, as ``tensor[axis]``."""
        return [
            f"{name}[{place}]"
            for name, _ in self.architecture.shapes
            for place, axis in enumerate(self.architecture.axes(name))
            if group in axis.groups
        ]

    def __str__(self) -> str:
        lines = [
            f"{self.parameters:,} parameters: {self.permutable:,} permutable neurons (log of the group's order "
            f"{self.log_order:,.0f}), {self.scalable:,} scalings, {self.mixable:,} dimensions between queries and keys; "
            f"these make at least {self.redundant:.2%} redundant.",
            "",
            "groups",
        ]
        for group in self.architecture.hidden_groups:
            inside = f" in each of {group.parent}" if group.parent else ""
            lines.append(
                f"  {group.name}: {group.size}{inside}; {', '.join(self.ties(group.name)) or 'through its members'}"
            )
        lines += ["", "scalings"]
        for scaling in self.architecture.scalings:
            written = [factor.tensor for factor in scaling.factors if factor.power >= 0]
            read = [factor.tensor for factor in scaling.factors if factor.power < 0]
            lines.append(
                f"  {scaling.name}: {scaling.size} {scaling.kind}; written by {', '.join(written)}, read by "
                f"{', '.join(read) or 'statistics only'}"
            )
        return "\n".join(lines)


def symmetries(subject: nn.Module | Architecture, example: Tensor | None = None) -> Symmetries:
    """The symmetries of a network: which neurons may be exchanged, which rescaled, and what that makes redundant.

    Args:
        subject: A torch module, or an architecture.
        example: For a module, inputs that it accepts, (examples, …); small ones suffice.

    Returns:
        A report to print, with its numbers as attributes.

    Raises:
        ValueError: No module, one without an example, or one that cannot be traced.

    Example:
        >>> from wflib.architecture import mlp
        >>> print(symmetries(mlp([3, 5, 2])))
        32 parameters: 5 permutable neurons (log of the group's order 5), 5 scalings, 0 dimensions between queries and keys; these make at least 15.62% redundant.
        <BLANKLINE>
        groups
          hidden1: 5; linear1.weight[0], linear1.bias[0], linear2.weight[1]
        <BLANKLINE>
        scalings
          hidden1: 5 positive; written by linear1.weight, linear1.bias, read by linear2.weight
    """  # noqa: E501 (what is printed)
    if isinstance(subject, Architecture):
        return Symmetries(subject)
    require_module("symmetries", subject)
    if example is None:
        raise ValueError("symmetries: a module needs an example of its inputs, (examples, …).")
    return Symmetries(Architecture.from_module(subject, example))
