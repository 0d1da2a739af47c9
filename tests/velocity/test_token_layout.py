"""Which tokens attend to which: all pairs up to two hidden layers, neighbouring layers in deeper networks."""

import torch

from wflib.architecture import mlp
from wflib.graph import neural_graph
from wflib.rng import generator
from wflib.velocity import NeuronTokens
from wflib.velocity.token_layout import AttentionView, TokenLayout


def randomized(architecture, layers: int) -> NeuronTokens:
    network = NeuronTokens(architecture, dimension=8, edge_dimension=4, layers=layers, heads=2).double()
    random = generator(0, "parameters")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    return network


def layout(widths: list[int]) -> TokenLayout:
    return TokenLayout(neural_graph(mlp(widths), ends=False))


def test_two_hidden_layers_attend_to_each_other_at_once():
    for widths in ([3, 2], [3, 4, 2], [3, 4, 5, 2]):
        (view,) = layout(widths).views
        assert view.keys == tuple(range(len(widths) - 1))
    assert [view.keys for view in layout([3, 4, 5, 6, 7, 2]).views] == [
        (0, 1, 2, 3, 4),
        (0, 1, 2),
        (0, 1, 2, 3),
        (0, 2, 3, 4),
        (0, 3, 4),
    ]


def test_views_of_single_groups_compute_what_one_view_of_all_computes():
    architecture = mlp([3, 4, 5, 2])
    network = randomized(architecture, 2)
    x = torch.randn(2, architecture.dimension, generator=generator(0, "x"), dtype=torch.float64)
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    together = network(x, t)
    first, second = slice(1, 5), slice(5, 10)  # Their keys: the global token, 4 and 5 neurons.
    network.layout.views = [
        AttentionView(slice(0, 1), (0, 1, 2), ()),
        AttentionView(slice(1, 2), (0, 1, 2), ((0, 1, slice(0, 4), second),)),
        AttentionView(slice(2, 3), (0, 1, 2), ((0, 0, slice(0, 5), first),)),
    ]
    torch.testing.assert_close(network(x, t), together, rtol=0, atol=1e-12)


def test_one_round_reaches_neighbouring_layers_only():
    architecture = mlp([3, 4, 4, 4, 4, 2], bias=False)
    network = randomized(architecture, 1)
    x = torch.randn(1, architecture.dimension, generator=generator(0, "x"), dtype=torch.float64).requires_grad_()
    field = architecture.unflatten(network(x, torch.full((1,), 0.4, dtype=torch.float64)))
    felt = architecture.unflatten(torch.autograd.grad(field["linear1.weight"].square().sum(), x)[0])
    reached = {name for name, gradient in felt.items() if gradient.any()}
    assert reached == {"linear1.weight", "linear2.weight"}
