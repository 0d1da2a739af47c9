"""Canonical networks of every kind: laws over the table of operations and topologies."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.architecture.cases import (
    CASES,
    NETWORKS,
    Wired,
    chain,
    change,
    conv,
    pooled,
    random_inputs,
    random_networks,
    random_weights,
    traced,
)
from wflib.architecture import NORMS, Architecture
from wflib.manifold import weight_manifold
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import canonicalize, decanonicalize, permute, random_permutations, random_scales, scale
from wflib.symmetry.writers import normalized_scalings, output_writers, sign_writers, writers

TOLERANCE, CONTROL = 1e-10, 1e-3
ARCHITECTURES = {name: traced(name)[1] for name in CASES}
over_all = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
over_norms = pytest.mark.parametrize("norm", NORMS)
over_signs = pytest.mark.parametrize("signs", [False, True])


def function_change(a: Architecture, weights, other: Architecture, others) -> float:
    """As :func:`change`, between architectures."""
    inputs = random_inputs(a)
    one, two = a.forward(weights, inputs), other.forward(others, inputs)
    return float((one - two).abs().max() / one.abs().max())


def distance(architecture, a, b) -> float:
    """Largest difference of an entry, relative to the largest of its tensor."""
    return max(float((a[n] - b[n]).abs().max() / a[n].abs().max().clamp_min(1)) for n, _ in architecture.shapes)


def admissible(architecture, signs):
    """Random factors, with signs where asked for."""
    drawn = random_scales(architecture, NETWORKS, generator(0, "scales"), dtype=torch.float64)
    return drawn if signs else {name: factor.abs() for name, factor in drawn.items()}


@over_all
@over_norms
@over_signs
def test_the_function_stays_and_the_record_leads_back(architecture, norm, signs):
    weights = random_weights(architecture)
    canonical = canonicalize(Networks(architecture, weights), norm, signs)
    assert function_change(architecture, weights, canonical.networks.architecture, canonical.networks.weights) < TOLERANCE
    for record in (canonical.record, None):
        back = decanonicalize(canonical.networks, record)
        assert back.architecture == architecture
        back = back.weights
        assert change(architecture, weights, back) < TOLERANCE
        assert (distance(architecture, weights, back) < TOLERANCE) == (record is not None or not canonical.record)
    spoiled = {name: tensor * 1.01 for name, tensor in canonical.networks.weights.items()}
    assert function_change(architecture, weights, canonical.networks.architecture, spoiled) > CONTROL
    assert canonical.zero_norm_neurons == 0


@over_all
@over_norms
@over_signs
def test_canonicalizing_twice_changes_nothing_more(architecture, norm, signs):
    weights = random_weights(architecture)
    once = canonicalize(Networks(architecture, weights), norm, signs)
    twice = canonicalize(once.networks, norm, signs)
    assert twice.networks.architecture == once.networks.architecture
    assert distance(once.networks.architecture, once.networks.weights, twice.networks.weights) < TOLERANCE
    assert all(float((factor - 1).abs().max()) < TOLERANCE for factor in twice.record.values())
    assert distance(architecture, once.networks.weights, weights) > CONTROL


@over_all
@over_norms
@over_signs
def test_orbits_have_one_representative(architecture, norm, signs):
    weights, factors = random_weights(architecture), admissible(architecture, signs)
    there = scale(Networks(architecture, weights), factors).weights
    a, b = (canonicalize(Networks(architecture, side), norm, signs) for side in (weights, there))
    assert distance(a.networks.architecture, a.networks.weights, b.networks.weights) < TOLERANCE
    if architecture.scalings:
        assert distance(architecture, weights, there) > CONTROL


@over_all
@over_norms
def test_other_orbits_have_other_representatives(architecture, norm):
    weights = random_weights(architecture)
    here = canonicalize(Networks(architecture, weights), norm)
    for name in weights:
        moved = {other: tensor.clone() for other, tensor in weights.items()}
        moved[name].flatten(1)[:, 0] += 0.1
        there = canonicalize(Networks(architecture, moved), norm)
        assert distance(here.networks.architecture, here.networks.weights, there.networks.weights) > 1e-4


@over_all
@over_norms
@over_signs
def test_it_commutes_with_permutations(architecture, norm, signs):
    networks, order = (
        random_networks(architecture),
        random_permutations(architecture, NETWORKS, generator(0, "order")),
    )
    first = canonicalize(permute(networks, order), norm, signs)
    last = canonicalize(networks, norm, signs)
    permuted = permute(last.networks, order).weights
    assert distance(first.networks.architecture, first.networks.weights, permuted) < TOLERANCE
    if architecture.hidden_groups:
        assert distance(first.networks.architecture, first.networks.weights, last.networks.weights) > CONTROL


@over_all
@over_norms
def test_norms_are_one_and_points_lie_on_the_manifold(architecture, norm):
    weights = random_weights(architecture)
    canonical = canonicalize(Networks(architecture, weights), norm)
    norms = [neurons.gather(canonical.networks.weights).norm(dim=-1) for neurons in writers(architecture, norm).values()]
    norms.append(output_writers(architecture, norm).gather(canonical.networks.weights).norm(dim=-1))
    assert all(float((norm - 1).abs().max()) < TOLERANCE for norm in norms)
    manifold, flat = (
        weight_manifold(canonical.networks.architecture),
        canonical.networks.flat,
    )
    assert float((manifold.projx(flat) - flat).abs().max()) < TOLERANCE
    assert float((manifold.projx(1.1 * flat) - 1.1 * flat).abs().max()) > CONTROL
    everywhere = torch.arange(canonical.networks.architecture.dimension)
    assert torch.equal(torch.cat([everywhere[part.places] for part in manifold.parts]).sort()[0], everywhere)
    assert torch.equal(manifold.pack_point(*manifold.unpack_tensor(flat)), flat)
    assert sum(part.shape[0] for part in manifold.parts if part.sphere) == 1 + sum(
        neurons.neurons for neurons in writers(architecture, norm).values() if neurons.places(architecture).shape[1] > 1
    )


@over_all
def test_signs_are_those_of_the_largest_writers(architecture):
    networks = random_networks(architecture)
    canonical = canonicalize(networks, signs=True).networks.weights
    for neurons in sign_writers(architecture).values():
        entries, plain = (neurons.gather(w) for w in (canonical, canonicalize(networks).networks.weights))
        assert bool((entries.gather(-1, entries.abs().argmax(-1, keepdim=True)) > 0).all())
        assert bool((plain.gather(-1, plain.abs().argmax(-1, keepdim=True)) < 0).any())


@pytest.mark.parametrize(
    ("case", "norm", "expected"),
    [
        ("batch-norm", NORMS[0], {"0": "0.weight 0.bias", "1": "1.weight 1.bias", "3": "3.weight 3.bias"}),
        ("batch-norm", NORMS[1], {"0": "0.weight", "1": "1.weight 1.bias", "3": "3.weight"}),
        ("residual", NORMS[0], {"stem": "stem.weight stem.bias one.bias two.bias"}),
        ("residual", NORMS[1], {"stem": "stem.weight"}),
        ("used-twice", NORMS[0], {"first": "first.weight first.bias shared.bias"}),
        ("relative-positions", NORMS[1], {"embed": "embed.weight", "qkv": "qkv.weight"}),
        ("rms-norm", NORMS[1], {"1": "1.weight"}),
        ("read-differently", NORMS[0], {"first": "first.weight first.bias"}),
        ("two-writers", NORMS[0], {}),
    ],
)
def test_what_counts_as_written(case, norm, expected):
    found = writers(ARCHITECTURES[case], norm)
    assert {name: " ".join(tensor for tensor, _ in neurons.parts) for name, neurons in found.items()} == expected
    assert list(expected) == normalized_scalings(ARCHITECTURES[case])


class Block(nn.Module):
    """A residual block of batch norms, with or without an activation on the stream."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.norm1, self.norm2 = conv(4, 3), conv(3, 4), nn.BatchNorm2d(3), nn.BatchNorm2d(4)
        self.last = last

    def forward(self, x):
        return self.last(x + self.norm2(self.two(torch.relu(self.norm1(self.one(x))))))


