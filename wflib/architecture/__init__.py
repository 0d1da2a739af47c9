"""What a base network is: typed operations on activations, and the groups, axes and scalings that follow from them."""

from wflib.architecture.builders import cnn, mlp, resnet, vit
from wflib.architecture.chain import Layer, is_perceptron
from wflib.architecture.changes import with_activations, with_batch_statistics, with_inputs, with_variances_held
from wflib.architecture.derive import Axis, Block, Factor, NeuronGroup, NeuronPlaces, Scaling, neuron_places
from wflib.architecture.kinks import kinks
from wflib.architecture.modules import require_module
from wflib.architecture.spec import NORMS, Architecture, TensorSpec, Weights

__all__ = [
    "NORMS",
    "Architecture",
    "Axis",
    "Block",
    "Factor",
    "Layer",
    "NeuronGroup",
    "NeuronPlaces",
    "Scaling",
    "TensorSpec",
    "Weights",
    "cnn",
    "is_perceptron",
    "kinks",
    "mlp",
    "neuron_places",
    "require_module",
    "resnet",
    "vit",
    "with_activations",
    "with_batch_statistics",
    "with_inputs",
    "with_variances_held",
]
