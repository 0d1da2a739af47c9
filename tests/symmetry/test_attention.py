"""Gauges of attention: functions, canonical representatives, their inverse, and both canonical forms together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.architecture.cases import Wired, change, random_weights, traced
from wflib.architecture import Architecture, Weights, cnn, vit
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import (
    AttentionRecord,
    apply_gauge,
    canonical_attention,
    canonicalize,
    decanonicalize,
    head_products,
    permute,
    random_gauge,
    random_permutations,
    random_scales,
    restore_attention,
    scale,
)

TOLERANCE = 1e-10


class Unbiased(Wired):
    """Attention by four maps, values with a bias and outputs without one."""

    def __init__(self) -> None:
        sides = {
            "q": nn.Linear(5, 6, bias=False),
            "k": nn.Linear(5, 6),
            "v": nn.Linear(5, 4),
            "o": nn.Linear(4, 5, bias=False),
        }
        super().__init__(separate, embed=nn.Linear(3, 5), head=nn.Linear(5, 2), **sides)


def separate(m, x):
    x = m.embed(x)
    q, k, v = (side(x).unflatten(-1, (2, -1)).transpose(1, 2) for side in (m.q, m.k, m.v))
    y = functional.scaled_dot_product_attention(q, k, v)
    return m.head((x + m.o(y.transpose(1, 2).flatten(2))).mean(1))


def module(part: nn.Module, *inputs: int) -> Architecture:
    return Architecture.from_module(part.double().eval(), torch.zeros(1, *inputs, dtype=torch.float64))


CASES: dict[str, Callable[[], Architecture]] = {
    "vit": partial(vit, (1, 8, 8), 8, [12], 5),
    "four heads": partial(vit, (1, 8, 8), 8, [12, 6], 5, heads=4),
    "one head": partial(vit, (1, 4, 4), 4, [6], 3, heads=1),
    "transformer": lambda: traced("transformer")[1],
    "relative-positions": lambda: traced("relative-positions")[1],
    "no output bias": lambda: module(Unbiased(), 4, 3),
}
over_cases = pytest.mark.parametrize("name", CASES)


def case(name: str) -> tuple[Architecture, Weights]:
    architecture = CASES[name]()
    return architecture, random_weights(architecture)


def moved(architecture: Architecture, weights: Weights, name: str = "gauge") -> Weights:
    """Networks elsewhere on their gauge orbits."""
    gauges = random_gauge(architecture, len(next(iter(weights.values()))), generator(0, name), torch.float64)
    return apply_gauge(Networks(architecture, weights), gauges).weights


def difference(a: Weights, b: Weights) -> float:
    """Largest difference of an entry, relative to the tensor's largest."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp_min(1)) for name in a)


def test_heads_are_found():
    found = head_products(vit((1, 8, 8), 8, [12], 5, heads=4))
    assert [product.kind for product in found] == ["logits", "values"]
    assert found[0].left.places.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert found[0].right.places.tolist() == [[8, 9], [10, 11], [12, 13], [14, 15]]
    assert (found[1].left.places - 16).tolist() == found[1].right.places.tolist() == found[0].left.places.tolist()
    assert (found[1].right.weight, found[1].right.axis) == ("block1.attention.out_proj.weight", 1)
    assert len(head_products(vit((1, 8, 8), 8, [12, 6], 5))) == 4
    table = head_products(CASES["relative-positions"]())
    assert [p.left.places.tolist() for p in table] == [[[0, 1, 2], [3, 4, 5]], [[12, 13, 14], [15, 16, 17]]]
    assert head_products(cnn((1, 8, 8), [4], 2)) == ()


@over_cases
def test_gauges_preserve_functions(name):
    architecture, weights = case(name)
    gauges = random_gauge(architecture, 3, generator(0, "gauge"), torch.float64)
    for product in head_products(architecture):
        one = apply_gauge(Networks(architecture, weights), {product.name: gauges[product.name]}).weights
        assert change(architecture, weights, one) < TOLERANCE
        assert difference(weights, one) > 0.1
        # The factors' other sides do not follow: another function.
        half = weights | {product.left.weight: one[product.left.weight]}
        if product.left.weight == product.right.weight:
            rows = product.right.places.flatten()
            half[product.left.weight] = one[product.left.weight].index_copy(1, rows, weights[product.left.weight][:, rows])
        assert change(architecture, weights, half) > 1e-3
    back = {key: gauge.inverse() for key, gauge in gauges.items()}
    assert difference(apply_gauge(Networks(architecture, moved(architecture, weights)), back).weights, weights) < TOLERANCE


