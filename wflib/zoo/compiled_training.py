"""Training networks one after another by compiled kernels: float32 on CPU.

When each operation of a step reads and writes the values of many networks, overheads and memory bound it. Kernels take one
network after another through an epoch, whose values stay in a core's cache; threads share the networks. ``perceptrons.cpp``
is for chains of affine maps, ``images.cpp`` for convolutions, residual streams and transformers of images.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.architecture.operations import BatchNorm
from wflib.compiled import NoKernels, library
from wflib.config import ZooConfig
from wflib.networks import Networks
from wflib.tasks import Split
from wflib.zoo.compiled_layers import image_layers, perceptron_layers

__all__ = ["CompiledTrainer", "compiled_gradients", "compiled_steps", "kernels_gain"]

KERNELS: dict[str, Callable[[Architecture], list[tuple[int, ...]] | None]] = {
    "perceptrons.cpp": perceptron_layers,
    "images.cpp": image_layers,
}
"""Source → layers as these kernels are told of them, or None."""


MOMENTUM = 0.1
"""How far running statistics move towards those of a batch, as in torch; here and in kernels."""


class Sizes(ctypes.Structure):
    """As in ``training.h``."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("networks", "threads", "layers", "batch", "steps", "first_step", "examples", "first_network", "seed"),
            *("dimension", "kept", "classify", "adam", "slots"),
        )
    ]


class Recipe(ctypes.Structure):
    """As in ``training.h``."""

    _fields_ = [(name, ctypes.c_double) for name in ("learning_rate", "momentum", "weight_decay")]


@functools.cache
def build_kernels(source: str) -> ctypes.CDLL | NoKernels:
    """Functions of one of :data:`KERNELS`, or why there are none: gradients are taken too often to try each time."""
    try:
        built = library(Path(__file__).with_name(source))
    except NoKernels as error:
        return error.with_traceback(None)
    built.state_numbers.restype = ctypes.c_int64
    return built


@functools.lru_cache(maxsize=256)
def known(architecture: Architecture) -> tuple[str, list[tuple[int, ...]]] | None:
    """Which kernels know these networks, and the layers that they are told of; None where none does."""
    if sys.platform == "win32" or architecture.log_scale is not None:
        return None
    told = ((source, layers_of(architecture)) for source, layers_of in KERNELS.items())
    return next(((source, layers) for source, layers in told if layers is not None), None)


@functools.lru_cache(maxsize=256)
def kernels_gain(architecture: Architecture) -> bool:
    """Whether kernels are for these networks, ordinary or canonical, where all see the same examples: if they are of images.

    Perceptrons, whose first layers meet such examples in one product of all networks, torch takes as well.
    """
    source, _ = known(architecture.ordinary_form()) or (None, None)
    return source == "images.cpp"


def source_for(architecture: Architecture, weights: Tensor, train: Split) -> str | None:
    """Which kernels train these networks on these examples; what none takes is left to torch, errors included."""
    targets, examples = train.targets, len(train.inputs)
    source, _ = known(architecture) or (None, None)
    if source is None or any(t.device.type != "cpu" or t.dtype != torch.float32 for t in (weights, train.inputs)):
        return None
    if tuple(train.inputs.shape) != (examples, *architecture.inputs) or not 0 < examples < 2**31:
        return None
    outputs = architecture.groups[-1].size
    if architecture.task_type == "regression":
        wanted = targets.dtype == torch.float32 and targets.shape == (examples, outputs)
    else:
        wanted = targets.dtype == torch.int64 and targets.shape == (examples,)
        wanted = wanted and bool(((targets >= 0) & (targets < outputs)).all())
    return source if wanted and targets.device.type == "cpu" else None


