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
from tests.pretended import generator as generator_there
from wflib.architecture import mlp
from wflib.evaluation import part_quality
from wflib.evaluation.clusters import one_per_cluster
from wflib.flow import Condition, FlowTrainer, Guidance, TaskLoss, flow_for_zoo, log_likelihood_of_coordinates, sample
from wflib.models import METHODS
from wflib.networks import Networks, network_losses, predict
from wflib.rng import generator
from wflib.symmetry import random_permutations, random_scales, sinkhorn_matching, squared_distance, weight_matching
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo, align_zoo, canonical_zoo, initialize, train_networks, train_zoo, zoo_from_networks

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


def test_generators_of_the_device_are_taken(device):
    """By what draws for itself; on what passes for a GPU, in the numbers of the CPU."""
    condition = Condition("step")
    condition.fit(torch.arange(50.0))
    networks, data = initialize(KINDS["mlp"], 12, 0.3, generator(0, "start")), dataset_for("mlp")
    clusters = torch.arange(12) % 5

    def everything(where) -> list[torch.Tensor]:
        def random():
            return generator_there(0, "draws", device=where)

        quality = part_quality("some", networks, data, random(), examples=8)
        return [
            condition.to(where).draw(7, random()).cpu(),
            *random_permutations(KINDS["mlp"], 3, random()).values(),
            *random_scales(KINDS["mlp"], 3, random()).values(),
            *weight_matching(networks[:1], networks, random(), restarts=3).values(),
            one_per_cluster(clusters, random()),
            torch.tensor(quality["nll"].to_numpy(dtype="float64")),
        ]

    here, there = everything("cpu"), everything(device)
    for one, other in zip(here, there, strict=True):
        assert (one.shape, other.device.type) == (other.shape, "cpu")
        assert GPU or torch.equal(one, other)


@pytest.mark.parametrize("declared", [True, False])
def test_the_laplace_approximation_is_of_examples_on_the_device(declared, device, monkeypatch):
    """Where the zoo says its prior, and where it is measured, tensor by tensor."""
    architecture, method, random = mlp([3, 1], task_type="regression"), METHODS["laplace-last-layer"], generator(0, "line")
    inputs, flat = torch.randn(12, 3, generator=random), torch.randn(4, architecture.dimension, generator=random)
    split = Split(inputs, inputs[:, :1] - 0.5 * inputs[:, 1:2])
    zoo = zoo_from_networks(Networks.from_flat(architecture, flat))
    zoo.metadata.update({"init_std": 0.5} if declared else {})

    def closed_form(posterior, last, layers, features, targets):
        ones = torch.ones_like(features[..., :1])
        seen = torch.cat([features, ones], -1)
        return seen.transpose(1, 2) @ seen / posterior.temperature

    if not GPU:  # a pretended device has no forward-mode derivatives
        monkeypatch.setattr("wflib.models.laplace.layer_curvatures", closed_form)
    states, drawn = [], []
    for where in ("cpu", device):
        part = split.to(where)
        dataset = Dataset("line", "regression", 1, part, part, part)
        model = method.fit(zoo, dataset, method.Settings(runs=2, steps=30, learning_rate=0.05), generator(0, "fit"))
        states.append(model.state)
        drawn.append(model.draw(5, generator(0, "draw")).flat.cpu())
        assert all(tensor.device.type == torch.device(where).type for tensor in model.state.values())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name].cpu(), tensor, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(drawn[1], drawn[0], rtol=1e-3, atol=1e-3)


def test_tensors_of_two_places_are_refused(device):
    """On a GPU and on what passes for one, generators too; indices of the CPU are taken."""
    there, here = torch.arange(3.0).to(device), torch.arange(3.0)
    assert GPU or isinstance(there, There)
    of_device, of_cpu = (generator_there(0, "numbers", device=where) for where in (device, "cpu"))
    for mixed in (
        lambda: torch.rand(3, generator=of_device),
        lambda: torch.rand(3, generator=of_cpu, device=device),
        lambda: torch.empty(3, device=device).normal_(generator=of_cpu),
        lambda: there + here,
        lambda: torch.where(there > 1, there, here),
        lambda: here[torch.ones(3).to(device) > 0],
    ):
        with pytest.raises(RuntimeError, match=r"device|cpu"):
            mixed()
    assert there[torch.tensor([2])].tolist() == [2.0]
    assert (there * here.sum()).cpu().tolist() == [0.0, 3.0, 6.0]
