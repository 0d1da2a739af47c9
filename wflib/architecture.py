"""What a base network is, as data: neuron groups, the tensors between them, and the layers that use them.

Everything that has to know how weights hang together (permuting, scaling, matching, canonicalizing, flattening, building
graphs, running the network) reads this one description and never a list of layer sizes of its own.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from wflib.activation import ACTIVATIONS

__all__ = ["NORMS", "Architecture", "Layer", "NeuronGroup", "TensorSpec", "Weights", "mlp"]

Weights = dict[str, Tensor]
"""Weights of many networks at once: tensor name → (networks, *shape)."""

NORMS = ("weights-and-bias", "weights")
"""Which norm of a neuron's incoming weights is one in canonical networks: with the bias (the default), or without."""


@dataclass(frozen=True)
class NeuronGroup:
    """Neurons that may be exchanged for one another (hidden layers), or that have a fixed meaning (input, output)."""

    name: str
    size: int
    permutable: bool


@dataclass(frozen=True)
class TensorSpec:
    """One weight tensor: for each of its axes, the neuron group that the axis counts. No axes: a scalar."""

    name: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """One affine map and its activation: target = activation(weight @ source + bias)."""

    source: str
    target: str
    weight: str
    bias: str | None
    activation: str


@dataclass(frozen=True)
class Architecture:
    """A feed-forward base network described by data.

    Attributes:
        groups: Neuron groups from input to output.
        tensors: Weight tensors in flat-vector order.
        layers: Affine maps in the order they run.
        task_type: ``"classification"`` (outputs are logits) or ``"regression"``.
        log_scale: Name of a scalar tensor ρ when outputs are multiplied by exp(ρ), as in canonical classifiers.
        norm: Which norm of incoming weights is one, one of ``NORMS``, in canonical networks; None in ordinary ones.

    Raises:
        ValueError: A layer or tensor names a group, tensor or activation that does not exist.
    """

    groups: tuple[NeuronGroup, ...]
    tensors: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...]
    task_type: str = "classification"
    log_scale: str | None = None
    norm: str | None = None

    def __post_init__(self) -> None:
        group_names = {group.name for group in self.groups}
        tensor_names = {tensor.name for tensor in self.tensors}
        if len(group_names) < len(self.groups) or len(tensor_names) < len(self.tensors):
            raise ValueError("Architecture: names of groups and of tensors must be unique.")
        for tensor in self.tensors:
            if not set(tensor.axes) <= group_names:
                raise ValueError(f"Architecture: {tensor.name} has axes {tensor.axes}, groups are {sorted(group_names)}.")
        for layer in self.layers:
            named = {layer.weight, *([layer.bias] if layer.bias else [])}
            if not named <= tensor_names or not {layer.source, layer.target} <= group_names:
                raise ValueError(f"Architecture: {layer} names a tensor or group that does not exist.")
            if layer.activation not in ACTIVATIONS:
                raise ValueError(f"Architecture: unknown activation {layer.activation!r}; known: {sorted(ACTIVATIONS)}.")
        if self.task_type not in ("classification", "regression"):
            raise ValueError(f"Architecture: task_type must be classification or regression, got {self.task_type!r}.")
        if self.log_scale is not None and self.log_scale not in tensor_names:
            raise ValueError(f"Architecture: log_scale names {self.log_scale!r}, which is no tensor.")
        if self.norm not in (None, *NORMS):
            raise ValueError(f"Architecture: norm must be one of {', '.join(NORMS)} or None, got {self.norm!r}.")

    def size(self, group: str) -> int:
        """Number of neurons of a group."""
        return next(g.size for g in self.groups if g.name == group)

    def tensor(self, name: str) -> TensorSpec:
        """The description of one tensor."""
        return next(t for t in self.tensors if t.name == name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one network's tensor."""
        return tuple(self.size(axis) for axis in self.tensor(name).axes)

    @property
    def hidden_groups(self) -> tuple[NeuronGroup, ...]:
        """The groups whose neurons may be permuted, from input to output."""
        return tuple(group for group in self.groups if group.permutable)

    @property
    def slices(self) -> dict[str, slice]:
        """Where each tensor lies in the flat vector."""
        found, offset = {}, 0
        for spec in self.tensors:
            length = math.prod(self.shape(spec.name))
            found[spec.name] = slice(offset, offset + length)
            offset += length
        return found

    @property
    def dimension(self) -> int:
        """Number of coordinates of one network, D."""
        return sum(math.prod(self.shape(spec.name)) for spec in self.tensors)

    def flatten(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Weights → flat vectors (..., D), tensors in the order of ``tensors``.

        Raises:
            ValueError: A tensor is missing or has the wrong shape.
        """
        self.validate(weights)
        first = self.tensors[0]
        batch = weights[first.name].shape[: weights[first.name].ndim - len(first.axes)]
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
        names = [spec.name for spec in self.tensors]
        if set(weights) != set(names):
            raise ValueError(f"Weights: expected tensors {sorted(names)}, got {sorted(weights)}.")
        batches = set()
        for name in names:
            found, expected = tuple(weights[name].shape), self.shape(name)
            if found[len(found) - len(expected) :] != expected or len(found) < len(expected):
                raise ValueError(f"Shape mismatch: {name} expected (..., {', '.join(map(str, expected))}), got {found}.")
            batches.add(found[: len(found) - len(expected)])
        if len(batches) > 1:
            raise ValueError(f"Shape mismatch: tensors disagree about their batch axes: {sorted(batches)}.")

    def forward(self, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Outputs of all networks as batched matrix products.

        Args:
            weights: Tensors of shape (networks, *shape).
            inputs: (examples, inputs), shared by all networks, or (networks, examples, inputs).

        Returns:
            (networks, examples, outputs): logits for a classifier, predictions for a regression.
        """
        return self.activations(weights, inputs)[self.layers[-1].target]

    def activations(self, weights: Mapping[str, Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """What every group of neurons computes, arguments as in :meth:`forward`: group → (networks, examples, neurons)."""
        networks = len(weights[self.layers[0].weight])
        found = {self.groups[0].name: inputs.expand(networks, -1, -1)}
        for layer in self.layers:
            weight, source = weights[layer.weight].transpose(-1, -2), found[layer.source]
            if layer.bias is None:
                hidden = torch.bmm(source, weight)
            else:
                hidden = torch.baddbmm(weights[layer.bias].unsqueeze(1), source, weight)
            found[layer.target] = ACTIVATIONS[layer.activation].function(hidden)
        if self.log_scale is not None:
            found[layer.target] = found[layer.target] * weights[self.log_scale].exp().view(-1, 1, 1)
        return found

    def module(self) -> nn.Sequential:
        """One network of this architecture as ``torch.nn.Sequential``; its ``state_dict`` has our tensor names.

        Raises:
            ValueError: The architecture has an output scale: decanonicalize first.
        """
        if self.log_scale is not None:
            raise ValueError("Architecture: a canonical network is no torch.nn.Sequential; decanonicalize it first.")
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for index, layer in enumerate(self.layers, 1):
            name = layer.weight.removesuffix(".weight")
            parts[name] = nn.Linear(self.size(layer.source), self.size(layer.target), bias=layer.bias is not None)
            if layer.activation != "identity":
                parts[f"{layer.activation}{index}"] = ACTIVATIONS[layer.activation].module()
        return nn.Sequential(parts)

    def canonical_form(self, norm: str = NORMS[0]) -> Architecture:
        """What canonical networks are: a norm is one, and outputs of classifiers are multiplied by exp(ρ).

        ρ is one more scalar tensor, ``log_scale``: the last layer's norm, which logits need.

        Args:
            norm: One of ``NORMS``.
        """
        if self.task_type == "regression" or self.log_scale is not None:
            return replace(self, norm=norm)
        return replace(self, tensors=(*self.tensors, TensorSpec("log_scale", ())), log_scale="log_scale", norm=norm)

    def ordinary_form(self) -> Architecture:
        """The ordinary network behind a canonical one."""
        tensors = tuple(spec for spec in self.tensors if spec.name != self.log_scale)
        return replace(self, tensors=tensors, log_scale=None, norm=None)

    def with_widths(self, widths: Mapping[str, int]) -> Architecture:
        """The same network with other sizes of hidden groups.

        Raises:
            ValueError: A name is no hidden group.
        """
        hidden = {group.name for group in self.hidden_groups}
        if not set(widths) <= hidden:
            raise ValueError(f"with_widths: expected some of the hidden groups {sorted(hidden)}, got {sorted(widths)}.")
        groups = tuple(replace(group, size=widths.get(group.name, group.size)) for group in self.groups)
        return replace(self, groups=groups)

    def to_json(self) -> str:
        """One line of JSON that :meth:`from_json` reads back."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Architecture:
        """The inverse of :meth:`to_json`."""
        raw = json.loads(text)
        return Architecture(
            groups=tuple(NeuronGroup(**group) for group in raw["groups"]),
            tensors=tuple(TensorSpec(spec["name"], tuple(spec["axes"])) for spec in raw["tensors"]),
            layers=tuple(Layer(**layer) for layer in raw["layers"]),
            task_type=raw["task_type"],
            log_scale=raw["log_scale"],
            norm=raw["norm"],
        )


def mlp(widths: list[int], activation: str = "relu", task_type: str = "classification", bias: bool = True) -> Architecture:
    """A multilayer perceptron.

    Args:
        widths: Neurons per layer, input first: [30, 16, 16, 2].
        activation: Nonlinearity of the hidden layers, a key of ``ACTIVATIONS``.
        task_type: ``"classification"`` or ``"regression"``.
        bias: Whether layers have biases.

    Returns:
        Its description, tensors named ``linear1.weight``, ``linear1.bias``, …

    Raises:
        ValueError: Fewer than two widths, or a width below one.

    Example:
        >>> mlp([30, 16, 16, 2]).dimension
        802
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"mlp: widths need an input and an output of at least one neuron, got {widths}.")
    last = len(widths) - 1
    names = ["input", *(f"hidden{index}" for index in range(1, last)), "output"]
    sizes = enumerate(zip(names, widths, strict=True))
    groups = tuple(NeuronGroup(name, size, permutable=0 < index < last) for index, (name, size) in sizes)
    tensors, layers = [], []
    for index in range(1, last + 1):
        source, target = names[index - 1], names[index]
        weight = TensorSpec(f"linear{index}.weight", (target, source))
        offset = TensorSpec(f"linear{index}.bias", (target,)) if bias else None
        tensors += [weight, offset] if offset else [weight]
        nonlinearity = activation if index < last else "identity"
        layers.append(Layer(source, target, weight.name, offset.name if offset else None, nonlinearity))
    return Architecture(groups, tuple(tensors), tuple(layers), task_type)
