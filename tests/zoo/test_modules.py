"""Classes of one's own are traced on examples of their kind, and inputs that they do not take are told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.networks.classes import Masked, Tokens
from tests.zoo import foreign
from wflib.networks import states_for
from wflib.zoo import inspect, read


class Mixed(nn.Module):
    """Whole numbers as buffers, one of which is looked up; its inputs are real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.last = nn.Embedding(3, 4), nn.Linear(4, 2)
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.register_buffer("off", torch.tensor([True, False, False, True]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(x + self.place(self.order)).masked_fill(self.off, 0.0)).mean(1)


TOKENS = torch.zeros(1, 4, dtype=torch.long)


@pytest.mark.parametrize(
    ("options", "example"),
    [
        ({"module": Tokens, "inputs": (4,)}, TOKENS),
        ({"module": lambda: (Tokens(), TOKENS)}, TOKENS),
        ({"module": lambda: (Tokens(), torch.zeros(1, 9, dtype=torch.long)), "inputs": (4,)}, TOKENS),
        ({"module": Mixed, "inputs": (3, 4)}, torch.zeros(1, 3, 4)),
        ({"module": Masked, "inputs": [4]}, torch.zeros(1, 4)),
    ],
)
def test_a_class_is_run_on_numbers_of_its_kind(options, example, tmp_path):
    kind = type(made[0]) if isinstance(made := options["module"](), tuple) else type(made)
    modules = [foreign.seeded(kind, seed) for seed in range(3)]
    foreign.state_dicts(tmp_path / "zoo", kind, 3)
    found = read(tmp_path / "zoo", **options)
    inputs = torch.randint(7, (5, *example.shape[1:]), generator=torch.Generator().manual_seed(0)).to(example.dtype)
    for ours, module in zip(found.networks.forward(inputs), modules, strict=True):
        torch.testing.assert_close(ours, module(inputs))
    for state, module in zip(states_for(found.networks, modules[1]), modules, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    assert "3 networks, 3 of them readable" in str(inspect(tmp_path / "zoo", module=lambda: (kind(), example)))


def test_masks_of_other_numbers_are_refused_with_the_file(tmp_path):
    foreign.state_dicts(tmp_path / "zoo", Mixed, 3)
    other = foreign.seeded(Mixed, 1)
    other.off[1] = True
    torch.save(other.state_dict(), tmp_path / "zoo/mlp_seed1.pt")
    with pytest.raises(ValueError, match=r"mlp_seed1\.pt: off is a constant of the class, but holds other numbers"):
        read(tmp_path / "zoo", module=Mixed, inputs=(3, 4))


def test_other_inputs_than_the_tensors_are_told(tmp_path):
    foreign.state_dicts(tmp_path / "zoo", count=3)
    for inputs in ((784,), (1, 28, 28)):
        assert len(read(tmp_path / "zoo", activation="relu", inputs=inputs)) == 3
    with pytest.raises(ValueError, match=r"zoo.read.inputs says .* is \(31,\), but the networks take \(784,\)"):
        read(tmp_path / "zoo", activation="relu", inputs=(31,))


@pytest.mark.parametrize(
    ("module", "inputs", "complaint"),
    [
        (Masked, (31,), r"Masked does not take inputs \(1, 31\) of torch.float32: mat1 .*Say the shape .* zoo.read.inputs"),
        (Tokens, (5,), r"Tokens does not take inputs \(1, 5\) of torch.float32: .*; of torch.int64: The size of tensor a"),
        (Masked, 4, r"zoo.read.inputs: expected the shape of one example, as \(30,\) or \(1, 28, 28\), got 4\."),
        (Masked, (0,), r"zoo.read.inputs: .* got \(0,\)"),
        (Masked, ("4",), r"zoo.read.inputs: .* got \('4',\)"),
        (Masked, None, "expected the shape of one example, to run the module on"),
    ],
)
def test_inputs_that_a_class_does_not_take_are_told(module, inputs, complaint, tmp_path):
    foreign.state_dicts(tmp_path / "zoo", module, 3)
    made = module().train()
    with pytest.raises(ValueError, match=complaint):
        read(tmp_path / "zoo", module=made, inputs=inputs)
    assert made.training
