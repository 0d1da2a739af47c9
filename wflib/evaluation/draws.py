"""What a flow draws, measured in one way wherever samplers or flows are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.evaluation.summary import sampling_quality
from wflib.evaluation.variance import variance_ratio
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, weight_matching
from wflib.tasks import Split
from wflib.zoo import Zoo

__all__ = ["DrawQuality"]


class DrawQuality:
    """Quality of drawn networks on examples, and their spread relative to training networks.

    Draws and training networks are matched to the zoo's reference by the same weight matching. How the zoo itself was
    aligned, or whether it was, therefore does not enter the ratio of variances.

    Args:
        zoo: The zoo of the flow; its training part is compared with.
        split: Test examples.
        seed: Of the matching, and of which training networks are taken.
        networks: How many of them.
    """

    def __init__(self, zoo: Zoo, split: Split, seed: int, networks: int = 1000) -> None:
        self.reference, self.split, self.seed = zoo.reference, split, seed
        part = zoo.training_part
        chosen = torch.randperm(len(part), generator=generator(seed, "draw-quality", "training"))[:networks]
        self.training = self.aligned(part[chosen].networks)

    def aligned(self, networks: Networks) -> Tensor:
        """Flat weights with neurons in the reference's order, (networks, D)."""
        reference, random = self.reference.to(networks.device), generator(self.seed, "draw-quality", "matching")
        return permute(networks, weight_matching(reference, networks, random, restarts=3)).flat

    def __call__(self, networks: Networks) -> dict[str, float]:
        """Mean and deviation over networks of accuracy and NLL, and the mean ratio of variances.

        Args:
            networks: At least two of the zoo's architecture.

        Returns:
            ``accuracy_mean``, ``accuracy_std``, ``nll_mean``, ``nll_std`` (nats), and ``variance_ratio``: the mean over
            coordinates of Var(draws) / Var(training networks).
        """
        ratio = variance_ratio(self.aligned(networks), self.training).mean
        return {**sampling_quality(networks, self.split), "variance_ratio": ratio}
