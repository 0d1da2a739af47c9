"""Networks whose parts look alike and are not, or not in every way, with what is known of them: a table for laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.architecture.cases import Wired
from wflib.architecture import Weights

__all__ = ["LOOKALIKES", "Lookalike"]

Change = Callable[[Weights], Weights]


@dataclass(frozen=True)
class Lookalike:
    """A module, its input, the sizes of its groups, (parents, members) for nested ones, and its scalings.

    Attributes:
        wrong: What was taken for a symmetry once, or is close to one, and changes the function.
    """

    module: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    groups: tuple[int | tuple[int, int], ...]
    scalings: tuple[tuple[int, str], ...]
    wrong: Change


def exchanged(orders: Mapping[str, list[int]], axis: int = 0) -> Change:
    """Places of one axis of some tensors in other orders."""
    return lambda weights: weights | {name: weights[name][(slice(None),) * (axis + 1) + (o,)] for name, o in orders.items()}


def scaled(factors: Mapping[str, float]) -> Change:
    """Some tensors times numbers."""
    return lambda weights: weights | {name: weights[name] * factor for name, factor in factors.items()}


def both(*changes: Change) -> Change:
    """One change after another."""

    def change(weights: Weights) -> Weights:
        for one in changes:
            weights = one(weights)
        return weights

    return change


def wired(run: Callable[..., Tensor], **parts: Callable[[], nn.Module | nn.Parameter]) -> Callable[[], nn.Module]:
    return lambda: Wired(run, **{name: part() for name, part in parts.items()})


def linear(inputs: int, outputs: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(inputs, outputs)


def parameter(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(torch.zeros(shape))


# Nobody's entries: the network's inputs and constants among members of sets.


def chain(*parts: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(part() for part in parts))


def norm_of_pairs(m, x):
    """Groups of one channel and one of the inputs'."""
    return m.last(functional.relu(m.norm(torch.stack([m.first(x), x], 2).flatten(1, 2))).flatten(1))


def softmax_of_pairs(m, x):
    return m.last(torch.softmax(torch.stack([m.first(x), x], 2), 2)[:, :, 0])


def softmax_of_flipped_pairs(m, x):
    """Two neurons meet the same inputs, each in an order of its own."""
    meets = torch.cat([x, x.flip(2)], 1)
    return m.last(torch.softmax(torch.stack([m.first(x), meets], 3), 3)[..., 0].flatten(1))


def sums_with_inputs(m, x):
    """Logits that are summed over products of inputs with neurons, and of neurons with neurons."""
    queries, keys = torch.cat([x, m.queries(x)], 2), torch.cat([m.keys(x), m.others(x)], 2)
    return m.last((queries @ keys.mT).flatten(1))


# Parameters as factors: a neuron's scale goes into one that is there for the product alone.


def gate(run: Callable[..., Tensor], scalings: tuple[tuple[int, str], ...], groups: tuple[int, ...] = (5,)) -> Lookalike:
    """A layer, a parameter of its width, and two layers behind; the factor moves from the layer into the parameter."""
    module = wired(run, first=linear(3, 5), gate=parameter(5), last=linear(5, 2), other=linear(3, 5), end=linear(5, 2))
    wrong = scaled({"first.weight": 2.0, "first.bias": 2.0, "gate": 0.5})
    return Lookalike(module, (3,), groups, scalings, wrong)


def gated_residual(m, x):
    """A stream, and a branch by the tanh of one number."""
    x = m.stem(x)
    return m.last(functional.relu(x + torch.tanh(m.gate) * m.narrow(functional.relu(m.wide(x)))))