@pytest.mark.parametrize(("last", "kind"), [(nn.ReLU, "positive"), (nn.Identity, "any")])
@over_signs
def test_residual_streams_of_batch_norms_are_spheres_of_all_their_writers(last, kind, signs):
    module = pooled(conv(2, 4), nn.BatchNorm2d(4), last(), Block(last()), Block(last()), channels=4)().double().eval()
    architecture = Architecture.from_module(module, torch.zeros(1, 2, 5, 5, dtype=torch.float64))
    stream = next(scaling for scaling in architecture.scalings if scaling.name == "1")
    assert stream.kind == kind
    norms = ("1", "3.norm2", "4.norm2")
    tensors = [f"{norm}.{part}" for norm in norms for part in ("weight", "bias")]
    assert [tensor for tensor, _ in writers(architecture, NORMS[0])["1"].parts] == tensors
    networks = random_networks(architecture)
    canonical = canonicalize(networks, signs=signs)
    assert (
        function_change(architecture, networks.weights, canonical.networks.architecture, canonical.networks.weights)
        < TOLERANCE
    )
    assert float((sum(canonical.networks.weights[tensor].square() for tensor in tensors) - 1).abs().max()) < TOLERANCE
    there = canonicalize(scale(networks, admissible(architecture, signs)), signs=signs)
    twice = canonicalize(canonical.networks, signs=signs)
    for other in (there, twice):
        assert distance(canonical.networks.architecture, canonical.networks.weights, other.networks.weights) < TOLERANCE
    if signs and kind == "any":
        signed = [tensor for tensor, _ in sign_writers(architecture)["1"].parts]
        # Filters further on flip factors of their own norms.
        assert signed == ["1.weight", "1.bias", "3.norm2.bias", "4.norm2.bias"]


