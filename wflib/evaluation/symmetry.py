"""How much of the distance between networks is symmetry: modulo nothing, permutations, permutations and scalings."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.symmetry import canonicalize, permute, squared_distance, squared_norm, weight_matching

__all__ = ["SYMMETRY_SCHEMA", "symmetry_distances"]

SYMMETRY_SCHEMA: dict[str, str] = {"modulo": "str", "i": "int64", "j": "int64", "distance": "float64"}
"""Column → dtype of the table with one row per pair of networks and group of symmetries."""


def symmetry_distances(
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    generator: torch.Generator,
    restarts: int = 3,
    chunk: int = 4096,
) -> pd.DataFrame:
    """Relative distances d² = ‖a − b‖² / (‖a‖² + ‖b‖²) of all pairs: 0 for equal networks, 1 for orthogonal ones.

    Running statistics are left out.

    - ``nothing``: the networks as they are;
    - ``permutation``: b permuted to match a (weight matching of each pair);
    - ``permutation and scaling``: the same between canonical networks, of their directions: the output scale is left out.

    Args:
        architecture: An ordinary one.
        weights: Networks as trained, tensors of shape (networks, *shape).
        generator: Draws starts of the matching.
        restarts: Starts of each matching.
        chunk: Pairs matched at once; bounds memory.

    Returns:
        Rows with the columns of ``SYMMETRY_SCHEMA``, i < j.
    """
    canonical = canonicalize(architecture, weights, signs=True)
    directions = {name: w for name, w in canonical.weights.items() if name != canonical.architecture.log_scale}
    networks = len(next(iter(weights.values())))
    pairs = torch.triu_indices(networks, networks, 1)
    tables = []
    for modulo, members, match in (
        ("nothing", weights, False),
        ("permutation", weights, True),
        ("permutation and scaling", directions, True),
    ):
        found = []
        for i, j in zip(pairs[0].split(chunk), pairs[1].split(chunk), strict=True):
            a, b = ({name: w[index] for name, w in members.items()} for index in (i, j))
            if match:
                b = permute(architecture, b, weight_matching(architecture, a, b, generator, restarts))
            norms = squared_norm(architecture, a) + squared_norm(architecture, b)
            found.append((squared_distance(architecture, a, b) / norms).sqrt())
        tables.append(
            pd.DataFrame(
                {"modulo": modulo, "i": pairs[0].numpy(), "j": pairs[1].numpy(), "distance": torch.cat(found).cpu()}
            )
        )
    return pd.concat(tables, ignore_index=True).astype(SYMMETRY_SCHEMA)