GATES: dict[str, Lookalike] = {
    "gate": replace(
        gate(lambda m, x: m.last(m.gate * functional.relu(m.first(x))), ((5, "positive"), (5, "any"))),
        wrong=scaled({"first.weight": 2.0, "first.bias": 2.0}),
    ),
    "gate-moved": replace(
        gate(
            lambda m, x: m.last(functional.relu(m.first(x)) * m.gate[None].expand(4, 5)[:1]), ((5, "positive"), (5, "any"))
        ),
        wrong=scaled({"first.weight": 2.0, "first.bias": 2.0}),
    ),
    "gate-by-tanh": gate(lambda m, x: m.last(torch.tanh(m.gate) * functional.relu(m.first(x))), ((5, "positive"),)),
    "gate-by-relu": gate(lambda m, x: m.last(torch.tanh(m.first(x)) * functional.relu(m.gate)), ((5, "sign"),)),
    "gate-twice": gate(
        lambda m, x: m.last(m.gate * functional.relu(m.first(x))) + m.end(m.gate * functional.relu(m.other(x))),
        ((5, "positive"), (5, "positive")),
    ),
    "gate-squared": gate(lambda m, x: m.last(m.gate * (m.gate * functional.relu(m.first(x)))), ((5, "positive"),)),
    "gate-of-itself": gate(lambda m, x: m.last(m.gate * m.gate * functional.relu(m.first(x))), ((5, "positive"),)),
    "gate-added": gate(lambda m, x: m.last(m.gate * functional.relu(m.first(x)) + m.gate), ()),
    "gate-read-before": gate(lambda m, x: m.end(m.gate) + m.last(m.gate * functional.relu(m.first(x))), ((5, "positive"),)),
    "gated-inputs-squared": Lookalike(
        wired(lambda m, x: m.last((m.gate * x) * (m.gate * x)), gate=parameter(3), last=linear(3, 2)),
        (3,),
        (1, 1, 1),
        (),
        scaled({"gate": 2.0, "last.weight": 0.5}),
    ),
    "gated-residual": Lookalike(
        wired(
            gated_residual, stem=linear(3, 4), wide=linear(4, 6), narrow=linear(6, 4), gate=parameter(1), last=linear(4, 2)
        ),
        (3,),
        (4, 1, 6),
        ((4, "positive"), (6, "positive")),
        scaled({"narrow.weight": 2.0, "narrow.bias": 2.0, "gate": 0.5}),
    ),
}


def each_beside_inputs(m, x):
    """Inputs and neurons, each convolved by itself."""
    return m.last(functional.relu(m.each(torch.cat([x, functional.relu(m.first(x))], 1))).mean(2))


def groups_in_other_orders(m, x):
    """Groups of a convolution whose members stand in one order, and in the other."""
    h = torch.stack([x[:, 0], x[:, 1], x[:, 1], x[:, 0]], 1) + m.places
    return m.last(functional.gelu(m.groups(functional.gelu(h))).flatten(1))


def groups_with_zeros(m, x):
    """Groups of one neuron and one zero, in one order and in the other."""
    h = functional.pad(functional.relu(m.first(x)), (0, 0, 0, 1))[:, [0, 2, 2, 1]]
    return m.last(functional.gelu(m.groups(h)).flatten(1))