@pytest.mark.parametrize("sizes", [(0.0, 1.0), (1.0, 0.0), (0.0, 1e-12)])
def test_two_norms_that_read_one_filter_both_get_room(sizes):
    def both(m, x):
        x = m.filter(x)
        return m.head(torch.relu(m.one(x) + m.two(x)).mean((2, 3)))

    module = Wired(both, filter=conv(2, 4), one=nn.BatchNorm2d(4), two=nn.BatchNorm2d(4), head=nn.Linear(4, 3))
    architecture = Architecture.from_module(module.double().eval(), torch.zeros(1, 2, 5, 5, dtype=torch.float64))
    weights = random_weights(architecture)
    for name, size in zip(("one", "two"), sizes, strict=True):
        weights[f"{name}.running_var"] = torch.full_like(weights["one.running_var"], size)
    canonical = canonicalize(Networks(architecture, weights))
    drawn = decanonicalize(canonical.networks).weights
    variances = torch.stack([drawn["one.running_var"], drawn["two.running_var"]])
    assert bool((variances >= 0).all())
    assert bool((variances.amin(0) == 0).all())
    assert change(architecture, weights, drawn) < TOLERANCE


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3, 1e8])
@pytest.mark.parametrize("variance", [0.0, 1e-12, 1.0])
def test_variances_of_any_size_have_a_canonical_form(size, variance):
    """Filters of norm s > 1 over hardly any variance: v itself would become negative."""
    architecture = ARCHITECTURES["batch-norm"]
    networks = random_networks(architecture)
    networks.weights["0.weight"] *= size
    networks.weights["1.running_var"] = torch.full_like(networks.weights["1.running_var"], variance)
    canonical = canonicalize(networks)
    small = canonical.networks.weights["1.running_var"] < 1e-5
    assert bool(small.any()) == (variance < 1 or size > 1)
    if bool(small.any()):
        with pytest.raises(ValueError, match=r"running_var would become negative"):
            scale(networks, {"0": canonical.record["0"]})
    assert bool((canonical.networks.weights["1.running_var"] > 0).all())
    assert (
        function_change(architecture, networks.weights, canonical.networks.architecture, canonical.networks.weights)
        < TOLERANCE
    )
    back = decanonicalize(canonical.networks, canonical.record)
    assert back.architecture == architecture
    back = back.weights
    assert change(architecture, networks.weights, back) < TOLERANCE
    torch.testing.assert_close(back["1.running_var"], networks.weights["1.running_var"], rtol=1e-12, atol=1e-20)
    assert bool((back["1.running_var"] >= 0).all())
    drawn = decanonicalize(canonical.networks).weights
    assert change(architecture, networks.weights, drawn) < TOLERANCE
    assert bool((drawn["1.running_var"] >= 0).all())
    lengths = writers(architecture, NORMS[0])["0"].gather(drawn).norm(dim=-1)
    assert torch.equal(lengths > 1 + TOLERANCE, small)
    assert torch.equal(drawn["1.running_var"] == 0, small)
    assert bool(((lengths - 1).abs() < TOLERANCE)[~small].all())
    assert Architecture.from_json(canonical.networks.architecture.to_json()) == canonical.networks.architecture