class CompiledTrainer:
    """Some of the networks that are trained, with the states of their optimizers.

    Args:
        start: Where training begins.
        first: Number of the first of them among all, which names its order of examples.
        train: Training examples, shared by all.
        config: Optimizer, rates and batch size.
    """

    def __init__(self, start: Networks, first: int, train: Split, config: ZooConfig) -> None:
        self.train = Split(train.inputs.contiguous(), train.targets.contiguous())
        self.recipe = Recipe(config.learning_rate, config.momentum, config.weight_decay)
        slots = 3 if config.optimizer == "adam" else 1 + (config.momentum > 0)
        self.networks = packed(start.architecture, start.flat.detach(), slots)
        sizes = self.networks.sizes
        sizes.batch, sizes.first_network = min(config.batch_size, len(train.inputs)), first
        sizes.adam = config.optimizer == "adam"

    @staticmethod
    def can_train(start: Networks, train: Split) -> bool:
        """Whether kernels take these networks and examples; a warning says so where they would but cannot be compiled."""
        source = source_for(start.architecture, next(iter(start.weights.values())), train)
        if source is None:
            return False
        built = build_kernels(source)
        if isinstance(built, NoKernels):
            warnings.warn(
                f"Training without kernels, which takes some times as long: {str(built).splitlines()[0]}", stacklevel=4
            )
            return False
        return True

    def run(self, seed: int, steps: range, places: Sequence[int], kept: Tensor) -> Tensor:
        """One epoch, or its beginning.

        Args:
            seed: Of the epoch's orders of examples, see :func:`~wflib.rng.permutations`.
            steps: Numbers of the steps, from 1 in the first epoch.
            places: For each step which column of ``kept`` takes the weights after it, or -1.
            kept: Flat networks, (networks, columns, D), contiguous.

        Returns:
            Losses of the last batch, (networks,).
        """
        losses, self.networks.sizes.seed = torch.zeros(len(kept)), seed
        run_steps(self.networks, self.recipe, self.train, None, steps, places, kept, losses)
        return losses


def run_steps(
    networks: Packed,
    recipe: Recipe,
    train: Split,
    shared: Tensor | None,
    steps: range,
    places: Sequence[int],
    kept: Tensor,
    losses: Tensor,
) -> None:
    """Steps of training by examples (contiguous) in orders of networks' own, or by rows (steps, batch) that they share."""
    sizes, rows = networks.sizes, None if shared is None else pointer(shared)
    sizes.threads, sizes.kept, sizes.examples = torch.get_num_threads(), kept.shape[1], len(train.inputs)
    sizes.steps, sizes.first_step, columns = len(steps), steps.start, (ctypes.c_int64 * len(places))(*places)
    given = (ctypes.byref(sizes), ctypes.byref(recipe), networks.layers, pointer(train.inputs), pointer(train.targets))
    networks.kernels.train(*given, rows, columns, pointer(networks.states), pointer(kept), pointer(losses))


def compiled_gradients(architecture: Architecture, flat: Tensor, split: Split) -> Tensor | None:
    """∇ L of every network in training mode, L its mean loss on all examples; None where no kernel is for them.

    Args:
        architecture: Of the networks, ordinary or canonical.
        flat: (networks, D).
        split: Examples, shared by all.

    Returns:
        (networks, D), where running statistics have no gradient, their distance s − found from those of the examples, see
        :func:`~wflib.networks.batch_losses`.
    """
    ordinary, weights = architecture.ordinary_form(), architecture.unflatten(flat)
    scaled = last_map_scaled(architecture, weights, weights)
    given = ordinary.flatten({name: scaled.get(name, weights[name]) for name, _ in ordinary.shapes})
    if not kernels_gain(ordinary) or source_for(ordinary, given, split) is None:
        return None
    try:
        kernels, sizes, layers, states = packed(ordinary, given, 1)
    except NoKernels:
        return None
    for name in ordinary.statistics:  # A step from zero leaves a share of what is found.
        states[..., ordinary.slices[name]] = 0
    sizes.batch = sizes.examples = len(split.inputs)
    sizes.threads = torch.get_num_threads()
    gradients, losses = torch.empty(given.shape), torch.empty(len(given))
    tensors = (split.inputs.contiguous(), split.targets.contiguous(), states, gradients, losses)
    kernels.gradients(ctypes.byref(sizes), layers, *map(pointer, tensors))
    found = ordinary.unflatten(gradients)
    for norm in architecture.operations:
        if isinstance(norm, BatchNorm):
            found[norm.mean] = weights[norm.mean] - found[norm.mean] / MOMENTUM
            found[norm.variance] = weights[norm.variance] - norm.held(found[norm.variance] / MOMENTUM)
    if architecture.log_scale is not None:
        along = sum(((found[name] * tensor).flatten(1).sum(1) for name, tensor in scaled.items()), torch.zeros_like(losses))
        found |= {architecture.log_scale: along} | last_map_scaled(architecture, weights, found)
    return architecture.flatten(found)