MEMBERS: dict[str, Lookalike] = {
    "groups-of-inputs": Lookalike(
        chain(lambda: nn.Conv2d(4, 8, 3, groups=2), nn.ReLU, nn.Flatten, linear(32, 3)),
        (4, 4, 4),
        (4, 4),
        ((8, "positive"),),
        both(
            exchanged({"0.weight": [4, 5, 6, 7, 0, 1, 2, 3], "0.bias": [4, 5, 6, 7, 0, 1, 2, 3]}),
            exchanged({"3.weight": [*range(16, 32), *range(16)]}, 1),
        ),
    ),
    "multiplied-inputs": Lookalike(
        chain(
            lambda: nn.Conv2d(3, 6, 3, groups=3),
            nn.ReLU,
            lambda: nn.Conv2d(6, 5, 1),
            nn.ReLU,
            lambda: nn.AdaptiveAvgPool2d(1),
            nn.Flatten,
            linear(5, 3),
        ),
        (3, 5, 5),
        (2, 2, 2, 5),
        ((6, "positive"), (5, "positive")),
        both(
            exchanged({"0.weight": [2, 3, 4, 5, 0, 1], "0.bias": [2, 3, 4, 5, 0, 1]}),
            exchanged({"2.weight": [2, 3, 4, 5, 0, 1]}, 1),
        ),
    ),
    "groups-of-neurons": Lookalike(
        chain(lambda: nn.Conv2d(1, 4, 1), nn.ReLU, lambda: nn.Conv2d(4, 8, 3, groups=2), nn.ReLU, nn.Flatten, linear(32, 3)),
        (1, 4, 4),
        ((2, 2), (2, 4), 2),
        ((4, "positive"), (8, "positive")),
        both(
            exchanged({"2.weight": [4, 1, 2, 3, 0, 5, 6, 7], "2.bias": [4, 1, 2, 3, 0, 5, 6, 7]}),
            exchanged({"5.weight": [*range(16, 20), *range(4, 16), *range(4), *range(20, 32)]}, 1),
        ),
    ),
    "each-beside-inputs": Lookalike(
        wired(
            each_beside_inputs,
            first=lambda: nn.Conv1d(2, 3, 1),
            each=lambda: nn.Conv1d(5, 5, 3, groups=5),
            last=linear(5, 2),
        ),
        (2, 6),
        (3,),
        ((3, "positive"), (5, "positive")),
        both(
            exchanged({name: [1, 0, 2, 3, 4] for name in ("each.weight", "each.bias")}),
            exchanged({"last.weight": [1, 0, 2, 3, 4]}, 1),
        ),
    ),
    "groups-in-other-orders": Lookalike(
        wired(
            groups_in_other_orders,
            places=parameter(4, 1),
            groups=lambda: nn.Conv1d(4, 4, 1, groups=2),
            last=linear(12, 2),
        ),
        (2, 3),
        ((2, 1), (2, 1), (2, 2), 2),
        (),
        both(
            exchanged({"groups.weight": [2, 3, 0, 1], "groups.bias": [2, 3, 0, 1], "places": [3, 2, 1, 0]}),
            exchanged({"last.weight": [*range(6, 12), *range(6)]}, 1),
        ),
    ),
    "groups-with-zeros": Lookalike(
        wired(
            groups_with_zeros,
            first=lambda: nn.Conv1d(2, 2, 1),
            groups=lambda: nn.Conv1d(4, 4, 1, groups=2),
            last=linear(12, 2),
        ),
        (2, 3),
        ((2, 1), (2, 2), 2),
        ((2, "positive"),),
        both(
            exchanged({"first.weight": [1, 0], "first.bias": [1, 0]}),
            exchanged({"groups.weight": [2, 3, 0, 1], "groups.bias": [2, 3, 0, 1]}),
            exchanged({"last.weight": [*range(6, 12), *range(6)]}, 1),
        ),
    ),
    "norm-of-pairs": Lookalike(
        wired(
            norm_of_pairs, first=lambda: nn.Conv1d(2, 2, 1), norm=lambda: nn.GroupNorm(2, 4), last=lambda: nn.Linear(20, 2)
        ),
        (2, 5),
        (1, 1),
        ((4, "positive"),),
        both(
            exchanged(
                {"first.weight": [1, 0], "first.bias": [1, 0], "norm.weight": [2, 1, 0, 3], "norm.bias": [2, 1, 0, 3]}
            ),
            exchanged({"last.weight": [*range(10, 15), *range(5, 10), *range(5), *range(15, 20)]}, 1),
        ),
    ),
    "softmax-of-pairs": Lookalike(
        wired(softmax_of_pairs, first=linear(3, 3), last=linear(3, 2)),
        (3,),
        (1, 1, 1),
        (),
        both(exchanged({"first.weight": [1, 0, 2], "first.bias": [1, 0, 2]}), exchanged({"last.weight": [1, 0, 2]}, 1)),
    ),
    "softmax-of-flipped-pairs": Lookalike(
        wired(softmax_of_flipped_pairs, first=lambda: nn.Conv1d(1, 2, 1), last=linear(6, 2)),
        (1, 3),
        (1, 1),
        (),
        both(
            exchanged({"first.weight": [1, 0], "first.bias": [1, 0]}),
            exchanged({"last.weight": [3, 4, 5, 0, 1, 2]}, 1),
        ),
    ),
    "sums-with-inputs": Lookalike(
        wired(sums_with_inputs, queries=linear(2, 3), keys=linear(2, 2), others=linear(2, 3), last=linear(9, 2)),
        (3, 2),
        (1, 1, 1, 3),
        (),
        exchanged({"keys.weight": [1, 0], "keys.bias": [1, 0]}),
    ),
}

