"""What alignment can buy: nothing for an equivariant flow with an independent coupling, for its loss does not change."""

from __future__ import annotations

import pytest
import torch

from wflib.flow.objective import flow_matching_error, weighted_mean_square
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations

GEOMETRIES = ("euclidean", "normalized", "geometric")
KINDS = ("neuron-tokens", "relational-transformer", "pna")


def losses(flow, zoo, randomized) -> tuple[float, float]:
    """The loss on a zoo, and on the same networks in other neuron orders with the prior's draws in those orders too."""
    flow = flow.double().eval()
    randomized(flow.network).requires_grad_(False)
    architecture = flow.architecture
    x_1 = flow.coordinates.encode(zoo.networks).double()
    x_0 = flow.prior.sample(len(x_1), generator(0, "x_0")).double()
    flow.preconditioner.fit(x_0, x_1, flow.geometry.angles(x_0, x_1))
    t = 0.9 * torch.rand(len(x_1), generator=generator(0, "t"), dtype=torch.float64)
    order = random_permutations(architecture, len(x_1), generator(0, "order"))

    def moved(x):
        return permute(Networks.from_flat(architecture, x), order).flat

    found = []
    for start, end in ((x_0, x_1), (moved(x_0), moved(x_1))):
        x_t = flow.geometry.interpolate(start, end, t)
        prediction, scale = flow.predict(x_t, t)
        found.append(weighted_mean_square(flow_matching_error(flow.geometry, x_t, end, prediction), scale, None).item())
    return tuple(found)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kind", KINDS)
def test_alignment_changes_no_loss_of_an_equivariant_flow(make_flow, randomized, geometry, kind):
    aligned, unaligned = losses(*make_flow(geometry, kind=kind), randomized)
    assert unaligned == pytest.approx(aligned, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_that_knows_neurons_feels_their_order(make_flow, randomized, kind):
    aligned, unaligned = losses(*make_flow(kind=kind, identities=True), randomized)
    assert abs(unaligned / aligned - 1) > 1e-4
