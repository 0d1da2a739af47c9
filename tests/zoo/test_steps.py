"""A few steps of training from given weights, of every kind of network."""

from __future__ import annotations

import pytest
import torch

from tests.zoo.test_compiled_training import needs_compiler
from wflib.architecture import mlp, resnet
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.tasks import Split
from wflib.zoo import adam_steps, initialize, steps

KINDS = {
    f"{kind}-{task}": make(task)
    for task in ("classification", "regression")
    for kind, make in {
        "mlp": lambda task: mlp([64, 4, 2], task_type=task),
        "resnet": lambda task: resnet((1, 8, 8), [2, 3], 2, task_type=task),
    }.items()
}


@pytest.mark.parametrize("name", KINDS)
def test_steps_lower_the_loss_of_every_network(name):
    architecture, random = KINDS[name], generator(0, "steps")
    inputs = torch.randn(30, *architecture.inputs, generator=random)
    targets = torch.arange(30) % 2 if "classification" in name else torch.randn(30, 2, generator=random)
    split, start = Split(inputs, targets), initialize(architecture, 3, 0.3, random, "he")
    before, after = (network_losses(networks, split) for networks in adam_steps(start, split, [0, 15], 0.01))
    assert (after < before).all()


@needs_compiler
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", [name for name in KINDS if "resnet" in name])
def test_kernels_step_as_torch_does(name, batched, monkeypatch):
    architecture, random = KINDS[name], generator(0, "steps")
    inputs = torch.randn(37, *architecture.inputs, generator=random)
    targets = torch.arange(37) % 2 if "classification" in name else torch.randn(37, 2, generator=random)
    start = initialize(architecture, 3, 0.3, random, "he")
    batches = torch.randint(30, (9, 21), generator=random) if batched else None
    given = (start, Split(inputs, targets), [9, 0, 4, 9], 0.01, batches)
    by_kernels = adam_steps(*given)
    monkeypatch.setattr(steps, "torch_steps", lambda *_: pytest.fail("kernels were not taken"))
    adam_steps(*given)
    monkeypatch.undo()
    monkeypatch.setattr(steps, "compiled_steps", lambda *_: None)
    by_torch = adam_steps(*given)
    for found, expected in zip(by_kernels, by_torch, strict=True):
        torch.testing.assert_close(found.flat, expected.flat, rtol=1e-3, atol=1e-4)
    assert (by_torch[0].flat - by_torch[2].flat).abs().max() > 1e-3


@pytest.mark.parametrize("change", [lambda rows: rows.int(), lambda rows: rows - 20], ids=["int32", "from the end"])
def test_kernels_are_given_no_rows_but_those_that_there_are(change, monkeypatch):
    """They would read whatever lies there; torch takes these for the same rows, running statistics included."""
    architecture, random = KINDS["resnet-classification"], generator(0, "steps")
    split = Split(torch.randn(20, 1, 8, 8, generator=random), torch.arange(20) % 2)
    start, rows = initialize(architecture, 2, 0.3, random, "he"), torch.randint(20, (3, 7), generator=random)
    monkeypatch.setattr(steps, "compiled_steps", lambda *_: None)
    (expected,) = adam_steps(start, split, 3, 0.01, rows)
    (other,) = adam_steps(start, split, 3, 0.01, rows.flip(1) - 3)
    monkeypatch.undo()
    mixed = change(rows)
    mixed[0] = rows[0]
    (found,) = adam_steps(start, split, 3, 0.01, mixed)
    torch.testing.assert_close(found.flat, expected.flat)
    assert (other.flat - expected.flat).abs().max() > 1e-3


@pytest.mark.parametrize("row", [20, -21, 2**40])
@pytest.mark.parametrize("kind", ["mlp", "resnet"])
def test_rows_that_there_are_not_are_refused(kind, row):
    architecture = KINDS[f"{kind}-classification"]
    split = Split(torch.zeros(20, *architecture.inputs), torch.zeros(20, dtype=torch.int64))
    start, rows = initialize(architecture, 2, 0.3, generator(0, "steps"), "he"), torch.tensor([[0, 19]])
    adam_steps(start, split, 1, 0.01, rows)
    rows[0, 1] = row
    with pytest.raises(IndexError, match="out of bounds"):
        adam_steps(start, split, 1, 0.01, rows)
    with pytest.raises(ValueError, match="at least one example a batch, got none"):
        adam_steps(start, split, 1, 0.01, rows[:, :0])


def test_no_networks_are_refused():
    networks = Networks.from_flat(mlp([3, 2]), torch.zeros(2, 8))
    split = Split(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    assert len(adam_steps(networks, split, 1, 0.1)[0]) == 2
    with pytest.raises(ValueError, match="at least one network, got none"):
        adam_steps(networks[:0], split, 1, 0.1)
