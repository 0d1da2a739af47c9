"""Velocity networks on networks of every kind: equivariant to what may be exchanged, and to nothing else."""

import pytest
import torch

from tests.architecture.cases import CASES as TRACED
from tests.architecture.cases import traced
from tests.velocity.test_edge_kernels import needs_compiler
from wflib.architecture import Architecture, cnn, resnet, vit
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import identity, permute
from wflib.testing import assert_equivariant
from wflib.velocity import NeuronTokens
from wflib.velocity.all_pairs import AllPairsTransformer
from wflib.velocity.pna import PNA
from wflib.velocity.relational_transformer import RelationalTransformer

BUILT = {
    "cnn": cnn((1, 8, 8), [4, 3], 5, norm="batch"),
    "resnet": resnet((1, 8, 8), [4, 4, 6], 5),
    "vit": vit((1, 8, 8), 8, [12], 5),
    "canonical cnn": cnn((1, 8, 8), [4, 3], 5).canonical_form(),
}
ARCHITECTURES = BUILT | {name: traced(name)[1] for name in TRACED}
KINDS = {
    "neuron-tokens": lambda architecture, **options: NeuronTokens(architecture, 8, 4, 2, 2, **options),
    "relational-transformer": lambda architecture, **options: RelationalTransformer(architecture, 8, 2, 2, **options),
    "pna": lambda architecture, **options: PNA(architecture, 8, 2, 2, **options),
}
over_kinds = pytest.mark.parametrize("kind", KINDS)


def randomized(network: torch.nn.Module) -> torch.nn.Module:
    """No parameter at its initial zero: an output of zeros is equivariant to everything."""
    random = generator(0, "parameters")
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=random))
    return network


def points(architecture: Architecture) -> tuple[torch.Tensor, torch.Tensor]:
    random = generator(1, "points")
    x = torch.randn(3, architecture.dimension, generator=random, dtype=torch.float64)
    return x, torch.rand(3, generator=random, dtype=torch.float64)


@over_kinds
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_hidden_permutations_commute_with_the_field(name, kind):
    architecture = ARCHITECTURES[name]
    network, (x, t) = randomized(KINDS[kind](architecture)), points(architecture)
    assert network(x, t).std() > 0.01
    assert_equivariant(lambda point: network(point, t), architecture, x, generator(2, "permutations"))
    slope = torch.linspace(0, 1e-6, architecture.dimension, dtype=torch.float64)
    with pytest.raises(ValueError, match="equivariant"):
        assert_equivariant(lambda point: network(point, t) + slope, architecture, x, generator(2, "permutations"))


@over_kinds
@pytest.mark.parametrize("name", ["cnn", "resnet", "vit", "grouped", "dense", "used-twice"])
def test_every_weight_is_seen_and_moved(name, kind):
    architecture = ARCHITECTURES[name]
    network, (x, t) = randomized(KINDS[kind](architecture)), points(architecture)
    x.requires_grad_()
    field = network(x, t)
    felt = torch.autograd.grad(field.square().sum(), x)[0]
    for where in architecture.slices.values():
        assert (felt[:, where] != 0).all()
        assert (field[:, where] != 0).all()


@over_kinds
def test_exchanging_neurons_in_some_tensors_only_does_not_commute(kind):
    architecture = ARCHITECTURES["resnet"]
    network, (x, t) = randomized(KINDS[kind](architecture)), points(architecture)
    rolled = {"block1.conv1": torch.arange(4).roll(1).expand(3, -1)}

    def act(flat: torch.Tensor, tensors: set[str]) -> torch.Tensor:
        weights = architecture.unflatten(flat)
        moved = permute(Networks(architecture, weights), rolled).weights
        return architecture.flatten({name: (moved if name in tensors else weights)[name] for name in weights})

    every = {name for name, _ in architecture.shapes}
    with torch.no_grad():
        for left_out, commutes in ((set(), True), ({"block1.conv2.weight"}, False), ({"block1.norm1.running_var"}, False)):
            tensors = every - left_out
            error = (network(act(x, tensors), t) - act(network(x, t), tensors)).abs().max()
            assert (error < 1e-10) == commutes, left_out


@over_kinds
def test_neurons_of_other_heads_are_no_neighbours(kind):
    # Members of heads may be exchanged within a head; between heads only together with all others of the head.
    architecture = ARCHITECTURES["vit"]
    network, (x, t) = randomized(KINDS[kind](architecture)), points(architecture)
    members = identity(architecture, 3)
    queries, values = (f"block1.attention.{name}" for name in ("queries", "values"))
    weights = architecture.unflatten(x)
    swapped = {name: tensor.clone() for name, tensor in weights.items()}
    for tensor, axis in (("block1.attention.in_proj_weight", 1), ("block1.attention.in_proj_bias", 1)):
        for start in (0, 8):  # Rows of queries, rows of keys: neuron 0 of head 0 for neuron 0 of head 1.
            swapped[tensor].index_copy_(axis, torch.tensor([start, start + 4]), weights[tensor][:, [start + 4, start]])
    assert {queries, values} <= set(members)
    with torch.no_grad():
        one, other = (architecture.unflatten(network(architecture.flatten(some), t)) for some in (weights, swapped))
    # Two rounds: queries tell their heads, heads tell values.
    assert (one["block1.attention.in_proj_weight"] - other["block1.attention.in_proj_weight"])[:, 16:].abs().max() > 1e-6


@pytest.mark.parametrize("name", ["cnn", "vit", "grouped", "used-twice", "dense"])
def test_block_form_is_masked_all_pairs_attention(name):
    architecture = ARCHITECTURES[name]
    blocks = randomized(RelationalTransformer(architecture, 8, 2, 2))
    pairs = AllPairsTransformer(architecture, 8, 2, 2).double()
    pairs.load_state_dict(blocks.state_dict())
    x, t = points(architecture)
    with torch.no_grad():
        torch.testing.assert_close(blocks(x, t), pairs(x, t), rtol=0, atol=1e-10)


@needs_compiler
@pytest.mark.parametrize("name", ["cnn", "vit", "grouped", "used-twice"])
def test_kernels_compute_what_blocks_do(name):
    architecture = ARCHITECTURES[name]
    network = randomized(RelationalTransformer(architecture, 16, 2, 1)).float()
    x, t = (some.float() for some in points(architecture))
    with torch.no_grad():
        expected = network(x, t)
        assert network.use_kernels()
        found = network(x, t)
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@over_kinds
def test_further_fields_and_scalars_are_seen(kind):
    architecture = ARCHITECTURES["canonical cnn"]
    network, (x, t) = randomized(KINDS[kind](architecture, scalars=1, fields=1)), points(architecture)
    scalars, fields = torch.ones(3, 1, dtype=torch.float64), x.flip(0).unsqueeze(1)
    with torch.no_grad():
        base = network(x, t, scalars, fields)
        assert (network(x, t, 2 * scalars, fields) - base).abs().max() > 1e-6
        assert (network(x, t, scalars, 2 * fields) - base).abs().max() > 1e-6
