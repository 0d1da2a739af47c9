"""Typed operations: each runs all networks at once, and says which axes it ties and which rescalings it passes on."""

from wflib.architecture.operations.base import KINDS, Operation, Rearrangement
from wflib.architecture.operations.batch_statistics import Moments, NormByMoments
from wflib.architecture.operations.contraction import AlongAxis, MatrixProduct, Reduce
from wflib.architecture.operations.convolution import Convolution
from wflib.architecture.operations.elementwise import FUNCTIONS, Elementwise, Multiple
from wflib.architecture.operations.linear import Linear
from wflib.architecture.operations.movement import Concatenate, Expand, Pad, Permute, Reshape, Roll, Slice, Take
from wflib.architecture.operations.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from wflib.architecture.operations.pairs import Add, Multiply
from wflib.architecture.operations.pooling import Pool
from wflib.architecture.operations.sources import Constant, Embedding, Parameter

__all__ = [
    "FUNCTIONS",
    "KINDS",
    "Add",
    "AlongAxis",
    "BatchNorm",
    "Concatenate",
    "Constant",
    "Convolution",
    "Elementwise",
    "Embedding",
    "Expand",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "MatrixProduct",
    "Moments",
    "Multiple",
    "Multiply",
    "NormByMoments",
    "Operation",
    "Pad",
    "Parameter",
    "Permute",
    "Pool",
    "RMSNorm",
    "Rearrangement",
    "Reduce",
    "Reshape",
    "Roll",
    "Slice",
    "Take",
]
