"""Batches of coupled pairs (x_0, x_1) from a zoo.

With ``flow.path_noise`` σ > 0 both ends of a path are moved by the same noise, x ← x + σ ε, and put back on the manifold
where they must lie on it. In flat space x_t is then (1 − t) x_0 + t x_1 + σ ε, as in Tong et al. 2024, and the velocity
between moved ends is E[x_1 − x_0 | x_t], as it must be: with the zoo's own x_1, (x̂_1 − x_t) / (1 − t) takes the noise out
again on the way and does not generate p_t. Whatever the coupling, the prediction and the geometry, the flow so runs between
both sides blurred by σ: from :attr:`~wflib.flow.Flow.start` to networks of the zoo with noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.flow.coupling import match_neurons, optimal_assignment
from wflib.flow.flow import Flow
from wflib.flow.initial import standard_initial
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import Permutations, permute
from wflib.zoo import AnyZoo, StoredNetworks, Zoo, fits_memory, require_same_architecture

__all__ = ["PairSource", "squared_path_length"]


class PairSource:
    """Draws x_1 from a zoo with replacement and x_0 from the prior, coupled as the flow's configuration says.

    Args:
        flow: Gives coordinates, prior, geometry and coupling.
        zoo: Networks to learn, of the form the geometry works on. Coordinates of a small zoo are kept in memory, those of a
            larger one are read when they are drawn.

    Raises:
        ValueError: The zoo's networks are not what the flow's are, or the coupling needs initial weights that the zoo does
            not have, that are the same for all networks, or that are of another prior.
    """

    def __init__(self, flow: Flow, zoo: AnyZoo) -> None:
        require_same_architecture(zoo.architecture, flow.architecture, "zoo", "the flow")
        self.flow, self.zoo = flow, zoo.whole() if zoo.fits_memory else zoo
        self.dtype = flow.preconditioner.mean_0.dtype
        self.x_1 = flow.coordinates.encode(self.zoo.networks).to(self.dtype) if zoo.fits_memory else None
        self.initial: Networks | StoredNetworks | None = None
        if flow.config.coupling == "initialization":
            standard = standard_initial(zoo, flow.initialization)
            architecture = standard.networks.architecture
            self.initial, self.initial_std = standard.networks, standard.std
            kept = fits_memory(len(self.initial), architecture.dimension)
            self.began = flow.coordinates.encode_initial(standard.networks).to(self.dtype) if kept else None
            fresh = {name: torch.full(shape, name in standard.fresh) for name, shape in architecture.shapes}
            self.fresh = architecture.flatten(fresh).to(flow.device)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of pairs (x_0, x_1) on the flow's device, both (count, D); arguments of :meth:`draw_chosen`."""
        return self.draw_chosen(count, generator)[1:]

    def draw_chosen(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of pairs, moved by path noise, and which networks they lead to.

        Args:
            count: Pairs.
            generator: A CPU generator, so that its state can be kept in checkpoints of any device.

        Returns:
            Indices of the networks (count,), and x_0 and x_1 on the flow's device, both (count, D).
        """
        chosen, x_0, x_1 = self.draw_unmoved(count, generator)
        if sigma := self.flow.config.path_noise:
            noise = sigma * torch.randn(x_1.shape, generator=generator, device=generator.device).to(x_1)
            x_0, x_1 = (self.flow.geometry.project_prediction(side + noise) for side in (x_0, x_1))
        return chosen, x_0, x_1

    def draw_unmoved(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`draw_chosen`, of the prior and the zoo themselves."""
        flow, device = self.flow, self.flow.device
        chosen = torch.randint(len(self.zoo), (count,), generator=generator, device=generator.device).cpu()
        x_1, permutations = self.ends(chosen)
        x_1 = x_1.to(device)
        if self.initial is not None:
            start = permute(self.beginnings(self.initial, self.zoo.trajectory[chosen]), permutations)
            x_0 = flow.prior.from_initialization(
                start.flat.to(device), self.initial_std, generator, self.fresh, flow.config.renewal
            )
            return chosen, x_0, x_1
        x_0 = flow.prior.sample(count, generator)
        if flow.config.coupling in ("ot", "equivariant-ot"):
            x_0 = x_0[optimal_assignment(flow.geometry, x_0, x_1)]
        if flow.config.coupling == "equivariant-ot":
            x_0 = match_neurons(flow.geometry, flow.architecture, x_0, x_1, generator)
        return chosen, x_0, x_1

    def ends(self, chosen: Tensor) -> tuple[Tensor, Permutations]:
        """x_1 of some networks, (networks, D), and their permutations."""
        if self.x_1 is not None and isinstance(self.zoo, Zoo):
            return self.x_1[chosen], {name: indices[chosen] for name, indices in self.zoo.permutations.items()}
        some = self.zoo[chosen]
        return self.flow.coordinates.encode(some.networks).to(self.dtype), some.permutations

    def beginnings(self, initial: Networks | StoredNetworks, trajectory: Tensor) -> Networks:
        """What trajectories began with, in the flow's coordinates."""
        if self.began is not None:
            return Networks.from_flat(initial.architecture, self.began[trajectory])
        began = self.flow.coordinates.encode_initial(initial[trajectory]).to(self.dtype)
        return Networks.from_flat(initial.architecture, began)


def squared_path_length(source: PairSource, batch_size: int, seed: int, batches: int = 16) -> float:
    """Mean squared length of a coupling's straight paths: ‖x_1 − x_0‖², on the manifold along geodesics.

    Where ``flow.path: training`` bends them, it is that of the straight ones between the same pairs.

    Args:
        source: Coupled pairs.
        batch_size: Pairs in a batch, as in training: transport on larger batches finds shorter paths.
        seed: Sources on one zoo draw the same networks from the same seed, and the same x_0 before any rearrangement.
        batches: How many batches are averaged.

    Returns:
        In squared units of the coordinates.
    """
    found = []
    for index in range(batches):
        x_0, x_1 = source.draw(batch_size, generator(seed, "path-length", index))
        found.append(source.flow.geometry.squared_distances(x_0, x_1).diagonal())
    return torch.cat(found).mean().item()