# Sums in which some entries are zero, which any factor leaves as they are, and others may not be rescaled.


def sum_beside(m, x):
    """A mean of a function that no scale passes and a zero, beside a layer whose scales would."""
    h = functional.pad(m.function(m.first(x.unsqueeze(1))), (0, 1))
    return m.last((h.sum(2) if m.sums else h.mean(2)) + functional.relu(m.other(x)))


def null_token(m, x):
    """Attention over inputs and a token of zeros, beside a layer."""
    tokens = functional.pad(x, (0, 0, 1, 0))
    mixed = torch.softmax(tokens @ tokens.mT, -1) @ tokens
    return m.last(mixed.mean(1) + functional.relu(m.other(x[:, 0])))


def sum_with_zero(function: Callable[[Tensor], Tensor], scalings: tuple[tuple[int, str], ...], sums: bool) -> Lookalike:
    parts = {"first": lambda: nn.Conv1d(1, 4, 3), "other": linear(8, 4), "last": linear(4, 2)}

    def module() -> nn.Module:
        found = wired(sum_beside, **parts)()
        found.function, found.sums = function, sums
        return found

    wrong = scaled({"other.weight": 2.0, "other.bias": 2.0, "last.weight": 0.5})
    return Lookalike(module, (8,), (4,), scalings, wrong)


ZEROS: dict[str, Lookalike] = {
    "mean-with-zero": sum_with_zero(functional.gelu, (), False),
    "sum-with-zero": sum_with_zero(functional.gelu, (), True),
    "scaled-mean-with-zero": sum_with_zero(functional.relu, ((4, "positive"),), False),
    "null-token": Lookalike(
        wired(null_token, other=linear(2, 2), last=linear(2, 2)),
        (3, 2),
        (1, 1),
        (),
        scaled({"other.weight": 2.0, "other.bias": 2.0, "last.weight": 0.5}),
    ),
}

# Entries of two neurons, and neurons of several entries that one operation made: labels say which the other was.


def outer_residual(m, x):
    h = torch.tanh(m.first(x))
    y = (h.unsqueeze(2) @ h.unsqueeze(1)).flatten(1)
    return m.last(y + functional.gelu(m.inner(y)))


def channels_as_rows(m, x):
    """A layer that reads positions, of every channel alike, and what it writes meets each channel's positions."""
    h = m.first(x)
    return m.last((h.flatten(1).unsqueeze(1) * torch.tanh(m.inner(h))).mean(1))


def gates_of_pairs(m, x):
    """Every neuron by every entry of a parameter, then by a layer of as many."""
    return m.last((m.first(x).unsqueeze(2) * m.factors).flatten(1) * torch.tanh(m.inner(x)))


def halves_again(m, x):
    """Halves of a layer that are one neuron each by a product meet a layer that tells them apart."""
    h = m.both(x)
    one, two = h.chunk(2, 1)
    return m.last(functional.silu(one) * two) + m.end(h * torch.tanh(m.inner(x)))


def crossed_tokens(m, x):
    """Two tokens of four neurons, whose columns are read alike."""
    return m.last(m.inner(m.first(x)[:, [0, 3, 2, 1]].view(-1, 2, 2)).flatten(1))


def straight_tokens(m, x):
    """Three tokens of twelve neurons, whose columns are read alike."""
    return m.last(torch.relu(m.inner(m.first(x).view(-1, 3, 4))).flatten(1))


def shuffled_positions(m, x):
    """A parameter for every position of every channel, the second channel's in another order."""
    h = functional.relu(m.first(x)).flatten(1)[:, [0, 1, 3, 2]]
    return m.last(torch.tanh(h + m.places))


def places_again(m, x):
    """A parameter for every place of every neuron meets another layer of as many entries, too."""
    h = functional.relu(m.first(x)) + m.places
    return m.last(h.mean(1)) + m.end(m.places.flatten() * torch.tanh(m.inner(x[:, 0])))


