"""How much of the distance between networks is symmetry: modulo nothing, permutations, permutations and scalings."""

from __future__ import annotations

import pandas as pd
import torch

from wflib.networks import Networks
from wflib.symmetry import canonicalize, permute, squared_distance, squared_norm, weight_matching

__all__ = ["SYMMETRY_SCHEMA", "symmetry_distances"]

SYMMETRY_SCHEMA: dict[str, str] = {"modulo": "str", "i": "int64", "j": "int64", "distance": "float64"}
"""Column → dtype of the table with one row per pair of networks and group of symmetries."""


def symmetry_distances(networks: Networks, generator: torch.Generator, restarts: int = 3, chunk: int = 4096) -> pd.DataFrame:
    """Relative distances d² = ‖a − b‖² / (‖a‖² + ‖b‖²) of all pairs: 0 for equal networks, 1 for orthogonal ones.

    Running statistics are left out.

    - ``nothing``: the networks as they are;
    - ``permutation``: b permuted to match a (weight matching of each pair);
    - ``permutation and scaling``: the same between canonical networks, of their directions: the output scale is left out.

    Args:
        networks: Ordinary ones, as trained.
        generator: Draws starts of the matching.
        restarts: Starts of each matching.
        chunk: Pairs matched at once; bounds memory.

    Returns:
        Rows with the columns of ``SYMMETRY_SCHEMA``, i < j.
    """
    canonical = canonicalize(networks, signs=True).networks
    directions = {name: w for name, w in canonical.weights.items() if name != canonical.architecture.log_scale}
    pairs = torch.triu_indices(len(networks), len(networks), 1)
    tables = []
    for modulo, members, match in (
        ("nothing", networks, False),
        ("permutation", networks, True),
        ("permutation and scaling", networks.with_weights(directions), True),
    ):
        found = []
        for i, j in zip(pairs[0].split(chunk), pairs[1].split(chunk), strict=True):
            a, b = members[i], members[j]
            if match:
                b = permute(b, weight_matching(a, b, generator, restarts))
            found.append((squared_distance(a, b) / (squared_norm(a) + squared_norm(b))).sqrt())
        tables.append(
            pd.DataFrame(
                {"modulo": modulo, "i": pairs[0].numpy(), "j": pairs[1].numpy(), "distance": torch.cat(found).cpu()}
            )
        )
    return pd.concat(tables, ignore_index=True).astype(SYMMETRY_SCHEMA)
