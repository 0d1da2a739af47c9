"""State dicts out of checkpoints: what is opened, what is left out, what is refused."""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.networks.states import plain_state

ARCHITECTURE = mlp([3, 4, 2])


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


STATE = model().state_dict()
OPTIMIZER = torch.optim.Adam(model().parameters())
for parameter in OPTIMIZER.param_groups[0]["params"]:
    parameter.grad = torch.ones_like(parameter)
OPTIMIZER.step()
PREFIXED = {f"model.{name}": tensor for name, tensor in STATE.items()}
OPENED = {
    "plain": STATE,
    **{
        key: {key: STATE, "epoch": 3, "loss": 0.2}
        for key in ("state_dict", "model_state_dict", "model_state", "model", "net")
    },
    **{key: {key: STATE} for key in ("network", "module", "params", "state", "ema")},
    "with an optimizer": {"model": STATE, "optimizer": OPTIMIZER.state_dict(), "scaler": {"scale": torch.ones(1)}},
    "with an optimizer of another name": {
        "model": STATE,
        "adam": OPTIMIZER.state_dict(),
        "state": OPTIMIZER.state_dict()["state"],
    },
    "twice wrapped": {"checkpoint": {"model": OrderedDict(STATE), "step": torch.tensor(3)}},
    "lightning": {
        "state_dict": PREFIXED,
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [OPTIMIZER.state_dict()],
        "hyper_parameters": {"class_weights": torch.ones(2)},
        "pytorch-lightning_version": "2.4",
    },
    "beside a curve and random states": {"model": STATE, "losses": torch.rand(9), "rng_state": torch.get_rng_state()},
    "counters": {**STATE, "n_averaged": torch.tensor(3), "1.num_batches_tracked": torch.tensor(4), "epoch": 3, "note": None},
    "nested by layer": {"0": {"weight": STATE["0.weight"], "bias": STATE["0.bias"]}, "2": nn.Linear(4, 2).state_dict()},
}


@pytest.mark.parametrize("content", OPENED.values(), ids=OPENED)
@pytest.mark.parametrize("ending", ["pt", "pth", "ckpt", "bin", "PT", "memory"])
def test_one_network_in_a_checkpoint_is_found(tmp_path, content, ending):
    if ending == "memory":
        found = Networks.from_state_dicts(ARCHITECTURE, [content])
    else:
        torch.save(content, tmp_path / f"own.{ending}")
        found = Networks.load(tmp_path / f"own.{ending}", ARCHITECTURE)
    assert torch.equal(found.weights["linear1.weight"][0], STATE["0.weight"])


def test_of_several_networks_the_key_chooses():
    other = {name: tensor + 1 for name, tensor in STATE.items()}
    for content in ({"model": STATE, "ema": other}, {"state_dict": STATE, "ema": {"shadow": other, "decay": 0.9}}):
        with pytest.raises(
            ValueError, match=r"several mappings of tensors \((model|state_dict), ema\).*key='(model|state_dict)'"
        ):
            Networks.from_state_dicts(ARCHITECTURE, [content])
        found = Networks.from_state_dicts(ARCHITECTURE, [content], key="ema")
        assert torch.equal(found.weights["linear1.bias"][0], other["0.bias"])
    flat = {f"{part}.{name}": tensor for part, state in content.items() if part != "ema" for name, tensor in state.items()}
    flat |= {f"ema.{name}": tensor for name, tensor in other.items()}
    for nested in ({"state_dict": flat, "epoch": 3}, {"outer": {"state_dict": flat}}):
        assert plain_state(nested, "ema").keys() == STATE.keys()
        with pytest.raises(ValueError, match=r"key: expected one of (state_dict, epoch|outer), got 'emma'"):
            plain_state(nested, "emma")
    assert plain_state(flat, "ema").keys() == STATE.keys()
    with pytest.raises(ValueError, match=r"has 8 tensors .*leave them out with key='state_dict'"):
        Networks.from_state_dicts(ARCHITECTURE, [flat])
    with pytest.raises(ValueError, match="key: expected one of state_dict, ema, got 'emma'"):
        Networks.from_state_dicts(ARCHITECTURE, [content], key="emma")
    with pytest.raises(ValueError, match="several mappings"):
        plain_state({**STATE, "ema": STATE})


