"""Which tensor is which: found by names and shapes whatever the order of keys, or refused; never another network."""

from __future__ import annotations

import random
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.networks.names import natural_order, place, units, unwrapped
from wflib.rng import generator

EQUAL, TAPERED = [5, 8, 8, 8, 8, 2], [5, 9, 8, 7, 6, 2]
SAME = [4, 4, 4, 4, 4, 4]


class Own(nn.Module):
    """Layers under names of one's own, run in the order of the names given and registered in another."""

    def __init__(self, names: list[str], widths: list[int], bias: bool = True, activation=torch.relu) -> None:
        super().__init__()
        self.order, self.activation = names, activation
        layers = {name: nn.Linear(*widths[index : index + 2], bias=bias) for index, name in enumerate(names)}
        for name in sorted(names, key=lambda name: hash_free(name)):
            parent = self
            *folders, last = name.split(".")
            for folder in folders:
                if folder not in dict(parent.named_children()):
                    parent.add_module(folder, nn.Module())
                parent = getattr(parent, folder)
            parent.add_module(last, layers[name])

    def forward(self, x):
        for name in self.order[:-1]:
            x = self.activation(self.get_submodule(name)(x))
        return self.get_submodule(self.order[-1])(x)


def hash_free(name: str) -> str:
    """A fixed order that is neither the alphabet nor that of running."""
    return name[::-1]


def same_function(networks: Networks, model: nn.Module, index: int = 0) -> bool:
    inputs = torch.randn(9, networks.architecture.groups[0].size, generator=generator(0, "inputs"))
    with torch.no_grad():
        return torch.allclose(networks.module()(inputs)[index], model(inputs), atol=1e-5)


WORDS = ["fc_first", "fc_second", "fc_third", "fc_fourth", "last"]
RIGHT = {
    "numbers of one pattern": (["0", "2", "4", "6", "10"], SAME),
    "numbers in the middle": ([f"layers.{i}.linear" for i in (8, 9, 10, 11, 12)], SAME),
    "two numbers": (["block1.fc1", "block1.fc2", "block2.fc1", "block2.fc2", "block10.fc1"], SAME),
    "words, other shapes": (WORDS, TAPERED),
    "words around numbers": (["input_layer", "hidden.0", "hidden.1", "hidden.2", "output_layer"], EQUAL),
    "fc and out": (["fc1", "fc2", "fc3", "fc4", "out"], EQUAL),
    "ours": ([f"linear{i}" for i in (1, 2, 3, 4, 5)], SAME),
}
REFUSED = {
    "words": (WORDS, EQUAL),
    "words throughout": (WORDS, SAME),
    "numbers but for the last": (["fc1", "fc2", "fc3", "fc4", "out"], SAME),
    "numbers in two patterns": (["in", "down1", "down2", "up1", "out"], EQUAL),
    "numbers that shapes contradict": (["fc5", "fc4", "fc3", "fc2", "fc1"], EQUAL),
    "equal numbers": (["in", "h1", "h01", "h001", "out"], EQUAL),
}


def both_files(state, folder):
    """The same state dict in both kinds of file, and in memory in a shuffled order."""
    torch.save(state, folder / "own.pt")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "own.safetensors")
    yield lambda architecture, **more: Networks.load(folder / "own.pt", architecture, **more)
    yield lambda architecture, **more: Networks.load(folder / "own.safetensors", architecture, **more)
    for seed in range(3):
        keys = random.Random(seed).sample(sorted(state), len(state))
        shuffled = {name: state[name] for name in keys}
        yield lambda architecture, s=shuffled, **more: Networks.from_state_dicts(architecture, [s], **more)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", RIGHT)
def test_what_names_and_shapes_decide_is_right_in_every_order(tmp_path, case, bias):
    names, widths = RIGHT[case]
    model = Own(names, widths, bias)
    for read in both_files(model.state_dict(), tmp_path):
        assert same_function(read(mlp(widths, bias=bias)), model)


@pytest.mark.parametrize("case", REFUSED)
def test_what_they_do_not_decide_is_refused_and_solved_by_names_or_a_module(tmp_path, case):
    names, widths = REFUSED[case]
    model, architecture = Own(names, widths), mlp(widths)
    said = {name: f"linear{index}" for index, name in enumerate(names, 1)}
    messages = set()
    for read in both_files(model.state_dict(), tmp_path):
        with pytest.raises(ValueError, match=r"cannot tell which of .*names=\{.*module=") as caught:
            read(architecture)
        messages.add(str(caught.value).rpartition(": cannot")[2])
        assert same_function(read(architecture, names=said), model)
        assert same_function(read(architecture, module=Own(names, widths)), model)
    assert len(messages) == 1
    wrong = said | {names[1]: said[names[2]], names[2]: said[names[1]]}
    assert not same_function(read(architecture, names=wrong), model)
    with pytest.raises(ValueError, match="computes something else"):
        read(architecture, names=wrong, module=model)


