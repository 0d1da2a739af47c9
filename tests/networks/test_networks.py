"""Networks as people use them: state dicts, modules, torch.func, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from wflib.architecture import Architecture, mlp
from wflib.networks import Networks
from wflib.rng import generator

ARCHITECTURE = mlp([4, 6, 5, 3], activation="tanh")
INPUTS = torch.randn(8, 4, generator=generator(0, "inputs"))


@pytest.fixture
def networks() -> Networks:
    flat = torch.randn(5, ARCHITECTURE.dimension, generator=generator(0, "weights"))
    return Networks.from_flat(ARCHITECTURE, flat)


def test_state_dicts_modules_and_the_stacked_module_compute_the_same(networks):
    expected = networks.forward(INPUTS)
    torch.testing.assert_close(networks.module()(INPUTS), expected)
    torch.testing.assert_close(torch.stack([module(INPUTS) for module in networks.modules()]), expected)
    stacked, one = networks.module().stacked, ARCHITECTURE.module()
    vectorized = torch.func.vmap(lambda parameters: torch.func.functional_call(one, parameters, (INPUTS,)))(stacked)
    torch.testing.assert_close(vectorized, expected)
    assert not torch.allclose(expected[0], expected[1])


def test_the_stacked_module_trains(networks):
    module = networks.module()
    module(INPUTS).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    assert set(module.state_dict()) == {"linear1_weight", "linear1_bias", "linear2_weight", "linear2_bias"} | {
        "linear3_weight",
        "linear3_bias",
    }


class Alike(nn.Module):
    """Names that are one where dots become underscores, and one that every stacked module has itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc_0, self.out = nn.Linear(4, 4), nn.Linear(4, 2)
        self.fc = nn.ModuleList([nn.Linear(4, 4)])
        self.names = nn.Parameter(torch.randn(4))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.fc_0(torch.relu(self.fc[0](inputs) + self.names))))


def test_the_stacked_module_keeps_tensors_apart_whose_names_are_alike():
    models = [Alike() for _ in range(3)]
    architecture = Architecture.from_module(models[0], INPUTS)
    networks = Networks.from_state_dicts(architecture, [model.state_dict() for model in models])
    module = networks.module()
    expected = torch.stack([model(INPUTS) for model in models])
    torch.testing.assert_close(module(INPUTS), expected)
    assert len(list(module.parameters())) == len(networks.weights)
    assert all(torch.equal(module.stacked[name], tensor) for name, tensor in networks.weights.items())
    assert {"fc_0_weight", "out_weight", "out_bias"} < set(module.state_dict())
    # the check has teeth: one of two in the other's place is seen
    merged = networks.weights | {"fc.0.weight": networks.weights["fc_0.weight"]}
    assert not torch.allclose(architecture.forward(merged, INPUTS), expected, atol=1e-3)


def test_they_are_a_sequence_of_copies(networks):
    assert len(networks) == len(list(networks)) == 5
    networks[0]["linear1.weight"].zero_()
    assert networks.weights["linear1.weight"][0].abs().sum() > 0
    assert torch.equal(networks[-1]["linear1.bias"], networks.weights["linear1.bias"][4])
    with pytest.raises(IndexError, match="index 5 of 5"):
        networks[5]
    part = networks[1:4:2]
    assert isinstance(part, Networks)
    assert len(part) == 2
    assert all(torch.equal(part[1][name], networks[3][name]) for name in networks.weights)
    assert torch.equal(networks[::-1][0]["linear1.bias"], networks[4]["linear1.bias"])
    part.weights["linear1.bias"].zero_()
    assert networks.weights["linear1.bias"][1].abs().sum() > 0


def test_state_dicts_come_back_whatever_their_names(networks):
    again = Networks.from_state_dicts(ARCHITECTURE, networks.state_dicts())
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in networks.weights.items())
    own = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    found = Networks.from_state_dicts(ARCHITECTURE, [own.state_dict()])
    torch.testing.assert_close(found.module()(INPUTS)[0], own(INPUTS))


def test_tensors_that_are_not_stacked_are_refused(networks):
    with pytest.raises(
        ValueError, match=r"expected stacked tensors, linear1.weight of shape \(networks, 6, 4\), got \(6, 4\)"
    ):
        Networks(ARCHITECTURE, networks[0])


