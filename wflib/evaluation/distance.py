"""How symmetric a set of networks is: distances between them modulo permutation and scaling of hidden neurons."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.rng import generator
from wflib.symmetry import canonicalize, permute, squared_distance, weight_matching

__all__ = ["DISTANCE_SCHEMA", "distance_table", "pairwise_distances"]

DISTANCE_SCHEMA: dict[str, str] = {"modulo": "str", "i": "int64", "j": "int64", "distance": "float64", "relative": "float64"}
"""Column → dtype of the table with one row per kind of symmetry and unordered pair of networks."""


@torch.no_grad()
def pairwise_distances(
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    random: torch.Generator | None = None,
    restarts: int = 1,
    chunk: int = 4096,
) -> Tensor:
    """‖θ_i − θ_j‖ of all pairs, or min over permutations π of ‖θ_i − π(θ_j)‖ by weight matching.

    Args:
        architecture: What a network is.
        weights: Tensors of shape (networks, *shape).
        random: Starts of weight matching; None for plain distances.
        restarts: Starts of each matching; with several hidden layers the result is an upper bound of the minimum.
        chunk: Pairs that are matched at once; bounds memory.

    Returns:
        (networks, networks), symmetric, zero on the diagonal.
    """
    architecture.validate(weights)
    some = next(iter(weights.values()))
    distances = some.new_zeros(len(some), len(some))
    first, second = torch.triu_indices(len(some), len(some), 1, device=some.device)
    for a, b in zip(first.split(chunk), second.split(chunk), strict=True):
        aim, moving = ({name: tensor[side] for name, tensor in weights.items()} for side in (a, b))
        if random is not None:
            moving = permute(architecture, moving, weight_matching(architecture, aim, moving, random, restarts))
        distances[a, b] = distances[b, a] = squared_distance(architecture, aim, moving).sqrt()
    return distances


def distance_table(architecture: Architecture, weights: Mapping[str, Tensor], seed: int, restarts: int = 1) -> pd.DataFrame:
    """Distances of all pairs modulo nothing, permutation, scaling and both.

    Modulo scaling means between canonical networks. Those are of another size, so distances are also given relative to
    √2 times the root mean square norm: two networks in unrelated directions are one apart.

    Args:
        architecture: An ordinary architecture.
        weights: Tensors of shape (networks, *shape).
        seed: Of weight matching's starts.
        restarts: Starts of each matching.

    Returns:
        Rows with the columns of ``DISTANCE_SCHEMA``, each pair once.
    """
    canonical = canonicalize(architecture, weights, signs=True)
    tables = []
    for scaled, form, side in (
        ("", architecture, weights),
        ("scaling", canonical.architecture, canonical.weights),
    ):
        size = (2 * (form.flatten(side) ** 2).sum(-1).mean()).sqrt()
        for permuted in ("", "permutation"):
            random = generator(seed, "distances", scaled) if permuted else None
            distances = pairwise_distances(form, side, random, restarts)
            i, j = torch.triu_indices(len(distances), len(distances), 1, device=distances.device)
            values = distances[i, j]
            modulo = " and ".join(filter(None, (permuted, scaled))) or "nothing"
            columns = {"i": i, "j": j, "distance": values, "relative": values / size}
            tables.append(pd.DataFrame({"modulo": modulo} | {name: c.cpu().numpy() for name, c in columns.items()}))
    return pd.concat(tables, ignore_index=True).astype(DISTANCE_SCHEMA)