REFUSED = {
    "a module": (model(), "found the module Sequential; give its .state_dict"),
    "a tensor": (torch.zeros(9), r"found one tensor of shape \(9,\)"),
    "a list": ([STATE, STATE], "found a list of 2; save each in a file of its own"),
    "an optimizer": (OPTIMIZER.state_dict(), "found an optimizer's"),
    "nothing": ({}, "found no tensor in an empty mapping"),
    "no tensors": ({"epoch": 3, "config": {"lr": 0.1}}, "found no tensor in a mapping of epoch, config"),
    "numbered": (dict(enumerate(STATE.values())), "names of tensors as text, found 0"),
    "numpy": ({name: tensor.numpy() for name, tensor in STATE.items()}, "0.weight: expected a tensor, found a numpy array"),
    "integers": ({**STATE, "0.weight": STATE["0.weight"].to(torch.int8)}, "found 0.weight of torch.int8"),
    "all integers": ({name: tensor.to(torch.int8) for name, tensor in STATE.items()}, "0.weight of torch.int8, 0.bias of"),
    "booleans": ({**STATE, "2.bias": STATE["2.bias"] > 0}, "found 2.bias of torch.bool"),
    "complex": ({**STATE, "2.bias": STATE["2.bias"].to(torch.complex64)}, "found 2.bias of torch.complex64"),
    "sparse": ({**STATE, "0.weight": STATE["0.weight"].to_sparse()}, "sparse or meta ones: 0.weight"),
    "meta": ({**STATE, "0.weight": STATE["0.weight"].to("meta")}, "sparse or meta ones: 0.weight"),
}


@pytest.mark.parametrize(("content", "complaint"), REFUSED.values(), ids=REFUSED)
def test_what_holds_no_network_is_told(content, complaint):
    with pytest.raises(ValueError, match=f"state dict 0: .*{complaint}"):
        Networks.from_state_dicts(ARCHITECTURE, [content])


