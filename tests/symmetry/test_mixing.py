"""Mixing neurons by matrices, for networks of every kind: permutations are the matrices with one entry a row."""

from __future__ import annotations

import pytest
import torch

from tests.symmetry.kinds import KINDS, NETWORKS, drawn
from wflib.architecture import cnn, mlp
from wflib.architecture.derive import Axis, Block
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import mix, permute, random_permutations
from wflib.symmetry.mixing import mix_axis, within_columns
from wflib.symmetry.permutation import permute_axis

DOUBLE = torch.float64
over_kinds = pytest.mark.parametrize("name", KINDS)


def one_hot(order):
    return {group: torch.nn.functional.one_hot(indices).to(DOUBLE) for group, indices in order.items()}


@over_kinds
def test_mixing_by_permutation_matrices_permutes(name):
    architecture = KINDS[name]()
    networks = Networks(architecture, drawn(architecture))
    order = random_permutations(architecture, NETWORKS, generator(0, "order"))
    mixed, permuted = (
        mix(networks, one_hot(order)).weights,
        permute(networks, order).weights,
    )
    assert all(torch.equal(mixed[name], permuted[name]) for name in networks.weights)
    backwards = mix(networks, {group: matrix.mT for group, matrix in one_hot(order).items()}).weights
    assert any(not torch.equal(backwards[name], permuted[name]) for name in networks.weights)


@over_kinds
def test_mixing_some_groups_leaves_the_others(name):
    architecture = KINDS[name]()
    networks = Networks(architecture, drawn(architecture))
    for group, indices in random_permutations(architecture, NETWORKS, generator(0, "order")).items():
        mixed = mix(networks, one_hot({group: indices})).weights
        permuted = permute(networks, {group: indices}).weights
        assert all(torch.equal(mixed[name], permuted[name]) for name in networks.weights)


@over_kinds
def test_mixing_is_linear_in_one_matrix_and_has_gradients(name):
    architecture = KINDS[name]()
    networks = Networks(architecture, drawn(architecture))
    group = architecture.hidden_groups[0]
    shape = random_permutations(architecture, NETWORKS, generator(0))[group.name].shape
    one, other = (torch.rand(*shape, group.size, dtype=DOUBLE, generator=generator(seed)) for seed in (1, 2))
    alone = [name for name in networks.weights if sum(group.name in a.groups for a in architecture.axes(name)) == 1]
    left, right = (mix(networks, {group.name: m}).weights for m in (one, other))
    both = mix(networks, {group.name: 0.3 * one + 0.7 * other}).weights
    assert alone
    for name in alone:
        torch.testing.assert_close(0.3 * left[name] + 0.7 * right[name], both[name])
    one.requires_grad_()
    mixed = mix(networks, {group.name: one}).weights
    sum(mixed[name].square().sum() for name in alone).backward()
    assert float(one.grad.abs().min()) > 0


def test_flattened_positions_and_statistics_are_averaged_channel_by_channel():
    architecture = cnn((1, 8, 8), [4, 3], 5, norm="batch")
    weights = drawn(architecture)
    mixed = mix(Networks(architecture, weights), {"conv2": torch.full((NETWORKS, 3, 3), 1 / 3, dtype=DOUBLE)}).weights
    mean = weights["linear1.weight"].unflatten(2, (3, 4)).mean(2, keepdim=True).expand(-1, -1, 3, -1).flatten(2)
    torch.testing.assert_close(mixed["linear1.weight"], mean)
    torch.testing.assert_close(mixed["norm2.running_var"], weights["norm2.running_var"].mean(1, True).expand(-1, 3))
    assert torch.equal(mixed["conv1.weight"], weights["conv1.weight"])


@pytest.mark.parametrize("nested", [True, False])
def test_rows_with_their_own_order_of_columns_are_mixed_as_they_are_permuted(nested):
    random = generator(0, "within")
    # Two sets of two rows, whose members are columns in another order; one row of neither, one column of nobody.
    columns = torch.tensor([[[0], [2], [3]], [[3], [0], [2]]])
    rows = torch.tensor([0, 1, 0, 1, -1])
    outer = Block("rows", torch.tensor([[[0], [2]], [[1], [3]]]))
    axes = (Axis("t[0]", 5, (outer,)), Axis("t[1]", 4, (Block("columns", columns, rows),)))
    parents = {"rows": "sets", "columns": "sets"} if nested else {}
    tensor = torch.randn(NETWORKS, 5, 4, 2, generator=random, dtype=DOUBLE)
    order = {"columns": torch.rand(NETWORKS, *((2, 3) if nested else (3,)), generator=random).argsort(-1)}
    if nested:
        order |= {"sets": torch.tensor([[0, 1], [1, 0], [1, 0]]), "rows": torch.tensor([[0, 1], [1, 0]]).expand(3, -1, -1)}
    else:
        axes = (Axis("t[0]", 5), axes[1])
    matrices, permuted, mixed = one_hot(order), tensor, within_columns(tensor, axes, True)
    for place, axis in enumerate(axes, 1):
        permuted = permute_axis(permuted, place, axis, order, parents)
        mixed = mix_axis(mixed, place, axis, matrices, parents)
    assert torch.equal(within_columns(mixed, axes, False), permuted)
    assert not torch.equal(permuted, tensor)


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        ({"hidden2": torch.eye(4)[None]}, "'hidden2' is no hidden group.*hidden1"),
        ({"hidden1": torch.eye(3).expand(3, 3, 3)}, r"hidden1 expected matrices \(3, 4, 4\), got \(3, 3, 3\)"),
    ],
)
def test_matrices_of_other_groups_are_refused(matrices, message):
    architecture = mlp([2, 4, 2])
    with pytest.raises(ValueError, match=message):
        mix(Networks(architecture, drawn(architecture)), matrices)
