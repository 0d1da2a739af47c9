"""What a flow draws, measured in one way wherever samplers or flows are compared."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Weights
from wflib.evaluation.summary import sampling_quality
from wflib.evaluation.variance import variance_ratio
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
        self.architecture, self.reference, self.split, self.seed = zoo.architecture, zoo.reference, split, seed
        part = zoo.training_part
        chosen = torch.randperm(len(part), generator=generator(seed, "draw-quality", "training"))[:networks]
        self.training = self.aligned(part[chosen].weights)

    def aligned(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Flat weights with neurons in the reference's order, (networks, D)."""
        device = next(iter(weights.values())).device
        reference: Weights = {name: tensor.to(device) for name, tensor in self.reference.items()}
        random = generator(self.seed, "draw-quality", "matching")
        found = weight_matching(self.architecture, reference, weights, random, restarts=3)
        return self.architecture.flatten(permute(self.architecture, weights, found))

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean and deviation over networks of accuracy and NLL, and the mean ratio of variances.

        Args:
            weights: At least two networks of the zoo's architecture, tensors (networks, *shape).

        Returns:
            ``accuracy_mean``, ``accuracy_std``, ``nll_mean``, ``nll_std`` (nats), and ``variance_ratio``: the mean over
            coordinates of Var(draws) / Var(training networks).
        """
        ratio = variance_ratio(self.aligned(weights), self.training).mean
        return {**sampling_quality(self.architecture, weights, self.split), "variance_ratio": ratio}
