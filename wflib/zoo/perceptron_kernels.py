"""Training perceptrons one after another by compiled kernels: float32 on CPU.

When each operation of a step reads and writes the values of many networks, overheads and memory bound it.
``perceptrons.cpp`` takes one network after another through an epoch, whose values stay in a core's cache; threads share
the networks.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from wflib.architecture import Architecture, is_perceptron
from wflib.architecture.chain import chain
from wflib.compiled import NoKernels, library
from wflib.config import ZooConfig
from wflib.networks import Networks
from wflib.tasks import Split

__all__ = ["PerceptronTrainer"]

SOURCE = Path(__file__).with_name("perceptrons.cpp")
ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh", "softsign", "gelu", "silu", "smooth_relu")
"""In the order of the kernels' own numbers."""


class Sizes(ctypes.Structure):
    """As in ``perceptrons.cpp``."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("networks", "threads", "layers", "batch", "steps", "first_step", "examples", "first_network", "seed"),
            *("dimension", "kept", "classify", "adam", "slots"),
        )
    ]


class Recipe(ctypes.Structure):
    """As in ``perceptrons.cpp``."""

    _fields_ = [(name, ctypes.c_double) for name in ("learning_rate", "momentum", "weight_decay")]


@functools.cache
def build_kernels() -> ctypes.CDLL:
    """Functions of ``perceptrons.cpp``.

    Raises:
        NoKernels: They cannot be compiled.
    """
    built = library(SOURCE)
    built.state_numbers.restype = ctypes.c_int64
    return built


def layers_of(architecture: Architecture) -> list[int] | None:
    """Inputs, outputs, activation and where weight and bias lie in the flat vector (-1: none), layer by layer.

    None where kernels know no such network.
    """
    if not is_perceptron(architecture):
        return None
    layers, found = chain(architecture.operations), []
    tensors = [name for layer in layers for name in (layer.weight, layer.bias) if name is not None]
    if sorted(tensors) != sorted(name for name, _ in architecture.shapes):
        return None
    if any(layer.activation not in ACTIVATIONS for layer in layers):
        return None
    for layer in layers:
        outputs, inputs = architecture.shape(layer.weight)
        places = [-1 if name is None else architecture.slices[name].start for name in (layer.weight, layer.bias)]
        found += [inputs, outputs, ACTIVATIONS.index(layer.activation), *places]
    return found


def takes(architecture: Architecture, weights: Tensor, train: Split) -> bool:
    """Whether kernels train these networks on these examples; what they do not take is left to torch, errors included."""
    floats, targets = [weights, train.inputs], train.targets
    if sys.platform == "win32" or layers_of(architecture) is None:
        return False
    if any(tensor.device.type != "cpu" or tensor.dtype != torch.float32 for tensor in floats):
        return False
    outputs, examples = architecture.shape(chain(architecture.operations)[-1].weight)[0], len(train.inputs)
    if tuple(train.inputs.shape) != (examples, *architecture.inputs) or not 0 < examples < 2**31:
        return False
    if architecture.task_type == "regression":
        return targets.device.type == "cpu" and targets.dtype == torch.float32 and targets.shape == (examples, outputs)
    if targets.device.type != "cpu" or targets.dtype != torch.int64 or targets.shape != (examples,):
        return False
    return bool(((targets >= 0) & (targets < outputs)).all())


class PerceptronTrainer:
    """Some of the perceptrons that are trained, with the states of their optimizers.

    Args:
        start: Where training begins.
        first: Number of the first of them among all, which names its order of examples.
        train: Training examples, shared by all.
        config: Optimizer, rates and batch size.
    """

    def __init__(self, start: Networks, first: int, train: Split, config: ZooConfig) -> None:
        given = layers_of(start.architecture)
        self.layers = (ctypes.c_int64 * len(given))(*given)
        self.train = Split(train.inputs.contiguous(), train.targets.contiguous())
        self.recipe = Recipe(config.learning_rate, config.momentum, config.weight_decay)
        flat, slots = start.flat.detach().contiguous(), 3 if config.optimizer == "adam" else 1 + (config.momentum > 0)
        self.sizes = Sizes(
            networks=len(start),
            layers=len(given) // 5,
            batch=min(config.batch_size, len(train.inputs)),
            examples=len(train.inputs),
            first_network=first,
            dimension=start.architecture.dimension,
            classify=start.architecture.task_type != "regression",
            adam=config.optimizer == "adam",
            slots=slots,
        )
        numbers = build_kernels().state_numbers(ctypes.c_int64(self.sizes.layers), self.layers)
        self.states = torch.zeros(len(start), slots, numbers)
        counts = (ctypes.c_int64(count) for count in (len(start), self.sizes.layers, self.sizes.dimension, slots))
        build_kernels().pack(*counts, self.layers, pointer(flat), pointer(self.states))

    @staticmethod
    def can_train(start: Networks, train: Split) -> bool:
        """Whether kernels take these networks and examples; a warning says so where they would but cannot be compiled."""
        if not takes(start.architecture, next(iter(start.weights.values())), train):
            return False
        try:
            build_kernels()
        except NoKernels as error:
            warnings.warn(
                f"Training without kernels, which takes some times as long: {str(error).splitlines()[0]}", stacklevel=4
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
        losses, columns = torch.zeros(len(self.states)), (ctypes.c_int64 * len(places))(*places)
        self.sizes.threads, self.sizes.seed, self.sizes.kept = torch.get_num_threads(), seed, kept.shape[1]
        self.sizes.steps, self.sizes.first_step = len(steps), steps.start
        tensors = (pointer(tensor) for tensor in (self.train.inputs, self.train.targets))
        written = (pointer(tensor) for tensor in (self.states, kept, losses))
        build_kernels().train(ctypes.byref(self.sizes), ctypes.byref(self.recipe), self.layers, *tensors, columns, *written)
        return losses


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """Where a tensor's numbers begin."""
    return ctypes.c_void_p(tensor.data_ptr())