def channel_rows(channels: int) -> Lookalike:
    inner = 2 * channels
    return Lookalike(
        wired(
            channels_as_rows,
            first=lambda: nn.Conv1d(3, channels, 3, padding=1),
            inner=linear(2, inner),
            last=linear(inner, 2),
        ),
        (3, 2),
        (1,) * (inner + 1),
        ((1, "any"),),
        both(
            exchanged({"inner.weight": [2, 1, 0, *range(3, inner)], "inner.bias": [2, 1, 0, *range(3, inner)]}),
            exchanged({"last.weight": [2, 1, 0, *range(3, inner)]}, 1),
        ),
    )


MEETINGS: dict[str, Lookalike] = {
    "outer-residual": Lookalike(
        wired(outer_residual, first=linear(3, 3), inner=linear(9, 9), last=linear(9, 2)),
        (3,),
        (1,) * 9,
        (),
        both(
            exchanged({"inner.weight": [1, 0, *range(2, 9)], "inner.bias": [1, 0, *range(2, 9)]}),
            exchanged({"last.weight": [1, 0, *range(2, 9)]}, 1),
        ),
    ),
    "two-channels-as-rows": channel_rows(2),
    "three-channels-as-rows": channel_rows(3),
    "gates-of-pairs": Lookalike(
        wired(gates_of_pairs, first=linear(3, 3), factors=parameter(1, 2), inner=linear(3, 6), last=linear(6, 2)),
        (3,),
        (1,) * 6,
        ((1, "any"), (6, "sign")),
        both(
            exchanged({"inner.weight": [1, 0, 2, 3, 4, 5], "inner.bias": [1, 0, 2, 3, 4, 5]}),
            exchanged({"last.weight": [1, 0, 2, 3, 4, 5]}, 1),
        ),
    ),
    "halves-again": Lookalike(
        wired(halves_again, both=linear(3, 6), inner=linear(3, 6), last=linear(3, 2), end=linear(6, 2)),
        (3,),
        (3, (3, 1), (3, 1)),
        ((3, "any"), (3, "sign")),
        both(
            exchanged({"inner.weight": [3, 4, 5, 0, 1, 2], "inner.bias": [3, 4, 5, 0, 1, 2]}),
            exchanged({"end.weight": [3, 4, 5, 0, 1, 2]}, 1),
        ),
    ),
    "crossed-tokens": Lookalike(
        wired(crossed_tokens, first=linear(3, 4), inner=linear(2, 3), last=linear(6, 2)),
        (3,),
        (1, 1, 3),
        ((2, "any"), (3, "any")),
        both(exchanged({"first.weight": [1, 0, 3, 2], "first.bias": [1, 0, 3, 2]}), exchanged({"inner.weight": [1, 0]}, 1)),
    ),
    "straight-tokens": Lookalike(
        wired(straight_tokens, first=linear(3, 12), inner=linear(4, 3), last=linear(9, 2)),
        (3,),
        (4, 3),
        ((4, "any"), (3, "positive")),
        both(
            exchanged({"first.weight": [1, 0, *range(2, 12)], "first.bias": [1, 0, *range(2, 12)]}),
            exchanged({"inner.weight": [1, 0, 2, 3]}, 1),
        ),
    ),
    "shuffled-positions": Lookalike(
        wired(shuffled_positions, first=lambda: nn.Conv1d(2, 2, 1), places=parameter(4), last=linear(4, 2)),
        (2, 2),
        (2,),
        (),
        both(
            exchanged({"first.weight": [1, 0], "first.bias": [1, 0], "places": [2, 3, 0, 1]}),
            exchanged({"last.weight": [2, 3, 0, 1]}, 1),
        ),
    ),
    "places-again": Lookalike(
        wired(
            places_again, first=linear(2, 3), places=parameter(2, 3), last=linear(3, 2), inner=linear(2, 6), end=linear(6, 2)
        ),
        (2, 2),
        (3, (3, 1), (3, 1)),
        ((3, "positive"),),
        both(
            exchanged({"inner.weight": [3, 4, 5, 0, 1, 2], "inner.bias": [3, 4, 5, 0, 1, 2]}),
            exchanged({"end.weight": [3, 4, 5, 0, 1, 2]}, 1),
        ),
    ),
}

# Nobody's entries that depend on neurons, or on parameters of their place.