def test_a_wrapper_in_front_changes_nothing():
    plain = Own([f"linear{i}" for i in (1, 2, 3, 4, 5)], SAME)
    prefixes = ["module.", "_orig_mod.", "model.", "net._forward_module.", "module._orig_mod.model.", "anything."]
    for prefix in prefixes:
        state = {prefix + name: tensor for name, tensor in plain.state_dict().items()}
        assert same_function(Networks.from_state_dicts(mlp(SAME), [state]), plain)
        assert same_function(Networks.from_state_dicts(mlp(SAME), [state], module=plain), plain)
    inside = {name.replace("linear3.", "linear3._orig_mod."): tensor for name, tensor in plain.state_dict().items()}
    assert same_function(Networks.from_state_dicts(mlp(SAME), [inside]), plain)
    states = [plain.state_dict(), inside, state]
    both = Networks.from_state_dicts(mlp(SAME), states, module=plain)
    assert all(same_function(both, plain, index) for index in range(3))


def test_tensors_without_modules_are_read_by_number():
    widths = [4, 4, 4, 2]
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    tensors = list(model.state_dict().values())
    for form in ("W{1} b{1}", "weights.{0} biases.{0}", "layer{0}_w layer{0}_b", "p.{2} p.{3}"):
        names = [name for index in range(3) for name in form.format(index, index + 1, 2 * index, 2 * index + 1).split()]
        state = dict(reversed(list(zip(names, tensors, strict=True))))
        assert same_function(Networks.from_state_dicts(mlp(widths), [state]), model)


class Raw(nn.Module):
    """Parameters of one's own, multiplied one way or the other."""

    def __init__(self, widths: list[int], transposed: bool) -> None:
        super().__init__()
        sizes = list(zip(widths[1:], widths[:-1], strict=True))
        self.transposed = transposed
        self.w = nn.ParameterList([torch.randn(*(size[::-1] if transposed else size)) for size in sizes])
        self.b = nn.ParameterList([torch.randn(size) for size in widths[1:]])

    def forward(self, x):
        for index, (weight, bias) in enumerate(zip(self.w, self.b, strict=True)):
            x = (x.relu() if index else x) @ (weight if self.transposed else weight.T) + bias
        return x


def test_square_weights_that_may_be_transposed_are_refused():
    architecture, right, turned = mlp([4, 4, 4]), Raw([4, 4, 4], False), Raw([4, 4, 4], True)
    for model in (right, turned):
        with pytest.raises(ValueError, match=r"cannot tell whether w.0, w.1 are \(outputs, inputs\)"):
            Networks.from_state_dicts(architecture, [model.state_dict()])
    assert same_function(Networks.from_state_dicts(architecture, [right.state_dict()], module=right), right)
    names = {"w.0": "linear1.weight", "w.1": "linear2.weight", "b.0": "linear1.bias", "b.1": "linear2.bias"}
    assert same_function(Networks.from_state_dicts(architecture, [right.state_dict()], names=names), right)
    with pytest.raises(ValueError, match="computes something else"):
        Networks.from_state_dicts(architecture, [turned.state_dict()], module=turned)
    uneven = Raw([4, 6, 6, 2], False)
    assert same_function(Networks.from_state_dicts(mlp([4, 6, 6, 2]), [uneven.state_dict()]), uneven)
    with pytest.raises(ValueError, match="transpose the weights"):
        Networks.from_state_dicts(mlp([4, 6, 6, 2]), [Raw([4, 6, 6, 2], True).state_dict()])


def test_some_names_are_enough_where_they_leave_one_assignment():
    model = Own(WORDS, EQUAL)
    some = {"fc_second.weight": "linear2.weight", "fc_second.bias": "linear2.bias", "fc_third": "linear3"}
    assert same_function(Networks.from_state_dicts(mlp(EQUAL), [model.state_dict()], names=some), model)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["fc_first"], "names: expected a mapping"),
        ({"fc_first": ["linear1"]}, "names: expected a mapping"),
        ({1: "linear1"}, "names: expected a mapping"),
        ({"fc_zero": "linear1"}, "'fc_zero' is no module or tensor of it; its modules are .*fc_first"),
        ({"fc_second": "linear9"}, r"linear9.weight, linear9.bias is no tensor of the architecture"),
        ({"fc_second": "linear2", "fc_third": "linear2"}, "is named twice"),
        ({"fc_first": "linear2"}, r"fc_first.weight has shape \(8, 5\); linear2.weight of the architecture has \(8, 8\)"),
    ],
)
def test_names_that_do_not_fit_are_told(names, complaint):
    with pytest.raises(ValueError, match=complaint):
        Networks.from_state_dicts(mlp(EQUAL), [Own(WORDS, EQUAL).state_dict()], names=names)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.b(self.a(self.a(x).relu()))


class Fails(Twice):
    def forward(self, x):
        raise RuntimeError("needs images")


