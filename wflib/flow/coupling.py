"""Couplings: which x_0 of the prior a batch of networks x_1 is paired with; each keeps both marginals.

- ``independent``: fresh draws.
- ``ot``: fresh draws, rearranged to the cheapest one-to-one assignment on the batch (Tong et al. 2024; nothing is dropped
  or drawn twice), with the geometry's squared distance as cost.
- ``equivariant-ot``: the same, and then the hidden neurons of each x_0 are permuted to match its x_1 (Klein et al. 2023;
  Song et al. 2023, for atoms). x_0 is then a draw from the prior modulo permutations, which is all that an equivariant
  velocity network sees; with one that knows neurons by identity it is refused.
- ``initialization``: the weights each network's own training started from. They are draws from the prior, training
  already transports them to the zoo, and the paths are short. Alignment has permuted them with their network, by the
  network's weights: they, too, are draws modulo permutations, and refused with neuron identities. ``flow.renewal`` draws a
  part of them anew at every use, since a flow of many iterations tells few trajectories by their beginnings.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.flow.geometry import Geometry
from wflib.networks import Networks
from wflib.symmetry import permute, weight_matching

__all__ = ["match_neurons", "optimal_assignment"]


def optimal_assignment(geometry: Geometry, x_0: Tensor, x_1: Tensor) -> Tensor:
    """Indices p that minimize Σ_i cost(x_0[p_i], x_1[i]): each x_0 is used exactly once.

    Args:
        geometry: Gives the cost, its squared distance.
        x_0: (batch, D).
        x_1: (batch, D).

    Returns:
        (batch,) int64, a permutation.

    Raises:
        ValueError: The two sides have different sizes, distances are not finite, or no assignment was found.
    """
    import ot  # slow to import, and two couplings need it

    if len(x_0) != len(x_1):
        raise ValueError(f"Shape mismatch: expected as many x_0 as x_1, got {len(x_0)} and {len(x_1)}.")
    cost = geometry.squared_distances(x_1, x_0).double().cpu().numpy()
    if not np.isfinite(cost).all():
        raise ValueError(
            f"flow.coupling: expected finite distances between x_0 and x_1, found {int((~np.isfinite(cost)).sum())} of "
            f"{cost.size} NaN or infinite; leave out networks with NaN, infinity or huge weights, or choose flow.coupling: "
            "independent."
        )
    # With equal masses a vertex of the transport polytope is a permutation matrix, and the network simplex ends at one.
    plan = ot.emd(np.full(len(x_1), 1 / len(x_1)), np.full(len(x_0), 1 / len(x_0)), cost)
    chosen = plan.argmax(1)
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(
            f"flow.coupling: optimal transport found no one-to-one assignment of {len(chosen)} pairs, of squared distances "
            f"up to {cost.max():.3g}; lower training.batch_size, or choose flow.coupling: independent."
        )
    return torch.from_numpy(chosen).to(x_0.device)


def match_neurons(
    geometry: Geometry, architecture: Architecture, x_0: Tensor, x_1: Tensor, generator: torch.Generator
) -> Tensor:
    """Permute the hidden neurons of each x_0 to shorten its path to x_1.

    Weight matching lowers ‖x_0 − x_1‖²; a pair whose path in the geometry gets longer by that keeps its order.

    Args:
        geometry: Measures paths.
        architecture: Of the coordinates.
        x_0: (batch, D).
        x_1: (batch, D), each the aim of the x_0 of the same index.
        generator: Draws the order in which hidden groups are matched.

    Returns:
        Permuted x_0, (batch, D).
    """
    starts, aims = (Networks.from_flat(architecture, side) for side in (x_0, x_1))
    moved = permute(starts, weight_matching(aims, starts, generator)).flat
    before, after = (geometry.squared_distances(side, x_1).diagonal() for side in (x_0, moved))
    return torch.where((after < before)[:, None], moved, x_0)