@over_cases
def test_canonical_attention_is_a_representative_of_the_same_function(name):
    architecture, weights = case(name)
    result = canonical_attention(Networks(architecture, weights))
    assert result.deficient_heads == 0
    assert change(architecture, weights, result.networks.weights) < TOLERANCE
    assert difference(weights, result.networks.weights) > 0.1
    again = canonical_attention(result.networks)
    assert difference(again.networks.weights, result.networks.weights) < TOLERANCE
    other = canonical_attention(Networks(architecture, moved(architecture, weights)))
    assert difference(other.networks.weights, result.networks.weights) < 1e-8
    others = {key: tensor[3:] for key, tensor in random_weights(architecture, 6).items()}
    assert difference(canonical_attention(Networks(architecture, others)).networks.weights, result.networks.weights) > 0.1
    restored = restore_attention(result.networks, result.record).weights
    assert difference(restored, weights) < TOLERANCE
    swapped = {key: AttentionRecord(past.right, past.left, past.bias) for key, past in result.record.items()}
    assert difference(restore_attention(result.networks, swapped).weights, weights) > 1e-3


@over_cases
def test_factors_are_split_as_said(name):
    architecture, weights = case(name)
    found = canonical_attention(Networks(architecture, weights)).networks.weights
    for product in head_products(architecture):
        left = found[product.left.weight][:, product.left.places]
        if product.left.bias is not None:
            left = torch.cat([left, found[product.left.bias][:, product.left.places].unsqueeze(-1)], -1)
        right = found[product.right.weight]
        right = (right.mT if product.right.axis else right)[:, product.right.places]
        squares = [side @ side.mT for side in (left, right)]
        values = squares[0].diagonal(dim1=-2, dim2=-1)
        for square in squares:
            torch.testing.assert_close(square, torch.diag_embed(values), rtol=1e-9, atol=1e-9)
        assert (values.diff(dim=-1) < 0).all()
        largest = left.gather(-1, left.abs().argmax(-1, keepdim=True))
        assert (largest > 0).all()
        if product.kind == "logits" and product.right.bias is not None:
            assert not found[product.right.bias][:, product.right.places].any()
        if product.output_bias is not None and product.left.bias is not None:
            assert not found[product.left.bias][:, product.left.places].any()
    raw = weights[head_products(architecture)[0].left.weight][:, head_products(architecture)[0].left.places]
    assert (raw @ raw.mT).tril(-1).abs().max() > 0.1  # rows of other networks are not orthogonal


@over_cases
def test_biases_that_nothing_feels_are_no_difference(name):
    architecture, weights = case(name)
    expected = canonical_attention(Networks(architecture, weights)).networks.weights
    for product in head_products(architecture):
        side = product.right if product.kind == "logits" else product.left
        if side.bias is None:
            continue
        noise = torch.randn(3, side.places.numel(), generator=generator(0, "bias"), dtype=torch.float64)
        other = weights | {side.bias: weights[side.bias].index_add(1, side.places.flatten(), noise)}
        if product.kind == "logits":
            assert change(architecture, weights, other) < TOLERANCE
            assert difference(canonical_attention(Networks(architecture, other)).networks.weights, expected) < 1e-8
        else:  # a value bias is felt, unless the output bias makes up for it
            assert change(architecture, weights, other) > 1e-3
            assert difference(canonical_attention(Networks(architecture, other)).networks.weights, expected) > 1e-3


@over_cases
def test_heads_are_permuted_and_their_neurons_are_not(name):
    architecture, weights = case(name)
    order = random_permutations(architecture, 3, generator(0, "order"))
    nested = {group.name for group in architecture.hidden_groups if group.parent is not None}
    if name == "one head":
        nested = {g.name for g in architecture.hidden_groups if g.name.endswith((".queries", ".values"))}
    assert nested
    outside = {group: indices for group, indices in order.items() if group not in nested}
    ours = canonical_attention(Networks(architecture, weights)).networks.weights
    found = canonical_attention(permute(Networks(architecture, weights), order)).networks.weights
    expected = permute(Networks(architecture, ours), outside).weights
    assert difference(found, expected) < 1e-8
    if outside.keys() & {group.parent for group in architecture.hidden_groups}:
        assert difference(expected, ours) > 1e-3
    inside = permute(Networks(architecture, weights), {group: order[group] for group in nested}).weights
    assert difference(inside, weights) > 1e-3
    assert difference(canonical_attention(Networks(architecture, inside)).networks.weights, ours) < 1e-8