def softmax_with_zero(m, x):
    """Probabilities of every neuron against zero, both of which are read."""
    return m.last(torch.softmax(functional.pad(m.first(x).unsqueeze(2), (0, 1)), 2).flatten(1))


def unit_with_one(m, x):
    """Every neuron and a one, as points of circles."""
    return m.last(functional.normalize(functional.pad(m.first(x).unsqueeze(2), (0, 1), value=1.0), dim=2).flatten(1))


def norm_with_zeros(m, x):
    """Groups of one channel and one of zeros, at either side of it."""
    h = functional.pad(m.first(x).unsqueeze(2), (0, 0, 0, 1))
    return m.last(functional.gelu(m.norm(h.flatten(1, 2))).flatten(1))


def norm_of_the_same(m, x):
    """Inputs twice under a norm, with a token before them."""
    h = m.norm(torch.cat([x, x], 2))
    return m.last(torch.cat([m.token.expand(x.shape[0], -1, -1), h], 1).mean(1))


def batch_norm_of_the_same(m, x):
    h = m.norm(torch.cat([x, x], 1))
    return m.last(torch.cat([m.token.expand(x.shape[0], -1, -1), h.mT], 1).mean(1))


def null_key(m, x):
    """Attention among tokens the first of which is zero, as it is under a nonlinearity."""
    tokens = functional.pad(x, (0, 0, 1, 0))
    values = functional.pad(functional.gelu(m.values(x)), (0, 0, 1, 0))
    return m.last((torch.softmax(m.queries(tokens) @ m.keys(tokens).mT, -1) @ values).flatten(1))


def token_case(run: Callable[..., Tensor], norm: Callable[[], nn.Module]) -> Lookalike:
    return Lookalike(
        wired(run, norm=norm, token=parameter(1, 1, 4), last=linear(4, 2)),
        (3, 2) if run is norm_of_the_same else (2, 3),
        (1, 1, 1, 1),
        ((4, "any"),),
        both(exchanged({"token": [2, 3, 0, 1]}, 2), exchanged({"last.weight": [2, 3, 0, 1]}, 1)),
    )


def read_apart(run: Callable[..., Tensor], scalings: tuple[tuple[int, str], ...]) -> Lookalike:
    """Columns of what belongs to nobody stay, where those of neurons move."""
    return Lookalike(
        wired(run, first=linear(3, 3), last=linear(6, 2)),
        (3,),
        (3,),
        scalings,
        both(
            exchanged({"first.weight": [1, 0, 2], "first.bias": [1, 0, 2]}),
            exchanged({"last.weight": [2, 1, 0, 3, 4, 5]}, 1),
        ),
    )


DEPENDENT: dict[str, Lookalike] = {
    "softmax-with-zero": read_apart(softmax_with_zero, ()),
    "unit-with-one": read_apart(unit_with_one, ()),
    "norm-with-zeros": Lookalike(
        wired(
            norm_with_zeros, first=lambda: nn.Conv1d(2, 3, 1), norm=lambda: nn.GroupNorm(3, 6), last=lambda: nn.Linear(24, 2)
        ),
        (2, 4),
        (3,),
        (),
        both(
            exchanged({"first.weight": [1, 0, 2], "first.bias": [1, 0, 2]}),
            exchanged({"norm.weight": [2, 1, 0, 3, 4, 5], "norm.bias": [2, 1, 0, 3, 4, 5]}),
            exchanged({"last.weight": [*range(8, 12), *range(4, 8), *range(4), *range(12, 24)]}, 1),
        ),
    ),
    "norm-of-the-same": token_case(norm_of_the_same, lambda: nn.LayerNorm(4)),
    "batch-norm-of-the-same": token_case(batch_norm_of_the_same, lambda: nn.BatchNorm1d(4)),
    "null-key": Lookalike(
        wired(null_key, queries=linear(2, 3), keys=linear(2, 3), values=linear(2, 4), last=linear(16, 2)),
        (3, 2),
        (3, 4),
        (),
        both(exchanged({"queries.weight": [1, 0, 2], "queries.bias": [1, 0, 2]})),
    ),
}

LOOKALIKES = MEMBERS | GATES | ZEROS | MEETINGS | DEPENDENT
