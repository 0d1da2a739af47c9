"""Classes with buffers and tied tensors, which a state dict has beside the weights."""

from __future__ import annotations

import torch
from torch import nn


class Masked(nn.Module):
    """A perceptron with a buffer that its forward uses."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 5), nn.Linear(5, 2)
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 0.3, 1.0, 1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(x)) * self.mask)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 4)
        self.fc2.weight = self.fc1.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.tanh(self.fc1(x)))


class Tokens(nn.Module):
    """Tied tensors, and a table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.middle, self.out = nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 7, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("position", torch.linspace(-1, 1, 20).view(4, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.middle(self.embedding(x) + self.position))).mean(1)