def together(architecture: Architecture, weights: Weights, norm: str, signs: bool = False):
    """Both canonical forms, as the module says."""
    first = canonical_attention(Networks(architecture, weights))
    scaled = canonicalize(first.networks, norm, signs)
    return first, scaled, canonical_attention(scaled.networks)


@over_cases
@pytest.mark.parametrize("norm", ["weights-and-bias", "weights"])
@pytest.mark.parametrize("signs", [False, True])
def test_scalings_and_gauges_together(name, norm, signs):
    architecture, weights = case(name)
    first, scaled, last = together(architecture, weights, norm, signs)
    form = scaled.networks.architecture
    assert change_of(form, last.networks.weights, architecture, weights) < TOLERANCE
    assert difference(canonicalize(last.networks, norm, signs).networks.weights, last.networks.weights) < TOLERANCE
    assert difference(canonical_attention(last.networks).networks.weights, last.networks.weights) < TOLERANCE
    factors = random_scales(architecture, 3, generator(0, "scales"), torch.float64)
    if not signs:
        factors = {key: factor.abs() for key, factor in factors.items()}
    other = moved(architecture, scale(Networks(architecture, moved(architecture, weights)), factors).weights, "again")
    assert difference(together(architecture, other, norm, signs)[2].networks.weights, last.networks.weights) < 1e-7
    # Without the last step, or with scalings alone, there is none for all.
    assert (
        difference(canonicalize(Networks(architecture, other), norm, signs).networks.weights, scaled.networks.weights) > 1e-3
    )
    middle = restore_attention(last.networks, last.record)
    assert difference(middle.weights, scaled.networks.weights) < TOLERANCE
    back = decanonicalize(middle, scaled.record)
    assert back.architecture == architecture
    assert difference(restore_attention(back, first.record).weights, weights) < TOLERANCE


def change_of(form: Architecture, weights: Weights, architecture: Architecture, before: Weights) -> float:
    """Largest change of an output of another form, relative to the largest."""
    inputs = torch.randn(4, *architecture.inputs, generator=generator(0, "inputs"), dtype=torch.float64)
    one, other = form.forward(weights, inputs), architecture.forward(before, inputs)
    return float((one - other).abs().max() / other.abs().max())


def test_heads_without_rank_keep_their_gauge():
    architecture, weights = case("vit")
    product = head_products(architecture)[0]
    weights[product.right.weight][0, product.right.places[1, 0]] = 0
    result = canonical_attention(Networks(architecture, weights))
    assert result.deficient_heads == 1
    assert change(architecture, weights, result.networks.weights) < TOLERANCE
    rows = product.left.places[1]
    assert torch.equal(result.networks.weights[product.left.weight][0, rows], weights[product.left.weight][0, rows])
    assert not torch.equal(result.networks.weights[product.left.weight][1, rows], weights[product.left.weight][1, rows])
    assert difference(restore_attention(result.networks, result.record).weights, weights) < TOLERANCE


def test_single_precision():
    architecture, weights = case("transformer")
    single = {name: tensor.float() for name, tensor in weights.items()}
    result = canonical_attention(Networks(architecture, single))
    assert (
        difference(
            {k: t.double() for k, t in result.networks.weights.items()},
            canonical_attention(Networks(architecture, weights)).networks.weights,
        )
        < 1e-3
    )
    assert difference(restore_attention(result.networks, result.record).weights, single) < 1e-4


def normed_queries(m, x):
    x = m.embed(x)
    y = (functional.relu(m.q(x)) @ m.k(x).mT).softmax(-1) @ m.v(x)
    return m.head(m.o(y).mean(1))


def no_softmax(m, x):
    x = m.embed(x)
    return m.head(m.o(m.q(x) @ m.k(x).mT @ m.v(x)).mean(1))


def read_twice(m, x):
    x = m.embed(x)
    q = m.q(x)
    y = (q @ m.k(x).mT).softmax(-1) @ m.v(x)
    return m.head((m.o(y) + m.o(q)).mean(1))


def two_products(m, x):
    x = m.embed(x)
    q, v = m.q(x), m.v(x)
    return m.head(m.o((q @ m.k(x).mT + q @ v.mT).softmax(-1) @ v).mean(1))


