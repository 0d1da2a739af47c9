"""How well a zoo is aligned: distances and loss barriers, to the reference and between all pairs."""

from __future__ import annotations

import pandas as pd
import torch

from wflib.evaluation.barrier import segment_barriers
from wflib.symmetry import squared_distance
from wflib.zoo import Split, Zoo

__all__ = ["alignment_quality"]


@torch.no_grad()
def alignment_quality(aligned: Zoo, barriers: pd.DataFrame, split: Split) -> dict[str, float]:
    """Means over networks and over pairs of different networks.

    Args:
        aligned: One network per trajectory, two at least.
        barriers: All pairs' barriers, the columns of ``BARRIER_SCHEMA``.
        split: Held-out examples that barriers to the reference are measured on.

    Returns:
        ``l2``: ‖θ_reference − θ‖², over networks other than the reference.
        ``reference_barrier``: barrier at the midpoint to the reference, over the same networks [loss].
        ``l2_pairs``: ‖θ_A − θ_B‖².
        ``midpoint_loss``, ``midpoint_barrier``, ``maximal_barrier``: of pairs [loss].
    """
    distances = squared_distance(aligned.architecture, aligned.reference, aligned.weights)
    others = distances > 0
    weights = {name: tensor[others] for name, tensor in aligned.weights.items()}
    to_reference = segment_barriers(aligned.architecture, aligned.reference, weights, split, points=3)
    different = barriers[barriers.i != barriers.j]
    # Σ over ordered pairs of ‖θ_A − θ_B‖² = 2 n Σ_n ‖θ_n − mean‖², the variance's identity.
    spread = (aligned.flat.double() - aligned.flat.double().mean(0)).square().sum()
    return {
        "l2": float(distances[others].mean()),
        "l2_pairs": float(2 * spread / (len(aligned) - 1)),
        "reference_barrier": float(to_reference.excess.mean()),
        "midpoint_loss": float(different.midpoint.mean()),
        "midpoint_barrier": float(different.excess.mean()),
        "maximal_barrier": float(different.maximal.mean()),
    }