def test_objects_that_torch_refuses_to_build_are_named(tmp_path):
    for thing, name in ((Namespace(lr=0.1), "argparse.Namespace"), (np.float64(0.3), "numpy")):
        torch.save({"state_dict": STATE, "extra": thing}, tmp_path / "own.pt")
        with pytest.raises(
            ValueError, match=rf"own.pt: expected a state dict, found {name}.*save only model.state_dict\(\)"
        ):
            Networks.load(tmp_path / "own.pt", ARCHITECTURE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_comes_in_as_one(tmp_path, dtype):
    state = {name: tensor.to(dtype) for name, tensor in STATE.items()}
    (tmp_path / "folder").mkdir()
    torch.save(state, tmp_path / "folder/one.pt")
    torch.save({name: tensor.float() for name, tensor in state.items()}, tmp_path / "folder/two.pt")
    torch.save({name: torch.stack([tensor, tensor]) for name, tensor in state.items()}, tmp_path / "stacked.pt")
    found = [Networks.from_state_dicts(ARCHITECTURE, [state])]
    found += [Networks.load(tmp_path / name, ARCHITECTURE) for name in ("folder", "folder/one.pt", "stacked.pt")]
    for networks in found:
        assert {tensor.dtype for tensor in networks.weights.values()} == {torch.float32}
        assert torch.equal(networks.weights["linear1.weight"][0], state["0.weight"].float())
    chosen = Networks.load(tmp_path / "folder", ARCHITECTURE, dtype=torch.float64)
    assert chosen.weights["linear2.bias"].dtype == torch.float64
    assert torch.equal(chosen.weights["linear2.bias"][0], state["2.bias"].double())


def test_precision_that_cannot_be_is_told():
    for wrong in (torch.int64, "float32"):
        with pytest.raises(ValueError, match=rf"dtype must be a floating-point one .* got {wrong}"):
            Networks.from_state_dicts(ARCHITECTURE, [STATE], dtype=wrong)
    large = {**STATE, "2.bias": torch.full((2,), 1e300, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"2.bias: numbers too large for torch.float32; read them with dtype=torch.float64"):
        Networks.from_state_dicts(ARCHITECTURE, [large])
    assert Networks.from_state_dicts(ARCHITECTURE, [large], dtype=torch.float64).weights["linear2.bias"].max() == 1e300


def test_arguments_of_other_types_are_told():
    with pytest.raises(ValueError, match="expected a sequence of state dicts, got 3"):
        Networks.from_state_dicts(ARCHITECTURE, 3)
    with pytest.raises(ValueError, match=r"expected an architecture, as mlp\(\[30, 16, 2\]\) makes one, got \[3, 4, 2\]"):
        Networks.from_state_dicts([3, 4, 2], [STATE])
    with pytest.raises(ValueError, match="names: expected a mapping"):
        Networks.from_state_dicts(ARCHITECTURE, [STATE], names=["linear1"])


def test_a_single_state_dict_or_none_is_told():
    for states in (STATE, model()):
        with pytest.raises(ValueError, match="expected a sequence of state dicts, got a single one; put it in a list"):
            Networks.from_state_dicts(ARCHITECTURE, states)
    with pytest.raises(ValueError, match="at least one state dict"):
        Networks.from_state_dicts(ARCHITECTURE, [])
    stacked = {name: torch.stack([tensor] * 3) for name, tensor in STATE.items()}
    with pytest.raises(ValueError, match=r"state dict 1: holds 3 stacked networks; use Networks\(architecture, weights\)"):
        Networks.from_state_dicts(ARCHITECTURE, [STATE, stacked])


class Exponential(nn.Module):
    def forward(self, raw):
        return raw.exp()


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: nn.utils.parametrize.register_parametrization(layer, "weight", Exponential()),
        nn.utils.parametrizations.orthogonal,
        nn.utils.parametrizations.weight_norm,
        nn.utils.spectral_norm,
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    ],
)
def test_what_weights_are_computed_from_is_no_weight(change):
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    change(module[0])
    with pytest.raises(ValueError, match=r"what they are computed from: 0\..*remove_parametrizations"):
        Networks.from_state_dicts(mlp([3, 5, 2]), [module.state_dict()])


def test_weights_that_are_no_tensors_are_not_passed_over():
    state = {name: tensor if tensor.ndim > 1 else tensor.tolist() for name, tensor in nn.Linear(3, 2).state_dict().items()}
    with pytest.raises(ValueError, match="bias: expected a tensor, found a list"):
        Networks.from_state_dicts(mlp([3, 2], bias=False), [state])
    with pytest.raises(ValueError, match=r"weight: expected numbers, found a lazy module's"):
        Networks.from_state_dicts(mlp([3, 2]), [nn.LazyLinear(2).state_dict()])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float4_e2m1fn_x2])
def test_precision_below_16_bits_is_told(dtype):
    with pytest.raises(ValueError, match="dtype must be a floating-point one of 16 bits or more"):
        Networks.from_state_dicts(mlp([3, 2]), [nn.Linear(3, 2).state_dict()], dtype=dtype)
    weights = {"linear1.weight": torch.zeros(4, 2, 3, dtype=torch.uint8).view(torch.float8_e5m2)}
    for make in (Networks, Networks.finite):
        with pytest.raises(ValueError, match="one dtype of 16 bits or more"):
            make(mlp([3, 2], bias=False), weights)


def test_a_key_that_cannot_be_is_told():
    for key in (["net"], {}, 5):
        with pytest.raises(ValueError, match=r"state dict 0: key: expected one of net, got"):
            Networks.from_state_dicts(mlp([3, 2]), [{"net": nn.Linear(3, 2).state_dict()}], key=key)
