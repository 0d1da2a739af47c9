"""Zoos of convolutional, normalised, residual and attentive networks: aligned by every method, written and read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.symmetry.kinds import BUILT, equal
from wflib.config import AlignConfig
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, squared_distance
from wflib.tasks import Dataset, Split
from wflib.testing import assert_same_function
from wflib.zoo import Zoo, align_zoo, canonical_zoo, load_zoo, save_zoo

RUNS, SNAPSHOTS = 4, 2
METHODS = ["none", "weight-matching", "activation-matching", "sinkhorn"]
REFERENCES = ["first", "best", "medoid", "mean"]
over_built = pytest.mark.parametrize("name", BUILT)


def settings(method: str, reference: str, objective: str = "midpoint") -> AlignConfig:
    return AlignConfig(seed=0, method=method, objective=objective, reference=reference, restarts=4, iterations=10)


def hidden_copies(name: str):
    """Trajectories that end near one network, each in its own neuron order, and a task for them."""
    architecture, random = BUILT[name](), generator(0, "copies")
    network = Networks.from_flat(architecture, torch.randn(1, architecture.dimension, generator=random))
    for operation in architecture.operations:
        if operation.kind == "batch_norm":
            network.weights[operation.variance] = 0.5 + network.weights[operation.variance].sigmoid()
    order = random_permutations(architecture, RUNS, random)
    trajectory = torch.arange(RUNS).repeat_interleave(SNAPSHOTS)
    initial = permute(network[[0] * RUNS], order)
    networks = initial[trajectory].map(lambda tensor: tensor + 1e-3 * torch.randn(tensor.shape, generator=random))
    steps = torch.arange(SNAPSHOTS).repeat(RUNS)
    zoo = Zoo(networks, trajectory, steps, trajectory == RUNS - 1, "trained", initial)

    def split(size: int) -> Split:
        inputs = torch.randn(size, *architecture.inputs, generator=random)
        return Split(inputs, network.forward(inputs)[0].argmax(-1))

    return zoo, Dataset("toy", "classification", 5, split(40), split(20), split(20))


@over_built
@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("method", METHODS)
def test_known_orders_are_found_functions_kept_and_files_read(name, method, reference, tmp_path):
    zoo, dataset = hidden_copies(name)
    architecture = zoo.architecture
    aligned = align_zoo(zoo, settings(method, reference), dataset)
    assert_same_function(zoo.networks, aligned.networks, dataset.test.inputs, 1e-4)
    distance = squared_distance(aligned.reference, aligned.networks)
    assert float(distance.max()) > 1 if method == "none" else float(distance.max()) < 0.05
    start = aligned.initial_of(torch.arange(len(aligned)))
    assert float(squared_distance(start, aligned.networks).max()) < 0.05
    save_zoo(tmp_path / "zoo.safetensors", aligned)
    again = load_zoo(tmp_path / "zoo.safetensors", "aligned")
    assert equal(again.permutations, aligned.permutations)
    for part in ("networks", "initial", "aligned_to"):
        assert torch.equal(getattr(again, part).flat, getattr(aligned, part).flat)
    assert again.architecture == architecture
    assert equal(again[2:5].permutations, {group: indices[2:5] for group, indices in aligned.permutations.items()})


@over_built
@pytest.mark.parametrize("objective", ["l2", "random-point"])
def test_other_objectives(name, objective):
    zoo, dataset = hidden_copies(name)
    aligned = align_zoo(zoo, settings("sinkhorn", "first", objective), dataset)
    assert float(squared_distance(aligned.reference, aligned.networks).max()) < 0.05
    assert float(squared_distance(aligned.reference, zoo.networks).max()) > 1


@over_built
def test_canonical_zoos_are_written_and_read(name, tmp_path):
    zoo, dataset = hidden_copies(name)
    aligned = align_zoo(zoo, settings("weight-matching", "first"), dataset)
    canonical = canonical_zoo(aligned)
    save_zoo(tmp_path / "zoo.safetensors", canonical)
    again = load_zoo(tmp_path / "zoo.safetensors", "canonical")
    assert equal(again.record, canonical.record)
    assert equal(again.weights, canonical.weights)
    assert equal(again.permutations, aligned.permutations)
    assert canonical.record, "something was divided out"


def test_indices_and_records_of_other_shapes_are_refused():
    zoo, _ = hidden_copies("vit")
    heads, values = "block1.attention.logits.groups", "block1.attention.values"
    fine = random_permutations(zoo.architecture, len(zoo), generator(0))
    assert equal(replace(zoo, permutations=fine).permutations, fine)
    for wrong in ({values: fine[values][:, 0]}, {heads: fine[values]}, {"nobody": fine[heads]}):
        with pytest.raises(ValueError, match=r"permutations of .* do not fit 8 networks with hidden groups"):
            replace(zoo, permutations=wrong)
    with pytest.raises(ValueError, match=f"permutations of {values} expected each neuron 0 … 3 once"):
        replace(zoo, permutations={values: torch.zeros_like(fine[values])})
    sizes = {scaling.name: scaling.size for scaling in zoo.architecture.scalings}
    norms = {name: torch.ones(len(zoo), size) for name, size in sizes.items()}
    assert equal(replace(zoo, record=norms).record, norms)
    for wrong in ({"norm": torch.ones(len(zoo), 7)}, {heads: torch.ones(len(zoo), 2)}):
        with pytest.raises(ValueError, match=r"record of .* do not fit 8 networks with scalings"):
            replace(zoo, record=wrong)
