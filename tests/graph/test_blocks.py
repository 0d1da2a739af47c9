"""Graphs of architectures: what becomes node, edge and scalar, and exact ways back."""

import pytest
import torch

from wflib.architecture import Architecture, mlp
from wflib.graph import from_blocks, neural_graph, to_blocks
from wflib.graph.pyg import from_data, to_data

CASES = [
    mlp([3, 4, 2]),
    mlp([3, 4, 5, 2]).canonical_form("weights"),
    mlp([3, 4, 2], bias=False),
    mlp([3, 2], bias=False).canonical_form("weights"),
]


def draw(architecture: Architecture, batch: int = 3) -> dict[str, torch.Tensor]:
    return architecture.unflatten(torch.randn(batch, architecture.dimension, generator=torch.Generator().manual_seed(0)))


def test_every_tensor_has_its_place():
    graph = neural_graph(CASES[1])
    assert [(block.tensor, block.target, block.source) for block in graph.edges] == [
        ("linear1.weight", "hidden1", "input"),
        ("linear2.weight", "hidden2", "hidden1"),
        ("linear3.weight", "output", "hidden2"),
    ]
    assert graph.node_tensors["input"] == ()
    assert graph.node_tensors["hidden2"] == ("linear2.bias",)
    assert graph.scalars == ("log_scale",)
    assert graph.nodes == 14
    assert graph.place["output"] == slice(12, 14)


@pytest.mark.parametrize("architecture", CASES)
def test_blocks_round_trip_exactly(architecture):
    weights = draw(architecture)
    features = to_blocks(architecture, weights)
    back = from_blocks(architecture, features)
    assert list(back) == list(weights)
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    assert all(edge.shape == (3, *architecture.shape(name), 1) for name, edge in features.edges.items())


@pytest.mark.parametrize("both_directions", [True, False])
@pytest.mark.parametrize("architecture", CASES)
def test_pyg_round_trips_exactly(architecture, both_directions):
    weights = {name: tensor[0] for name, tensor in draw(architecture).items()}
    data = to_data(architecture, weights, both_directions)
    data.validate()
    order = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(1))
    shuffled = data.clone()
    shuffled.edge_index = data.edge_index[:, order]
    for name in ("edge_attr", "edge_type", "reverse"):
        shuffled[name] = data[name][order]
    for graph in (data, shuffled):
        back = from_data(architecture, graph)
        assert list(back) == list(weights)
        assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_pyg_edges_run_from_source_to_target():
    architecture = CASES[0]
    weights = {name: tensor[0] for name, tensor in draw(architecture).items()}
    data = to_data(architecture, weights)
    assert data.num_nodes == 9
    assert data.num_edges == 2 * 20
    assert data.is_undirected()
    edge = int(((data.edge_index[0] == 1) & (data.edge_index[1] == 3 + 2)).nonzero())
    assert data.edge_attr[edge] == weights["linear1.weight"][2, 1]
    assert data.x[3 + 2] == weights["linear1.bias"][2]
    assert data.position.tolist() == [0, 1, 2, 3, 3, 3, 3, 4, 5]
    one_way = to_data(architecture, weights, both_directions=False)
    assert one_way.num_edges == 20
    assert not one_way.reverse.any()


def test_pyg_refuses_another_architecture():
    data = to_data(CASES[0], {name: tensor[0] for name, tensor in draw(CASES[0]).items()})
    with pytest.raises(ValueError, match="nodes"):
        from_data(CASES[1], data)
    data.edge_type = torch.zeros_like(data.edge_type)
    with pytest.raises(ValueError, match="edges"):
        from_data(CASES[0], data)
