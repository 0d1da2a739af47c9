"""What runs on a GPU ends in the numbers that a CPU ends in, for every kind of network; skipped where there is no GPU."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import cnn, mlp, resnet, vit
from wflib.config import load_settings
from wflib.flow import FlowTrainer, Guidance, TaskLoss, flow_for_zoo, log_likelihood_of_coordinates, sample
from wflib.networks import network_losses, predict
from wflib.rng import generator
from wflib.symmetry import sinkhorn_matching, squared_distance, weight_matching
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo, align_zoo, canonical_zoo, initialize, train_networks, train_zoo

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

KINDS = {
    "mlp": mlp([8, 6, 4, 2]),
    "cnn": cnn((1, 4, 4), [3, 4], 2, pools=[2, 1]),
    "cnn with batch norm": cnn((1, 4, 4), [3, 4], 2, norm="batch", pools=[2, 1]),
    "resnet": resnet((1, 4, 4), [3, 4], 2),
    "vit": vit((1, 4, 4), 4, [5], 2),
}


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return ((found - expected).norm() / expected.norm()).item()


over_kinds = pytest.mark.parametrize("kind", KINDS)


def settings(*changes: str):
    return load_settings(
        changes=[
            *("velocity.dimension=16", "velocity.edge_dimension=8", "velocity.layers=2", "velocity.heads=2"),
            *("velocity.basis=none", "velocity.directions=0", "velocity.gradient_examples=32"),
            *("training.iterations=6", "training.batch_size=16", "training.precision=float32", "training.warmup=0"),
            *("training.compile=false", "training.loss=function", "flow.coupling=initialization"),
            *("zoo.epochs=3", "zoo.skip_epochs=1", "zoo.snapshot_every=4", "zoo.networks=10", "zoo.batch_size=16"),
            *("zoo.early_snapshots=2", "zoo.init=he", *changes),
        ]
    )


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
def test_training_ends_where_a_cpu_ends(kind):
    config, train = settings().zoo, dataset_for(kind).train
    start = initialize(KINDS[kind], 10, 0.3, generator(0, "start"), "he")
    here, there = (train_networks(start.to(device), train, config, [4, 12]) for device in ("cpu", "cuda"))
    # Adam moves by the sign of a gradient that is all but zero; such weights differ by a step.
    assert relative(there - start.flat[:, None], here - start.flat[:, None]) < 0.03
    losses = [network_losses(start.to(device), train.to(device)) for device in ("cpu", "cuda")]
    torch.testing.assert_close(losses[1].cpu(), losses[0], rtol=1e-3, atol=1e-4)


@over_kinds
@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
@pytest.mark.parametrize("path", ["straight", "training"])
def test_a_flow_learns_and_draws_what_it_does_on_a_cpu(kind, geometry, path):
    zoo, train = zoo_for(kind, geometry), dataset_for(kind).train
    config = settings(f"flow.geometry={geometry}", f"flow.path={path}", "flow.prediction=velocity")
    flows, losses = [], []
    for device in ("cpu", "cuda"):
        flow = flow_for_zoo(config, zoo, train).to(device)
        trainer = FlowTrainer(flow, zoo, config.training, train)
        flows.append(trainer.run())
        losses.append(trainer.validation_loss())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    here, there = flows
    there.load_state_dict(here.state_dict())
    drawn = [sample(flow, 5, 4, generator(0, "draws")) for flow in flows]
    assert drawn[1].is_cuda
    torch.testing.assert_close(drawn[1].cpu(), drawn[0], rtol=1e-3, atol=1e-3)
    if geometry != "normalized":
        x = drawn[0].double()
        found = [log_likelihood_of_coordinates(flow.double(), x.to(flow.device), steps=4) for flow in flows]
        torch.testing.assert_close(found[1].cpu(), found[0], rtol=1e-6, atol=1e-4)


@over_kinds
def test_guidance_and_outputs(kind):
    zoo, train = zoo_for(kind, "euclidean"), dataset_for(kind).train
    config = settings("flow.geometry=euclidean")
    flow = flow_for_zoo(config, zoo, train)
    drawn = []
    for device in ("cpu", "cuda"):
        moved = flow.to(device)
        loss = TaskLoss(train, 16, generator(0, "guidance"))
        x = sample(moved, 5, 4, generator(0, "draws"), guidance=Guidance(moved, loss, 0.1))
        drawn.append(predict(moved.coordinates.decode(x), train.inputs.to(device)).cpu())
    assert relative(drawn[1], drawn[0]) < 0.01


@over_kinds
def test_matching(kind):
    networks = initialize(KINDS[kind], 6, 0.3, generator(0, "start"), "he")
    found = []
    for device in ("cpu", "cuda"):
        moved = networks.to(device)
        matched = weight_matching(moved[:1], moved[1:], generator(0, "matching"))

        def objective(permuted, aim=moved[:1]):
            return squared_distance(aim, permuted)

        found.append((matched, sinkhorn_matching(moved[1:], objective, objective, matched, 5)))
    for here, there in zip(*found, strict=True):
        for group, indices in here.items():
            assert torch.equal(there[group].cpu(), indices)
