"""Graphs of architectures of every kind: what becomes node, edge and whole, and exact ways back."""

import pytest
import torch

from tests.architecture.cases import CASES as TRACED
from tests.architecture.cases import traced
from wflib.architecture import Architecture, cnn, mlp, resnet, vit
from wflib.graph import GraphFeatures, neural_graph
from wflib.graph.pyg import from_data, to_data
from wflib.networks import Networks

CASES = [
    mlp([3, 4, 2]),
    mlp([3, 4, 5, 2]).canonical_form("weights"),
    mlp([3, 4, 2], bias=False),
    mlp([3, 2], bias=False).canonical_form("weights"),
    cnn((1, 8, 8), [4, 3], 5, norm="batch"),
    resnet((1, 8, 8), [4, 4, 6], 5),
    vit((1, 8, 8), 8, [12], 5),
    *(traced(name)[1] for name in ("grouped", "dense", "channel-shuffle", "used-twice", "relative-positions")),
]
PERCEPTRON, CONVOLUTIONAL, TRANSFORMER = CASES[1], CASES[4], CASES[6]


def draw(architecture: Architecture, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, architecture.dimension, generator=torch.Generator().manual_seed(0))


def blocks(architecture: Architecture, **options) -> dict[tuple[str, str], tuple[int, ...]]:
    return {(b.target, b.source): tuple(b.places.shape) for b in neural_graph(architecture, **options).edges}


def test_every_weight_has_its_place():
    graph = neural_graph(PERCEPTRON)
    assert blocks(PERCEPTRON) == {
        ("hidden1", "input"): (4, 3, 1),
        ("hidden2", "hidden1"): (5, 4, 1),
        ("output", "hidden2"): (2, 5, 1),
    }
    assert [group.places.shape[1] for group in graph.groups] == [0, 1, 1, 1]
    assert graph.whole.tolist() == [PERCEPTRON.dimension - 1]
    assert graph.nodes == 14
    assert graph.place["output"] == slice(12, 14)
    hidden = neural_graph(PERCEPTRON, ends=False)
    assert blocks(PERCEPTRON, ends=False) == {("hidden2", "hidden1"): (5, 4, 1)}
    assert [group.places.shape for group in hidden.groups] == [(4, 4), (5, 3)]
    assert len(hidden.whole) == 3


def test_kernels_and_flattened_positions_are_features_of_edges():
    assert blocks(CONVOLUTIONAL) == {
        ("conv1", "input"): (4, 1, 9),
        ("conv2", "conv1"): (3, 4, 9),
        ("output", "conv2"): (5, 3, 4),
    }
    # Neurons of batch norms: scale, offset, mean and variance.
    assert [group.places.shape[1] for group in neural_graph(CONVOLUTIONAL).groups] == [0, 4, 4, 1]


def test_tensors_between_the_same_groups_are_one_block_and_a_group_may_be_both_ends():
    assert blocks(TRANSFORMER, ends=False) == {
        ("block1.attention.queries", "patches"): (8, 8, 2),  # Of queries and of keys.
        ("block1.attention.values", "patches"): (8, 8, 2),  # Of values and of the output.
        ("block1.wide", "patches"): (12, 8, 2),
        ("block1.attention.logits.groups", "block1.attention.queries"): (2, 8, 0),
        ("block1.attention.logits.groups", "block1.attention.values"): (2, 8, 0),
    }
    (heads,) = (
        block.constants
        for block in neural_graph(TRANSFORMER).edges
        if block.source == "block1.attention.queries" and block.constants.numel()
    )
    assert torch.equal(heads.squeeze(-1), torch.eye(2).repeat_interleave(4, 1))
    name = traced("used-twice")[1].hidden_groups[0].name
    assert blocks(traced("used-twice")[1], ends=False) == {(name, name): (5, 5, 1)}


def test_a_filter_of_a_group_of_channels_knows_which_it_reads():
    _, architecture = traced("grouped")
    sparse = [b.places for b in neural_graph(architecture).edges if (b.places < 0).any()]
    assert len(sparse) == 1
    assert float((sparse[0] < 0).float().mean()) == pytest.approx(2 / 3)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("architecture", [*CASES, *(traced(name)[1] for name in TRACED)])
def test_features_round_trip_exactly(architecture, ends):
    graph, x = neural_graph(architecture, ends), draw(architecture)
    features = GraphFeatures(graph)
    whole, nodes, edges = features.split(x)
    assert torch.equal(features.join(whole, nodes, edges), x)
    assert [node.shape for node in nodes] == [(3, *group.places.shape) for group in graph.groups]
    changed = features.join(whole, nodes, [edge + 1 for edge in edges])
    on_edges = sum(int((block.places >= 0).sum()) for block in graph.edges)
    assert int((changed != x).sum()) == 3 * on_edges


@pytest.mark.parametrize("both_directions", [True, False])
@pytest.mark.parametrize("architecture", CASES)
def test_pyg_round_trips_exactly(architecture, both_directions):
    network = Networks.from_flat(architecture, draw(architecture))[:1]
    data = to_data(network, both_directions)
    data.validate()
    order = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(1))
    shuffled = data.clone()
    shuffled.edge_index = data.edge_index[:, order]
    for name in ("edge_attr", "edge_type", "reverse"):
        shuffled[name] = data[name][order]
    for graph in (data, shuffled):
        back = from_data(architecture, graph)
        assert back.architecture == architecture
        assert torch.equal(back.flat, network.flat)


def test_pyg_edges_run_from_source_to_target():
    architecture = CASES[0]
    networks = Networks.from_flat(architecture, draw(architecture))
    weights, data = networks[0], to_data(networks[:1])
    assert data.num_nodes == 9
    assert data.num_edges == 2 * 20
    assert data.is_undirected()
    edge = int(((data.edge_index[0] == 1) & (data.edge_index[1] == 3 + 2)).nonzero())
    assert data.edge_attr[edge] == weights["linear1.weight"][2, 1]
    assert data.x[3 + 2] == weights["linear1.bias"][2]
    assert data.position.tolist() == [0, 1, 2, 3, 3, 3, 3, 4, 5]
    one_way = to_data(networks[:1], both_directions=False)
    assert one_way.num_edges == 20
    assert not one_way.reverse.any()


def test_pyg_refuses_another_architecture_and_several_networks():
    architecture = CASES[0]
    networks = Networks.from_flat(architecture, draw(architecture))
    with pytest.raises(ValueError, match="expected one network, got 3"):
        to_data(networks)
    data = to_data(networks[:1])
    with pytest.raises(ValueError, match="nodes"):
        from_data(CASES[1], data)
    data.edge_type = torch.zeros_like(data.edge_type)
    with pytest.raises(ValueError, match="edges"):
        from_data(CASES[0], data)
