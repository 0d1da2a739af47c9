"""What runs on a GPU ends in the numbers that a CPU ends in, for every kind of network.

Where there is none, on a device that is pretended (:mod:`tests.pretended`): its numbers are the CPU's, and what a GPU would
refuse it refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from tests.flow.test_every_kind import KINDS as OF_IMAGES
from tests.flow.test_every_kind import settings as tiny
from tests.pretended import There, pretended_device
from wflib.architecture import mlp
from wflib.flow import FlowTrainer, Guidance, TaskLoss, flow_for_zoo, log_likelihood_of_coordinates, sample
from wflib.networks import network_losses, predict
from wflib.rng import generator
from wflib.symmetry import sinkhorn_matching, squared_distance, weight_matching
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo, align_zoo, canonical_zoo, initialize, train_networks, train_zoo

KINDS = {"mlp": mlp([8, 6, 4, 2]), **OF_IMAGES}


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return ((found - expected).norm() / expected.norm()).item()


over_kinds = pytest.mark.parametrize("kind", KINDS)
GPU = torch.cuda.is_available()


@pytest.fixture
def device() -> Iterator[torch.device]:
    """A GPU, or what passes for one."""
    with nullcontext(torch.device("cuda", 0)) if GPU else pretended_device() as found:
        yield found


def settings(*changes: str):
    learned = ("training.loss=function", "training.batch_size=8", "training.warmup=0", "velocity.gradient_examples=16")
    return tiny("euclidean", *learned, "flow.coupling=initialization", "zoo.early_snapshots=2", *changes)


def dataset_for(kind: str) -> Dataset:
    random, shape = generator(0, "images"), KINDS[kind].inputs

    def split(count: int) -> Split:
        inputs = torch.randn(count, *shape, generator=random)
        return Split(inputs, (inputs.flatten(1)[:, :4].sum(1) > 0).long())

    return Dataset("toy", "classification", 2, split(64), split(16), split(16))


def zoo_for(kind: str, geometry: str) -> Zoo:
    config, data = settings(), dataset_for(kind)
    zoo = align_zoo(train_zoo(KINDS[kind], data, config.zoo), config.align, data)
    return zoo if geometry == "euclidean" else canonical_zoo(zoo)


@over_kinds
def test_training_ends_where_a_cpu_ends(kind, device):
    config, train = settings().zoo, dataset_for(kind).train
    start = initialize(KINDS[kind], 10, 0.3, generator(0, "start"), "he")
    here, there = (train_networks(start.to(where), train, config, [4, 12]) for where in ("cpu", device))
    # Adam moves by the sign of a gradient that is all but zero; such weights differ by a step.
    assert relative(there - start.flat[:, None], here - start.flat[:, None]) < 0.06
    losses = [network_losses(start.to(where), train.to(where)) for where in ("cpu", device)]
    torch.testing.assert_close(losses[1].cpu(), losses[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "geometry", "path"),
    [
        *((kind, "euclidean", "straight") for kind in KINDS),
        ("vit", "geometric", "training"),
        ("cnn with batch norm", "normalized", "training"),
    ],
)
def test_a_flow_learns_and_draws_what_it_does_on_a_cpu(kind, geometry, path, device):
    zoo, train = zoo_for(kind, geometry), dataset_for(kind).train
    config = settings(f"flow.geometry={geometry}", f"flow.path={path}", "flow.prediction=velocity")
    flows, losses = [], []
    for where in ("cpu", device):
        flow = flow_for_zoo(config, zoo, train).to(where)
        trainer = FlowTrainer(flow, zoo, config.training, train)
        flows.append(trainer.run())
        losses.append(trainer.validation_loss())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    here, there = flows
    there.load_state_dict(here.state_dict())
    drawn = [sample(flow, 5, 4, generator(0, "draws")) for flow in flows]
    assert drawn[1].device == device
    torch.testing.assert_close(drawn[1].cpu(), drawn[0], rtol=1e-3, atol=1e-3)
    has_density = geometry != "normalized" and not here.loss_gradient.kinks
    if GPU and has_density:  # a pretended device has no forward-mode derivatives
        x = drawn[0].double()
        found = [log_likelihood_of_coordinates(flow.double(), x.to(flow.device), steps=4) for flow in flows]
        torch.testing.assert_close(found[1].cpu(), found[0], rtol=1e-6, atol=1e-4)


@over_kinds
def test_guidance_and_outputs(kind, device):
    zoo, train = zoo_for(kind, "euclidean"), dataset_for(kind).train
    config = settings("flow.geometry=euclidean")
    flow = flow_for_zoo(config, zoo, train)
    drawn = []
    for where in ("cpu", device):
        moved = flow.to(where)
        loss = TaskLoss(train, 16, generator(0, "guidance"))
        x = sample(moved, 5, 4, generator(0, "draws"), guidance=Guidance(moved, loss, 0.1))
        drawn.append(predict(moved.coordinates.decode(x), train.inputs.to(where)).cpu())
    assert relative(drawn[1], drawn[0]) < 0.01


@over_kinds
def test_matching(kind, device):
    networks = initialize(KINDS[kind], 6, 0.3, generator(0, "start"), "he")
    found = []
    for where in ("cpu", device):
        moved = networks.to(where)
        matched = weight_matching(moved[:1], moved[1:], generator(0, "matching"), restarts=3)

        def objective(permuted, aim=moved[:1]):
            return squared_distance(aim, permuted)

        found.append((matched, sinkhorn_matching(moved[1:], objective, objective, matched, 5)))
    for here, there in zip(*found, strict=True):
        for group, indices in here.items():
            assert torch.equal(there[group].cpu(), indices)


def test_tensors_of_two_places_are_refused(device):
    """On a GPU and on what passes for one; indices of the CPU are taken."""
    there, here = torch.arange(3.0).to(device), torch.arange(3.0)
    assert GPU or isinstance(there, There)
    for mixed in (
        lambda: there + here,
        lambda: torch.where(there > 1, there, here),
        lambda: here[torch.ones(3).to(device) > 0],
    ):
        with pytest.raises(RuntimeError, match=r"device|cpu"):
            mixed()
    assert there[torch.tensor([2])].tolist() == [2.0]
    assert (there * here.sum()).cpu().tolist() == [0.0, 3.0, 6.0]
