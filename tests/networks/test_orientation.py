"""Which way round weights lie: refused where shapes and names leave it open, in networks of every kind, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, cnn
from wflib.networks import Networks

IMAGES = torch.randn(4, 3, 8, 8)
SEQUENCES = torch.randn(3, 5, 4)


class Square(nn.Module):
    """Convolutions whose kernels have one shape in any order of axes."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 3, 3), nn.Conv2d(3, outputs, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.c2(torch.relu(self.c1(inputs))).mean((2, 3))


class Attention(nn.Module):
    """Its weights are called in_proj_weight, which no prefix makes foreign."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(4, 8), nn.Linear(8, 3)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.embed(inputs)
        return self.out((hidden + self.attn(hidden, hidden, hidden, need_weights=False)[0]).mean(1))


class Backwards(nn.Module):
    """Runs its layers from last to first, as its own architecture says."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.ModuleList([nn.Linear(6, 4, bias=False), nn.Linear(4, 6, bias=False)])

    def forward(self, inputs: Tensor) -> Tensor:
        return self.fc[0](torch.relu(self.fc[1](inputs)))


def kernels(model: nn.Module) -> dict[str, Tensor]:
    """As others keep them: (height, width, inputs, outputs), under their name for it."""
    return {
        name.replace("weight", "kernel"): tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor
        for name, tensor in model.state_dict().items()
    }


def test_kernels_that_lie_the_other_way_round_are_refused():
    model = Square()
    architecture = Architecture.from_module(model, IMAGES)
    with pytest.raises(ValueError, match=r"whether c1.kernel, c2.kernel are \(outputs, inputs\) or transposed: both fit"):
        Networks.from_state_dicts(architecture, [kernels(model)])
    wide = Square(5)
    with pytest.raises(ValueError, match="transpose the weights"):
        Networks.from_state_dicts(Architecture.from_module(wide, IMAGES), [kernels(wide)])
    # not where names or shapes say it, nor where the caller does
    names = {"c1.kernel": "c1.weight", "c2.kernel": "c2.weight"}
    same = {name.replace("weight", "kernel"): tensor for name, tensor in model.state_dict().items()}
    for state, told in ((model.state_dict(), None), (same, names)):
        found = Networks.from_state_dicts(architecture, [state], names=told)
        torch.testing.assert_close(found.forward(IMAGES)[0], model(IMAGES))
    same = {name.replace("weight", "kernel"): tensor for name, tensor in wide.state_dict().items()}
    found = Networks.from_state_dicts(Architecture.from_module(wide, IMAGES), [same])
    torch.testing.assert_close(found.forward(IMAGES)[0], wide(IMAGES))


def test_convolutional_networks_of_foreign_names_are_read():
    architecture = cnn((1, 8, 8), [3, 4], 10)
    model, inputs = architecture.module(), torch.randn(4, 1, 8, 8)
    state = {name.replace("weight", "w").replace("bias", "b"): tensor for name, tensor in model.state_dict().items()}
    found = Networks.from_state_dicts(architecture, [state])
    torch.testing.assert_close(found.forward(inputs)[0], model(inputs))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model._orig_mod."])
def test_attention_is_read_under_prefixes(prefix):
    model = Attention().eval()
    architecture = Architecture.from_module(model, SEQUENCES)
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    found = Networks.from_state_dicts(architecture, [state])
    torch.testing.assert_close(found.forward(SEQUENCES)[0], model(SEQUENCES))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_layers_that_run_backwards_are_read_under_their_own_names_alone(prefix):
    model, inputs = Backwards(), torch.randn(5, 4)
    architecture = Architecture.from_module(model, inputs)
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    torch.testing.assert_close(Networks.from_state_dicts(architecture, [state]).forward(inputs)[0], model(inputs))
    with pytest.raises(ValueError, match=r"both fit|cannot tell"):
        Networks.from_state_dicts(architecture, [{name.replace("fc", "theirs"): one for name, one in state.items()}])
