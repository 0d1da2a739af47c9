"""What a base network is, as data: typed operations, the shapes of their tensors, and all that follows from both.

Everything that has to know how weights hang together (permuting, scaling, matching, canonicalizing, flattening, building
graphs, running the network) reads this one description and never a list of layer sizes of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from wflib.architecture.chain import Layer, chain
from wflib.architecture.changes import with_variances_held
from wflib.architecture.derive import Axis, Derivation, NeuronGroup, Scaling, derive
from wflib.architecture.operations import Linear, Operation
from wflib.architecture.running import check_operations, run_operations
from wflib.architecture.widths import with_widths

__all__ = ["NORMS", "Architecture", "TensorSpec", "Weights"]

Weights = dict[str, Tensor]
"""Weights of many networks at once: tensor name → (networks, *shape)."""

NORMS = ("weights-and-bias", "weights")
"""Which norm of a neuron's incoming weights is one in canonical networks: with the bias (the default), or without."""


@dataclass(frozen=True)
class TensorSpec:
    """One weight tensor: the name of each of its axes, a group's where an axis counts one group. No axes: a scalar."""

    name: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """A feed-forward base network described by data.

    Attributes:
        inputs: Shape of one example.
        shapes: Name and shape of every weight tensor, in flat-vector order.
        operations: In the order in which they run. They use the value ``"input"`` and those before them; the last one
            computes the output.
        task_type: ``"classification"`` (outputs are logits) or ``"regression"``.
        log_scale: Name of a scalar tensor ρ when outputs are multiplied by exp(ρ), as in canonical classifiers.
        norm: Which norm of incoming weights is one, one of ``NORMS``, in canonical networks; None in ordinary ones.

    Raises:
        ValueError: Names are not unique, or an operation uses a tensor or value that does not exist.
    """

    inputs: tuple[int, ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    operations: tuple[Operation, ...]
    task_type: str = "classification"
    log_scale: str | None = None
    norm: str | None = None

    def __post_init__(self) -> None:
        names = dict(self.shapes)
        if len(names) < len(self.shapes):
            raise ValueError("Architecture: names of tensors must be unique.")
        check_operations(self.operations, names)
        if self.task_type not in ("classification", "regression"):
            raise ValueError(f"Architecture: task_type must be classification or regression, got {self.task_type!r}.")
        if self.log_scale is not None and self.log_scale not in names:
            raise ValueError(f"Architecture: log_scale names {self.log_scale!r}, which is no tensor.")
        if self.log_scale is not None and self.output_layer is None:
            raise ValueError(
                "Architecture: log_scale expected a linear map of its own weights as the last operation, found none."
            )
        if self.norm not in (None, *NORMS):
            raise ValueError(f"Architecture: norm must be one of {', '.join(NORMS)} or None, got {self.norm!r}.")

    @property
    def canonical(self) -> bool:
        """Whether networks are canonical, a norm of theirs being one, rather than ordinary."""
        return self.norm is not None

    @cached_property
    def derivation(self) -> Derivation:
        """What follows from the operations: groups, axes, scalings."""
        return derive(self.inputs, self.shapes, self.operations)

    @property
    def groups(self) -> tuple[NeuronGroup, ...]:
        """The input, then groups of neurons that may be exchanged, then the output."""
        return self.derivation.groups

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight tensors in flat-vector order."""
        axes = self.derivation.axes
        return tuple(TensorSpec(name, tuple(axis.name for axis in axes[name])) for name, _ in self.shapes)

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        """Neurons that may be rescaled."""
        return self.derivation.scalings

    @property
    def statistics(self) -> tuple[str, ...]:
        """Tensors that are measured rather than learned: running means and variances."""
        return tuple(dict.fromkeys(name for operation in self.operations for name in operation.statistics))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """A perceptron's affine maps with their activations, from input to output.

        Raises:
            ValueError: The network is no perceptron; says which operation is none of a perceptron's.
        """
        return chain(self.operations)

    @property
    def output_layer(self) -> Linear | None:
        """The last operation where it is a linear map whose weights nothing else uses: what an output scale can divide."""
        *before, last = self.operations
        if not isinstance(last, Linear) or last.rows is not None:
            return None
        shared = {name for operation in before for name in operation.tensors} & set(last.tensors)
        return None if shared else last

    def axes(self, tensor: str) -> tuple[Axis, ...]:
        """Which places of each axis of a tensor belong to which neurons."""
        return self.derivation.axes[tensor]

    def size(self, group: str) -> int:
        """Number of neurons of a group; of a nested one, of those of one parent."""
        return next(g.size for g in self.groups if g.name == group)

    def tensor(self, name: str) -> TensorSpec:
        """The description of one tensor."""
        return next(t for t in self.tensors if t.name == name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one network's tensor."""
        return shapes_of(self.shapes)[name]

    @property
    def hidden_groups(self) -> tuple[NeuronGroup, ...]:
        """The groups whose neurons may be permuted, in the order of the network."""
        return tuple(group for group in self.groups if group.permutable)

    @property
    def slices(self) -> dict[str, slice]:
        """Where each tensor lies in the flat vector."""
        found, offset = {}, 0
        for name, shape in self.shapes:
            length = math.prod(shape)
            found[name] = slice(offset, offset + length)
            offset += length
        return found

    @property
    def dimension(self) -> int:
        """Number of coordinates of one network, D."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def flatten(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Weights → flat vectors (..., D), tensors in the order of ``shapes``.

        Raises:
            ValueError: A tensor is missing or has the wrong shape.
        """
        self.validate(weights)
        first, shape = self.shapes[0]
        batch = weights[first].shape[: weights[first].ndim - len(shape)]
        pieces = [weights[name].reshape(*batch, where.stop - where.start) for name, where in self.slices.items()]
        return torch.cat(pieces, -1)

    def unflatten(self, flat: Tensor) -> Weights:
        """Flat vectors (..., D) → weights; views where memory allows.

        Raises:
            ValueError: The last axis is not D long.
        """
        if flat.shape[-1] != self.dimension:
            raise ValueError(f"Shape mismatch: expected flat vectors (..., {self.dimension}), got {tuple(flat.shape)}.")
        batch = flat.shape[:-1]
        return {name: flat[..., where].reshape((*batch, *self.shape(name))) for name, where in self.slices.items()}

    def validate(self, weights: Mapping[str, Tensor]) -> None:
        """Check names, shapes and that all tensors share their batch axes.

        Raises:
            ValueError: Says which tensor differs, what was expected and what was found.
        """
        names = [name for name, _ in self.shapes]
        if set(weights) != set(names):
            raise ValueError(f"Weights: expected tensors {sorted(names)}, got {sorted(weights)}.")
        batches = set()
        for name, expected in self.shapes:
            found = tuple(weights[name].shape)
            if found[len(found) - len(expected) :] != expected or len(found) < len(expected):
                raise ValueError(f"Shape mismatch: {name} expected (..., {', '.join(map(str, expected))}), got {found}.")
            batches.add(found[: len(found) - len(expected)])
        if len(batches) > 1:
            raise ValueError(f"Shape mismatch: tensors disagree about their batch axes: {sorted(batches)}.")

    def forward(self, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Outputs of all networks, run together.

        Args:
            weights: Tensors of shape (networks, *shape).
            inputs: (examples, *inputs), shared by all networks, or (networks, examples, *inputs).

        Returns:
            (networks, examples, outputs): logits for a classifier, predictions for a regression.
        """
        return self.run(weights, inputs, {self.operations[-1].output})[self.operations[-1].output]

    def activations(self, weights: Mapping[str, Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """What every group computes, as weights first read it, group → (networks, examples, …); as :meth:`forward`."""
        named = self.derivation.values
        values = self.run(weights, inputs, set(named.values()))
        return {group: values[value] for group, value in named.items()}

    def run(self, weights: Mapping[str, Tensor], inputs: Tensor, kept: set[str]) -> dict[str, Tensor]:
        """The values of these names, arguments as in :meth:`forward`; others are forgotten after their last use."""
        networks = len(weights[self.shapes[0][0]])
        inputs = inputs.expand(networks, *inputs.shape[-1 - len(self.inputs) :])
        values = run_operations(self.operations, weights, inputs, kept)
        if self.log_scale is not None:
            last = values[self.operations[-1].output]
            scale = weights[self.log_scale].exp().view(-1, *(1 for _ in last.shape[1:]))
            values[self.operations[-1].output] = last * scale
        return values

    def module(self) -> nn.Module:
        """One network of this architecture as a ``torch.nn.Module``; its ``state_dict`` has our tensor names.

        A perceptron becomes a ``torch.nn.Sequential``.

        Raises:
            ValueError: The architecture has an output scale: decanonicalize first.
        """
        from wflib.architecture.modules import build_module  # modules run architectures

        if self.log_scale is not None:
            raise ValueError("Architecture: a canonical network is no torch.nn module; decanonicalize it first.")
        return build_module(self)

    @staticmethod
    def from_module(module: nn.Module, example: Tensor, task_type: str = "classification") -> Architecture:
        """The architecture of a torch module, by recording what it does in evaluation mode; see :func:`trace`."""
        from wflib.architecture.trace import trace  # tracing builds architectures

        return trace(module, example, task_type)

    def canonical_form(self, norm: str = NORMS[0]) -> Architecture:
        """What canonical networks are: a norm is one, and outputs of classifiers are multiplied by exp(ρ).

        ρ is one more scalar tensor, ``log_scale``: the last layer's norm, which logits need. A classifier that does not end
        in an :attr:`output_layer` has none. Running variances are held as variance + ε.

        Args:
            norm: One of ``NORMS``.
        """
        form = replace(self, operations=with_variances_held(self.operations, "shifted"), norm=norm)
        if self.task_type == "regression" or self.output_layer is None or self.log_scale is not None:
            return form
        return replace(form, shapes=(*self.shapes, ("log_scale", ())), log_scale="log_scale")

    def ordinary_form(self) -> Architecture:
        """The ordinary network behind a canonical one."""
        shapes = tuple((name, shape) for name, shape in self.shapes if name != self.log_scale)
        operations = with_variances_held(self.operations, "variance")
        return replace(self, shapes=shapes, operations=operations, log_scale=None, norm=None)

    def with_widths(self, widths: Mapping[str, int]) -> Architecture:
        """The same network with other sizes of hidden groups; see :func:`wflib.architecture.widths.with_widths`."""
        return with_widths(self, widths)

    def to_json(self) -> str:
        """One line of JSON that :meth:`from_json` reads back."""
        from wflib.architecture.text import to_json  # texts are read into architectures

        return to_json(self)

    @staticmethod
    def from_json(text: str) -> Architecture:
        """The inverse of :meth:`to_json`; runs no code."""
        from wflib.architecture.text import from_json

        return from_json(text)


@lru_cache(maxsize=256)
def shapes_of(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    return dict(shapes)