def broken_weights() -> dict[str, torch.Tensor]:
    """Five networks of which the second and the fourth are not finite."""
    weights = {name: torch.randn(5, *ARCHITECTURE.shape(name)) for name in (spec.name for spec in ARCHITECTURE.tensors)}
    weights["linear1.bias"][1, 0] = float("inf")
    weights["linear2.weight"][3, 2, 1] = weights["linear3.bias"][3, 0] = float("nan")
    return weights


TOLD = r"2 of 5 networks.*: 1 \(linear1.bias\), 3 \(linear2.weight, linear3.bias\)"


def test_networks_that_are_not_finite_are_refused_and_named():
    weights = broken_weights()
    states = [{name: tensor[index] for name, tensor in weights.items()} for index in range(5)]
    with pytest.raises(ValueError, match=f"{TOLD}; skip_broken=True or Networks.finite"):
        Networks(ARCHITECTURE, weights)
    with pytest.raises(ValueError, match=TOLD):
        Networks.from_state_dicts(ARCHITECTURE, states)
    named = ("a", "b", "c", "d", "e")
    with pytest.raises(ValueError, match=r"b \(linear1.bias\), d \(linear2.weight, linear3.bias\)"):
        Networks(ARCHITECTURE, weights, named)
    with pytest.warns(UserWarning, match=TOLD):
        found = Networks.from_state_dicts(ARCHITECTURE, states, skip_broken=True)
    assert torch.equal(found.weights["linear1.bias"], weights["linear1.bias"][[0, 2, 4]])
    with pytest.warns(UserWarning, match="left out 2 of 5"):
        found = Networks.finite(ARCHITECTURE, weights, named, {"seed": 3})
    assert found.names == ("a", "c", "e")
    assert found.metadata == {"seed": 3}
    with pytest.raises(ValueError, match=r"all 2 hold NaN or infinity \(0 \(linear1.bias\), 1 "):
        Networks.finite(ARCHITECTURE, {name: tensor[[1, 3]] for name, tensor in weights.items()})


def test_finite_networks_stay_as_they_are(networks):
    assert len(Networks.finite(ARCHITECTURE, networks.weights)) == 5  # a warning would be an error


def test_tensors_that_are_no_weights_are_refused(networks):
    for wrong, complaint in {
        torch.int64: "expected floating-point weights, found linear2.bias of torch.int64",
        torch.float64: "expected tensors of one dtype of 16 bits or more, got .*linear2.bias torch.float64",
    }.items():
        with pytest.raises(ValueError, match=complaint):
            Networks(ARCHITECTURE, networks.weights | {"linear2.bias": networks.weights["linear2.bias"].to(wrong)})
    with pytest.raises(ValueError, match=r"of 16 bits or more, got linear1.weight torch.float8"):
        Networks(ARCHITECTURE, {name: tensor.to(torch.float8_e4m3fn) for name, tensor in networks.weights.items()})
    with pytest.raises(ValueError, match=r"expected tensors, found linear1.weight of type ndarray"):
        Networks(ARCHITECTURE, {name: tensor.numpy() for name, tensor in networks.weights.items()})


def test_names_and_metadata_belong_to_networks(networks):
    named = Networks(ARCHITECTURE, networks.weights, tuple("abcde"), {"seed": 3})
    assert named[1:4:2].names == ("b", "d")
    assert named[::-1].names == tuple("edcba")
    assert named[:2].metadata == {"seed": 3}
    assert networks[:2].names is None
    assert Networks(ARCHITECTURE, networks.weights, list("abcde")).names == tuple("abcde")
    with pytest.raises(ValueError, match="metadata must be a mapping, got None"):
        Networks(ARCHITECTURE, networks.weights, metadata=None)
    for names in (tuple("abcd"), tuple("aabcd"), tuple("aabcde")):
        with pytest.raises(ValueError, match="expected 5 different names"):
            Networks(ARCHITECTURE, networks.weights, names)