def wrong_axis(m, x):
    x = m.embed(x)
    return m.head(m.o((m.q(x) @ m.k(x).mT).softmax(-2) @ m.v(x)).mean(1))


def shared_rows(m, x):
    x = m.embed(x)
    return m.head(m.o((m.q(x) @ m.q(x).mT).softmax(-1) @ m.v(x)).mean(1))


def scaled_values(m, x):
    x = m.embed(x)
    return m.head(m.o((m.q(x) @ m.k(x).mT).softmax(-1) @ (0.5 * m.v(x))).mean(1))


def scaled_mixture(m, x):
    x = m.embed(x)
    return m.head(m.o(0.5 * ((m.q(x) @ m.k(x).mT).softmax(-1) @ m.v(x))).mean(1))


def logits_elsewhere(m, x):
    x = m.embed(x)
    logits = 2 * (m.q(x) @ m.k(x).mT)
    return m.head((m.o(logits.softmax(-1) @ m.v(x)) + torch.tanh(logits).mean(-1, keepdim=True)).mean(1))


def both_axes(m, x):
    x = m.embed(x)
    logits, v = m.q(x) @ m.k(x).mT, m.v(x)
    return m.head((m.o(logits.softmax(-1) @ v) + logits.softmax(-2).mean(-1, keepdim=True)).mean(1))


def crooked(m, x):
    x = m.embed(x)
    q, k = (side(x).reshape(-1, 4, 5).mT for side in (m.q, m.k))
    return m.head(m.o((q @ k.mT).softmax(-1) @ m.v(x)).mean(1))


def shared_keys(m, x):
    x = m.embed(x)
    q, k = (side(x).unflatten(-1, (2, 2)).transpose(1, 2) for side in (m.q, m.k))
    y = (q @ k[:, :1].expand(-1, 2, -1, -1).mT).softmax(-1) @ m.v(x).unflatten(-1, (2, 2)).transpose(1, 2)
    return m.head(m.o(y.transpose(1, 2).flatten(2)).mean(1))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (normed_queries, r"\(elementwise\) stands between a linear map and a product of attention"),
        (no_softmax, r"\(matrix product\) is no part of softmax attention"),
        (read_twice, r"\(linear\) reads `q` besides attention|shares"),
        (two_products, r"\(matrix product\) is no part of softmax attention"),
        (wrong_axis, r"\(matrix product\) is no part of softmax attention"),
        (shared_rows, "shares parts of"),
        (scaled_values, r"\(multiple\) stands between a linear map and a product of attention"),
        (scaled_mixture, r"\(matrix product\) is read by something else than one linear map"),
        (logits_elsewhere, r"\(elementwise\) reads the logits `\S+` besides a softmax over keys"),
        (both_axes, r"\(along axis\) reads the logits `\S+` besides a softmax over keys"),
        (crooked, r"\(matrix product\) sums over other neurons at other tokens"),
        (shared_keys, r"\(matrix product\) has heads that share queries, keys or values|\(slice\)"),
    ],
)
def test_other_attention_is_refused(run, message):
    sides = {name: nn.Linear(4, 4) for name in "qkvo"}
    architecture = module(Wired(run, embed=nn.Linear(3, 4), head=nn.Linear(4, 2), **sides), 5, 3)
    with pytest.raises(ValueError, match=rf"attention: .*{message}"):
        canonical_attention(Networks(architecture, random_weights(architecture)))


def test_bad_input_is_refused():
    architecture, weights = case("vit")
    with pytest.raises(ValueError, match="apply_gauge: 'conv' is no product"):
        apply_gauge(Networks(architecture, weights), {"conv": torch.eye(4)})
    name = head_products(architecture)[0].name
    with pytest.raises(ValueError, match=r"expected \(3, 2, 4, 4\), got \(4, 4\)"):
        apply_gauge(Networks(architecture, weights), {name: torch.eye(4)})
    with pytest.raises(ValueError, match="NaN"):
        canonical_attention(Networks(architecture, weights | {"positions": weights["positions"] * torch.nan}))
    wide = vit((1, 8, 8), 8, [12], 5).with_widths({"block1.attention.queries": 10})
    with pytest.raises(ValueError, match=r"heads of 10 neurons .*connects with 9 others"):
        canonical_attention(Networks(wide, random_weights(wide)))
