"""Architectures: flat vectors, text, torch modules and the function that weights compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.cases import ARCHITECTURES, LINEAR, TOLERANCE, copy_of, random_inputs, random_weights
from wflib.activation import ACTIVATIONS
from wflib.architecture import NORMS, Architecture, mlp
from wflib.architecture.operations import Elementwise, Linear
from wflib.rng import generator

ALL = ARCHITECTURES | LINEAR
over_all = pytest.mark.parametrize("architecture", ALL.values(), ids=ALL)


@over_all
def test_forward_is_what_torch_computes(architecture):
    weights, inputs = random_weights(architecture), random_inputs(architecture)
    outputs = architecture.forward(weights, inputs)
    for index in range(3):
        module = architecture.module().double()
        assert set(module.state_dict()) == set(weights)
        module.load_state_dict({name: tensor[index] for name, tensor in weights.items()})
        torch.testing.assert_close(module(inputs), outputs[index], rtol=TOLERANCE, atol=TOLERANCE)
        module[-1].weight.data.neg_()
        assert not torch.allclose(module(inputs), outputs[index], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_scalings_that_an_activation_declares_commute_with_it(activation):
    declared, x = ACTIVATIONS[activation], torch.linspace(-3, 3, 41, dtype=torch.float64)
    f = declared.function
    torch.testing.assert_close(declared.module()(x), f(x), rtol=0, atol=0)
    positive = torch.allclose(f(2.5 * x), 2.5 * f(x), rtol=TOLERANCE, atol=TOLERANCE)
    odd = torch.allclose(f(-x), -f(x), rtol=TOLERANCE, atol=TOLERANCE)
    assert declared.scaling == {(True, True): "any", (True, False): "positive", (False, True): "sign"}.get(
        (positive, odd), "none"
    )


@over_all
def test_inputs_may_differ_between_networks(architecture):
    weights, shared = random_weights(architecture), random_inputs(architecture)
    own = torch.stack([shared, shared.flip(0), shared + 1])
    outputs = architecture.forward(weights, own)
    for index in range(3):
        alone = architecture.forward({name: tensor[index : index + 1] for name, tensor in weights.items()}, own[index])
        torch.testing.assert_close(outputs[index], alone[0], rtol=TOLERANCE, atol=TOLERANCE)
    assert not torch.allclose(outputs, architecture.forward(weights, shared))


@over_all
@pytest.mark.parametrize("batch", [(3,), (2, 4), (), (0,)])
def test_flatten_inverts_unflatten(architecture, batch):
    flat = torch.randn(*batch, architecture.dimension, generator=generator(0, "flat"), dtype=torch.float64)
    weights = architecture.unflatten(flat)
    for name, tensor in weights.items():
        assert tuple(tensor.shape) == (*batch, *architecture.shape(name))
    assert torch.equal(architecture.flatten(weights), flat)
    reordered = dict(reversed(weights.items()))
    assert torch.equal(architecture.flatten(reordered), flat)


@over_all
def test_slices_cover_the_flat_vector_in_order(architecture):
    weights = random_weights(architecture)
    flat, end = architecture.flatten(weights), 0
    for name, where in architecture.slices.items():
        assert where.start == end
        assert torch.equal(flat[:, where], weights[name].flatten(1))
        end = where.stop
    assert end == architecture.dimension


@over_all
def test_json_round_trip(architecture):
    forms = [architecture, *(architecture.canonical_form(norm) for norm in NORMS)]
    for one in forms:
        assert Architecture.from_json(one.to_json()) == one
        assert "\n" not in one.to_json()
    assert len(set(forms)) == 1 + len(NORMS)


@over_all
def test_canonical_forms_and_back(architecture):
    with pytest.raises(ValueError, match="norm must be one of weights-and-bias, weights or None, got 'bias'"):
        architecture.canonical_form("bias")
    for norm in NORMS:
        canonical = architecture.canonical_form(norm)
        assert canonical.norm == norm
        assert canonical.ordinary_form() == architecture
        assert canonical.canonical_form(norm) == canonical
        assert canonical.dimension == architecture.dimension + (architecture.task_type == "classification")


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_log_scale_multiplies_outputs(depth):
    architecture = mlp([3, *[4] * depth, 2])
    weights, inputs = random_weights(architecture), random_inputs(architecture)
    scaled = architecture.canonical_form()
    log_scale = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    outputs = scaled.forward({**weights, "log_scale": log_scale}, inputs)
    expected = architecture.forward(weights, inputs) * log_scale.exp().view(3, 1, 1)
    torch.testing.assert_close(outputs, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert not torch.allclose(outputs[1], architecture.forward(weights, inputs)[1])
    with pytest.raises(ValueError, match="decanonicalize"):
        scaled.module()


def test_with_widths_changes_hidden_groups_only():
    wide = mlp([3, 5, 4, 2]).with_widths({"hidden2": 9})
    assert wide == mlp([3, 5, 9, 2])
    assert wide != mlp([3, 5, 4, 2])
    for name in ("input", "hidden3"):
        with pytest.raises(ValueError, match=rf"hidden1.*hidden2.*{name}"):
            wide.with_widths({name: 4})


def test_an_mlp_is_described_as_expected():
    architecture = mlp([3, 5, 2])
    assert [group.permutable for group in architecture.groups] == [False, True, False]
    assert [group.name for group in architecture.hidden_groups] == ["hidden1"]
    assert architecture.tensor("linear2.weight").axes == ("output", "hidden1")
    assert architecture.dimension == 3 * 5 + 5 + 5 * 2 + 2
    assert mlp([3, 5, 2], bias=False).dimension == 3 * 5 + 5 * 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("linear2.bias"), "expected tensors .*linear2.bias"),
        (lambda w: w.update(extra=torch.zeros(3)), "extra"),
        (
            lambda w: w.update({"linear1.weight": torch.zeros(3, 3, 5)}),
            r"linear1.weight expected \(..., 5, 3\), got \(3, 3, 5\)",
        ),
        (lambda w: w.update({"linear1.bias": torch.zeros(())}), r"linear1.bias expected \(..., 5\), got \(\)"),
        (lambda w: w.update({"linear1.bias": torch.zeros(2, 5)}), "batch axes"),
    ],
)
def test_weights_that_do_not_fit_are_refused(spoil, message):
    architecture = mlp([3, 5, 2])
    weights = copy_of(random_weights(architecture))
    architecture.validate(weights)
    spoil(weights)
    with pytest.raises(ValueError, match=message):
        architecture.validate(weights)
    with pytest.raises(ValueError, match=message):
        architecture.flatten(weights)


def test_a_flat_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"expected flat vectors \(..., 32\), got \(2, 31\)"):
        mlp([3, 5, 2]).unflatten(torch.zeros(2, 31))


@pytest.mark.parametrize("widths", [[3], [], [3, 0, 2], [-1, 2]])
def test_widths_that_make_no_network_are_refused(widths):
    with pytest.raises(ValueError, match="widths"):
        mlp(widths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": (("linear1.weight", (2, 3)), ("linear1.weight", (2, 3)))}, "unique"),
        ({"operations": (Linear("output", ("nowhere",), "linear1.weight"),)}, "'nowhere', which no operation before"),
        ({"operations": (Linear("output", ("input",), "gone"),)}, "'gone', which does not exist"),
        ({"operations": (Linear("input", ("input",), "linear1.weight"),)}, "'input' is there twice"),
        ({"operations": ()}, "at least one operation"),
        ({"task_type": "ranking"}, "classification or regression, got 'ranking'"),
        ({"log_scale": "gone"}, "gone"),
        (
            {"log_scale": "linear1.bias", "operations": (*mlp([3, 2]).operations, Elementwise("y", ("output",), "relu"))},
            "log_scale expected a linear map of its own weights as the last operation",
        ),
    ],
)
def test_descriptions_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(mlp([3, 2]), **changes)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match=r"swosh.*known.*relu"):
        mlp([3, 4, 2], "swosh")


def test_text_of_another_kind_is_refused():
    text = mlp([3, 4, 2]).to_json()
    assert Architecture.from_json(text) == mlp([3, 4, 2])
    for old, new, complaint in (
        ('["input"]', '["nowhere"]', "nowhere"),
        ('"kind": "linear"', '"kind": "magic"', "unknown operation 'magic'; known:"),
        ('"bias"', '"base"', r"an operation linear has .*without \['bias'\] and with \['base'\]"),
        ('"norm": null, ', "", r"an architecture has .*without \['norm'\]"),
        ('"norm": null', '"norm": "both"', "norm must be one of"),
    ):
        changed = text.replace(old, new)
        if changed == text:
            changed = text.replace(f", {old.removesuffix(', ')}", "")
        with pytest.raises(ValueError, match=complaint):
            Architecture.from_json(changed)
