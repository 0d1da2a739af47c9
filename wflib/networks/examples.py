"""Random inputs on which networks can be compared."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.architecture.operations import Embedding
from wflib.rng import generator

__all__ = ["random_inputs"]

EXAMPLES = 16


def random_inputs(architecture: Architecture) -> Tensor:
    """Inputs (examples, *shape) in double precision, or whole numbers where a network looks them up in tables."""
    random = generator(0, "module")
    if (size := vocabulary(architecture)) is not None:
        return torch.randint(size, (EXAMPLES, *architecture.inputs), generator=random)
    return torch.randn(EXAMPLES, *architecture.inputs, generator=random, dtype=torch.float64)


def vocabulary(architecture: Architecture) -> int | None:
    """Rows of the smallest table in which inputs are looked up, moved or as they come; None where there is none."""
    moved, sizes = {"input"}, []
    for operation in architecture.operations:
        if operation.inputs and moved.issuperset(operation.inputs):
            if isinstance(operation, Embedding):
                sizes.append(architecture.shape(operation.weight)[0])
            elif not operation.tensor_fields:
                moved.add(operation.output)
    return min(sizes, default=None)
