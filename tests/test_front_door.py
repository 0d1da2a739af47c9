"""What ``import wflib`` offers, and that it loads nothing before it is asked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import wflib
import wflib.zoo
from wflib.architecture import mlp
from wflib.networks import network_losses, predict
from wflib.rng import generator
from wflib.tasks import Split

ARCHITECTURE = mlp([3, 4, 2])
NETWORKS = wflib.Networks.from_flat(ARCHITECTURE, torch.randn(3, ARCHITECTURE.dimension, generator=generator(0, "door")))
INPUTS, TARGETS, MODULE = torch.ones(5, 3), torch.tensor([0, 1, 1, 0, 1]), ARCHITECTURE.module()


@pytest.mark.parametrize("name", wflib.__all__)
def test_every_name_is_there(name):
    assert callable(getattr(wflib, name))
    assert name in wflib.HOMES


def test_others_are_not():
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'; it has Architecture, .* symmetries and"):
        wflib.nothing  # noqa: B018


def test_editors_see_the_same_names():
    stub = (Path(wflib.__file__).parent / "__init__.pyi").read_text()
    imported = {alias.asname or alias.name for node in ast.parse(stub).body for alias in getattr(node, "names", [])}
    assert imported == set(wflib.__all__)
    assert set(wflib.__all__) <= set(dir(wflib))


def test_nothing_is_loaded_before_it_is_asked_for():
    code = "import sys, wflib; before = 'torch' in sys.modules; wflib.symmetries; print(before, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "True"]


def test_loading_warns_of_nothing():
    """Strict users turn warnings into errors; what packages say of their own imports is none of their business."""
    packages = "demo, flow, graph.pyg, manifold, models, report, velocity, zoo"
    code = (
        f"import wflib; [getattr(wflib, name) for name in wflib.__all__]; import wflib.{packages.replace(', ', ', wflib.')}"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "symmetries class": (lambda: wflib.symmetries(nn.Linear, INPUTS), "got <class .*Linear'>; make one, as MyNetwork"),
    "symmetries shape": (
        lambda: wflib.symmetries(MODULE, (1, 3)),
        "example expected a tensor .* got a tuple; as torch.zeros",
    ),
    "symmetries array": (lambda: wflib.symmetries(MODULE, INPUTS.numpy()), "example expected a tensor .* got a ndarray"),
    "symmetries features": (
        lambda: wflib.symmetries(MODULE, torch.ones(1, 4)),
        r"on inputs \(2, 4\).*give an example",
    ),
    "symmetries double": (lambda: wflib.symmetries(MODULE, INPUTS.double()), "in torch.float64: .*give an example"),
    "Architecture class": (lambda: wflib.Architecture.from_module(nn.Linear, INPUTS), "make one, as MyNetwork"),
    "align modules": (
        lambda: wflib.align([MODULE, MODULE]),
        "align: networks expected Networks, got a list; .*from_state",
    ),
    "align to a module": (lambda: wflib.align(NETWORKS, MODULE), "align: reference expected Networks, got a Sequential"),
    "align array": (lambda: wflib.align(NETWORKS, inputs=INPUTS.numpy()), "expected a tensor, got a ndarray; .*as_tensor"),
    "canonicalize modules": (lambda: wflib.canonicalize([MODULE]), "networks expected Networks, got a list"),
    "draw from a path": (lambda: wflib.draw("flow.safetensors", 3), r"expected a flow, got 'flow.*load_flow\(path\)"),
    "forward features": (lambda: NETWORKS.forward(torch.ones(5, 4)), r"expected inputs \(examples, 3\), or .* got \(5, 4\)"),
    "forward one example": (lambda: NETWORKS.forward(INPUTS[0]), r"expected inputs \(examples, 3\), or .* got \(3,\)"),
    "forward networks": (
        lambda: NETWORKS.forward(torch.ones(2, 5, 3)),
        r"or \(3, examples, 3\) of 3 networks, got \(2",
    ),
    "forward double": (
        lambda: NETWORKS.forward(INPUTS.double()),
        r"torch.float32, .* got torch.float64; .*inputs.to",
    ),
    "forward integers": (lambda: NETWORKS.forward(INPUTS.long()), r"got torch.int64; .*inputs.to\(torch.float32\)"),
    "forward array": (lambda: NETWORKS.forward(INPUTS.numpy()), "inputs expected a tensor, got a ndarray"),
    "module features": (lambda: NETWORKS.module()(torch.ones(5, 4)), r"expected inputs \(examples, 3\)"),
    "module double": (lambda: NETWORKS.module()(INPUTS.double()), "expected inputs in torch.float32"),
    "barrier modules": (lambda: wflib.barrier([MODULE] * 2, INPUTS, TARGETS), "barrier: networks expected Networks"),
    "barrier floats": (lambda: wflib.barrier(NETWORKS, INPUTS, TARGETS.float()), r"barrier: targets .*targets.long\(\)"),
    "barrier from one": (lambda: wflib.barrier(NETWORKS, INPUTS, TARGETS + 1), r"0 … 1 .*found 1 … 2; .*targets.min\(\)"),
    "barrier arrays": (lambda: wflib.barrier(NETWORKS, INPUTS, np.zeros(5, int)), "found a ndarray; .*torch.from_numpy"),
    "barrier inputs": (lambda: wflib.barrier(NETWORKS, INPUTS.numpy(), TARGETS), "barrier: inputs expected a tensor"),
    "barrier nothing": (lambda: wflib.barrier(NETWORKS, INPUTS[:0], TARGETS[:0]), "at least one example"),
    "predict array": (lambda: predict(NETWORKS, INPUTS.numpy()), "inputs expected a tensor, got a ndarray"),
    "losses floats": (lambda: network_losses(NETWORKS, Split(INPUTS, TARGETS.float())), r"float32; .*targets.long\(\)"),
    "write for a class": (lambda: wflib.zoo.write("mine", NETWORKS, module=nn.Linear), "make one, as MyNetwork"),
}
"""Call with what it does not take → what its sentence says."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_function_does_not_take_is_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()
    assert not list(tmp_path.iterdir())


def test_what_functions_take_they_still_take():
    """The negative controls of the table."""
    assert wflib.symmetries(MODULE, INPUTS).permutable == 4
    assert torch.equal(NETWORKS.forward(INPUTS), NETWORKS.module()(INPUTS.expand(3, 5, 3)))
    assert NETWORKS.to(torch.float64).forward(INPUTS.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert NETWORKS.forward(INPUTS.bfloat16()).shape == (3, 5, 2)
    assert len(wflib.align(NETWORKS, inputs=INPUTS.double())) == 3
    assert wflib.barrier(NETWORKS, INPUTS.double(), TARGETS).excess.isfinite().all()