def test_wrong_tensors_are_named(networks):
    with pytest.raises(ValueError, match=r"state dict 0: has 2 tensors .*weight, bias.*; the architecture has 6"):
        Networks.from_state_dicts(ARCHITECTURE, [nn.Linear(4, 6).state_dict()])
    with pytest.raises(ValueError, match=r"state dict 1: linear1.weight has shape \(6, 4\); .* has \(7, 4\)"):
        Networks.from_state_dicts(mlp([4, 7, 5, 3]), [mlp([4, 7, 5, 3]).module().state_dict(), networks[0]])
    other = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"0.weight \(7, 4\).*the architecture has linear1.weight \(6, 4\)"):
        Networks.from_state_dicts(ARCHITECTURE, [other.state_dict()])


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ([2, 0], "ca"),
        ((-1,), "e"),
        (torch.tensor([3]), "d"),
        (np.array([4, 1]), "eb"),
        (torch.tensor([True, False, False, True, False]), "ad"),
        ([False, True, False, False, False], "b"),
        (np.arange(5)[::-1], "edcba"),
        ([], ""),
    ],
)
def test_masks_and_lists_choose_networks(networks, index, expected):
    named = Networks(networks.architecture, networks.weights, tuple("abcde"))
    assert named[index].names == tuple(expected)
    for one, name in zip(named[index], expected, strict=True):
        assert all(torch.equal(one[key], tensor) for key, tensor in named["abcde".index(name)].items())


def test_networks_that_come_twice_have_no_names(networks):
    twice = Networks(networks.architecture, networks.weights, tuple("abcde"))[[0, 0]]
    assert (len(twice), twice.names) == (2, None)


def test_they_are_mapped_split_and_joined_by_segments(networks):
    assert [len(part) for part in networks.split(2)] == [2, 2, 1]
    assert torch.equal(torch.cat([part.flat for part in networks.split(2)]), networks.flat)
    back = Networks.from_flat(ARCHITECTURE, networks.to(torch.float64).flat)
    assert (back.dtype, back.device) == (torch.float64, networks.device)
    torch.testing.assert_close(back.flat.float(), networks.flat)
    torch.testing.assert_close(networks.map(lambda tensor: -tensor).flat, -networks.flat)
    share = torch.linspace(0, 1, 5)
    expected = networks.flat[:1] + share[:, None] * (networks.flat - networks.flat[:1])
    torch.testing.assert_close(networks[:1].lerp(networks, share).flat, expected)
    torch.testing.assert_close(networks[[0]].lerp(networks, 1.0).forward(INPUTS), networks.forward(INPUTS))


def test_gradients_pass(networks):
    flat = networks.flat.requires_grad_()
    Networks.from_flat(ARCHITECTURE, flat)[[1, 3]].forward(INPUTS).square().sum().backward()
    assert (flat.grad.abs().sum(1) > 0).tolist() == [False, True, False, True, False]


def test_computed_networks_may_be_asked_to_be_finite(networks):
    named = Networks(networks.architecture, networks.weights, tuple("abcde"))
    broken = named.map(lambda tensor: tensor.index_fill(0, torch.tensor([2]), torch.nan))
    with pytest.raises(ValueError, match=r"^here: expected finite numbers, found NaN or infinity in 1 of 5 networks: c "):
        broken.require_finite("here")


@pytest.mark.parametrize("index", [True, 1.0, "a", None, ..., [0.5], [9], [True], [[0, 1]]])
def test_an_index_that_chooses_no_networks_is_told(networks, index):
    named = Networks(networks.architecture, networks.weights, tuple("abcde"))
    with pytest.raises(ValueError, match=r"^Networks: expected a number, a slice, a mask or"):
        named[index]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_modules_compute_in_the_networks_precision(networks, dtype):
    same = Networks(networks.architecture, {name: tensor.to(dtype) for name, tensor in networks.weights.items()})
    module = same.modules()[1]
    assert all(torch.equal(tensor, same.weights[name][1]) for name, tensor in module.state_dict().items())
    assert {(tensor.dtype, tensor.requires_grad) for tensor in module.parameters()} == {(dtype, True)}


def test_arguments_of_other_kinds_are_told(networks):
    for names in (5, "abcde", [[1]] * 5, range(5)):
        with pytest.raises(ValueError, match="Networks: expected 5 different names"):
            Networks(networks.architecture, networks.weights, names)
    lists = {name: tensor.tolist() for name, tensor in networks.weights.items()}
    for make in (Networks, Networks.finite):
        with pytest.raises(ValueError, match=r"Networks: expected tensors, found .* of type list"):
            make(networks.architecture, lists)
        with pytest.raises(ValueError, match="Networks: expected a mapping of names to stacked tensors, got a NoneType"):
            make(networks.architecture, None)