def compiled_steps(
    start: Networks, split: Split, steps: Sequence[int], learning_rate: float, batches: Tensor
) -> list[Tensor] | None:
    """Flat networks (networks, D) after so many steps of Adam; None where no kernel is for them.

    Args:
        start: Where they begin.
        split: Examples, shared by all.
        steps: After how many steps to look.
        learning_rate: Adam's.
        batches: Rows of examples of each step, the same for all networks, (most steps, batch); what are none, as negative
            ones, no kernel is for.
    """
    architecture = start.architecture
    if not kernels_gain(architecture):
        return None
    flat = start.flat.detach()
    if source_for(architecture, flat, split) is None or not are_rows(batches, len(split.inputs), max(steps)):
        return None
    try:
        networks = packed(architecture, flat, 3)
    except NoKernels:
        return None
    wanted = sorted(set(steps))
    places = [wanted.index(step) if step in wanted else -1 for step in range(1, max(wanted) + 1)]
    networks.sizes.batch, networks.sizes.adam = batches.shape[1], True
    kept, losses = flat.unsqueeze(1).repeat(1, len(wanted), 1), torch.empty(len(flat))
    train, rows = Split(split.inputs.contiguous(), split.targets.contiguous()), batches[: len(places)].contiguous()
    now, recipe = range(1, len(places) + 1), Recipe(learning_rate, 0.0, 0.0)
    run_steps(networks, recipe, train, rows, now, places, kept, losses)
    return [kept[:, wanted.index(step)] for step in steps]


def are_rows(batches: Tensor, examples: int, steps: int) -> bool:
    """Whether kernels may read these rows of examples for so many steps: they follow any number to where it leads."""
    if batches.dtype != torch.int64 or batches.device.type != "cpu" or len(batches) < steps or not batches.numel():
        return False
    return bool(((batches >= 0) & (batches < examples)).all())


def last_map_scaled(architecture: Architecture, weights: Weights, tensors: Weights) -> Weights:
    """e^ρ times the last map's tensors: canonical outputs e^ρ (W h + b) are those of e^ρ W and e^ρ b."""
    if architecture.log_scale is None or (layer := architecture.output_layer) is None:
        return {}
    scale = weights[architecture.log_scale].exp()
    return {name: (scale * tensors[name].movedim(0, -1)).movedim(-1, 0) for name in layer.tensors}


class Packed(NamedTuple):
    """Kernels that know an architecture, sizes and layers as they are told, and networks in their form."""

    kernels: ctypes.CDLL
    sizes: Sizes
    layers: ctypes.Array[ctypes.c_int64]
    states: Tensor


def packed(architecture: Architecture, flat: Tensor, slots: int) -> Packed:
    """Flat networks for kernels.

    Raises:
        NoKernels: They cannot be compiled, or none are for such networks.
    """
    source, layers = known(architecture) or (None, [])
    if source is None:
        raise NoKernels("none of the kernels knows these networks")
    flat = flat.contiguous()  # by a name: a pointer keeps nothing alive
    kernels, given = build_kernels(source), [number for layer in layers for number in layer]
    if isinstance(kernels, NoKernels):
        raise kernels.with_traceback(None)  # else it would keep what every caller before held
    told = (ctypes.c_int64 * len(given))(*given)
    sizes = Sizes(
        networks=len(flat),
        layers=len(layers),
        dimension=architecture.dimension,
        classify=architecture.task_type != "regression",
        slots=slots,
    )
    states = torch.zeros(len(flat), slots, kernels.state_numbers(ctypes.c_int64(len(layers)), told))
    counts = (ctypes.c_int64(count) for count in (len(flat), len(layers), architecture.dimension, slots))
    kernels.pack(*counts, told, pointer(flat), pointer(states))
    return Packed(kernels, sizes, told, states)


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """Where a tensor's numbers begin."""
    return ctypes.c_void_p(tensor.data_ptr())