def tied(m, x):
    return m.map(torch.tanh(m.map(torch.relu(m.first(x)))))


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (chain(conv(2, 4), nn.ReLU(), conv(4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (2, 5, 5)),
        (chain(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.Tanh()), (2,)),
        (lambda: Wired(tied, first=nn.Linear(2, 3), map=nn.Linear(3, 3)), (2,)),
    ],
    ids=["convolution", "activation", "shared"],
)
def test_classifiers_without_an_output_layer_have_no_output_scale(make, inputs):
    module = make().double().eval()
    architecture = Architecture.from_module(module, torch.zeros(1, *inputs, dtype=torch.float64))
    weights = random_weights(architecture)
    canonical = canonicalize(Networks(architecture, weights))
    assert canonical.networks.architecture.log_scale is None
    assert output_writers(architecture, NORMS[0]) is None
    assert function_change(architecture, weights, canonical.networks.architecture, canonical.networks.weights) < TOLERANCE
    assert weight_manifold(canonical.networks.architecture).has_spheres == bool(architecture.scalings)
    back = decanonicalize(canonical.networks, canonical.record)
    assert back.architecture == architecture
    back = back.weights
    assert distance(architecture, weights, back) < TOLERANCE


def test_one_variance_with_two_epsilons_is_refused():
    norm = nn.BatchNorm1d(4)
    module = nn.Sequential(nn.Linear(3, 4), norm, nn.ReLU(), nn.Linear(4, 4), norm, nn.Linear(4, 2)).double().eval()
    architecture = Architecture.from_module(module, torch.zeros(2, 3, dtype=torch.float64))
    weights = random_weights(architecture)
    canonical = canonicalize(Networks(architecture, weights))
    assert function_change(architecture, weights, canonical.networks.architecture, canonical.networks.weights) < TOLERANCE
    operations = list(architecture.operations)
    place = max(index for index, operation in enumerate(operations) if operation.kind == "batch_norm")
    operations[place] = replace(operations[place], epsilon=1e-3)
    with pytest.raises(ValueError, match="running_var is used with different epsilons"):
        canonicalize(Networks(replace(architecture, operations=tuple(operations)), weights))


@over_norms
def test_neurons_without_a_norm_are_counted_and_left(norm):
    architecture = ARCHITECTURES["residual"]
    weights = random_weights(architecture)
    for name in ("stem.weight", "stem.bias", "one.bias", "two.bias"):
        weights[name][1, 2] = 0
    canonical = canonicalize(Networks(architecture, weights), norm)
    assert canonical.zero_norm_neurons == canonical.nearly_dead_neurons == 1
    assert canonical.record["stem"][1, 2] == 1
    assert function_change(architecture, weights, canonical.networks.architecture, canonical.networks.weights) < TOLERANCE
    assert bool(torch.isfinite(canonical.networks.flat).all())


def test_a_number_that_all_neurons_share_is_rescaled_with_all_of_them():
    def run(m, x):
        return m.last(torch.relu(m.first(x)) * m.gain)

    parts = {"first": torch.nn.Linear(3, 5), "gain": torch.nn.Parameter(torch.tensor(1.5)), "last": torch.nn.Linear(5, 2)}
    architecture = Architecture.from_module(Wired(run, **parts).double(), torch.zeros(1, 3, dtype=torch.float64))
    assert sorted((scaling.size, scaling.kind) for scaling in architecture.scalings) == [(1, "any"), (1, "positive")]
    networks = Networks(architecture, random_weights(architecture))
    found = canonicalize(networks)
    back = decanonicalize(found.networks, found.record)
    inputs = random_inputs(architecture)
    for same in (found.networks, back):
        torch.testing.assert_close(same.forward(inputs), networks.forward(inputs))
    assert all(torch.allclose(back.weights[name], tensor) for name, tensor in networks.weights.items())
    assert not torch.allclose(found.networks.weights["gain"], networks.weights["gain"])