class Pair(Twice):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (Own(["first", "second"], [4, 4, 4], activation=torch.tanh), r"computes something else .* differ by [0-9.e-]+; is"),
        (Own(["first", "third"], [4, 4, 4]), r"module: its tensors are .*third.*; the state dict has .*second"),
        (Own(["first", "second"], [4, 5, 4]), r"running it on inputs \(16, 4\) failed: .*size mismatch"),
        (Own, r"expected an instance of torch.nn.Module, got .*make one"),
    ],
)
def test_a_module_that_is_another_is_refused(module, complaint):
    state = Own(["first", "second"], [4, 4, 4]).state_dict()
    with pytest.raises(ValueError, match=complaint):
        Networks.from_state_dicts(mlp([4, 4, 4]), [state], module=module)


def test_a_module_that_runs_otherwise_than_an_architecture_is_refused():
    for kind, complaint in {Twice: "cannot tell", Fails: "needs images", Pair: "expected one tensor of outputs"}.items():
        with pytest.raises(ValueError, match=complaint):
            Networks.from_state_dicts(mlp([4, 4, 4]), [kind().state_dict()], module=kind())
    squeezed = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"its outputs are \(16,\), the architecture's \(16, 1\)"):
        Networks.from_state_dicts(mlp([4, 4, 1]), [squeezed.state_dict()], module=squeezed)


def test_the_module_is_left_as_it_is():
    module = Own(WORDS, EQUAL).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    Networks.from_state_dicts(mlp(EQUAL), [Own(WORDS, EQUAL).state_dict()], module=module)
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_transposed_weights_are_told():
    state = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)).state_dict()
    state = {name: tensor.T for name, tensor in state.items()}
    with pytest.raises(ValueError, match="transpose the weights"):
        Networks.from_state_dicts(mlp([3, 5, 2], bias=False), [OrderedDict(state)])


def test_parts_of_names():
    assert place("fc1.weight") == ("fc1", "weight")
    assert place("net.biases.0") == ("net.0", "bias")
    assert place("log_scale") == ("log_scale", "")
    assert units(["a.weight", "weight.a"]) == {"a": {"weight": "a.weight"}, "weight.a": {"": "weight.a"}}
    assert sorted(["e_10", "e_2", "e_02"], key=natural_order) == ["e_02", "e_2", "e_10"]
    assert list(unwrapped(["m.a.b", "m.c"]))[-1] == {"m.a.b": "a.b", "m.c": "c"}
    assert len(list(unwrapped(["m.a", "n.a"]))) == 1


class Turned(nn.Module):
    """Weights (inputs, outputs), as other libraries store them, under names of theirs."""

    def __init__(self, widths: list[int], form: str, bias: bool) -> None:
        super().__init__()
        self.layers = [nn.Linear(*widths[index : index + 2], bias=bias) for index in range(len(widths) - 1)]
        self.form = form

    def state(self) -> dict[str, torch.Tensor]:
        found = {}
        for index, layer in enumerate(self.layers):
            found[self.form.format(index, "weight")] = layer.weight.detach().T.contiguous()
            if layer.bias is not None:
                found[self.form.format(index, "bias")] = layer.bias.detach()
        return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [[4, 6, 4], [4, 6, 6, 4], [4, 6, 3, 6, 4]])
@pytest.mark.parametrize("form", ["dense_{}.{}", "layers.{}.{}", "{1}s.{0}", "theta{}_{}_of_mine"])
def test_transposed_weights_of_mirrored_widths_are_refused(form, widths, bias):
    state = Turned(widths, form, bias).state()
    for renamed in (state, {name.replace("weight", "kernel"): tensor for name, tensor in state.items()}):
        with pytest.raises(ValueError, match=r"transpose the weights|\(outputs, inputs\) or transposed: both fit"):
            Networks.from_state_dicts(mlp(widths, bias=bias), [renamed])


@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_mirrored_widths_are_read(bias):
    for names in (["0", "2", "4", "6"], ["enter", "narrow", "widen", "leave"]):
        model = Own(names, [4, 6, 3, 6, 4], bias)
        assert same_function(Networks.from_state_dicts(mlp([4, 6, 3, 6, 4], bias=bias), [model.state_dict()]), model)
    raw = Raw([4, 6, 4], False)  # biases say that weights are (outputs, inputs)
    assert same_function(Networks.from_state_dicts(mlp([4, 6, 4]), [raw.state_dict()]), raw)


def test_nested_kernels_are_transposed_weights_and_not_several_networks():
    state = {f"Dense_{i}": {"kernel": torch.randn(*s), "bias": torch.randn(s[1])} for i, s in enumerate([(3, 5), (5, 2)])}
    with pytest.raises(ValueError, match="transpose the weights"):
        Networks.from_state_dicts(mlp([3, 5, 2]), [{"params": state}])


class Cached(nn.Module):
    """Keeps a tensor of its last run, which no module can be copied with."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(3, 2)
        self.last = self.linear1(torch.zeros(1, 3))


@pytest.mark.parametrize("module", [Cached(), nn.Sequential(OrderedDict(linear1=nn.Linear(3, 2, device="meta")))])
def test_a_module_that_cannot_be_copied_is_told(module):
    with pytest.raises(ValueError, match=r"state dict 0: module: copying it failed: .*freshly made"):
        Networks.from_state_dicts(mlp([3, 2]), [nn.Linear(3, 2).state_dict()], module=module)
