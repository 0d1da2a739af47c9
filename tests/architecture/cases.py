"""One tiny network for every operation and topology, with what is known of its groups: the table that laws run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wflib.architecture import Architecture, Weights
from wflib.networks import Networks
from wflib.rng import generator


class Wired(nn.Module):
    """Named parts, and a function that runs them."""

    def __init__(self, run: Callable, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


@dataclass(frozen=True)
class Case:
    """A module, its input, and the sizes of its groups, nested ones as (parents, members)."""

    module: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    groups: tuple[int | tuple[int, int], ...]
    scalings: tuple[tuple[int, str], ...]


def chain(*parts: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*parts)


def pooled(*parts: nn.Module, channels: int) -> Callable[[], nn.Module]:
    """A convolutional trunk, global means, and a linear head."""
    return chain(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


def conv(inputs: int, outputs: int, kernel: int = 3, **settings) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **settings)


def residual(m, x):
    x = m.stem(x)
    x = x + m.one(functional.relu(x))
    x = x + m.two(functional.relu(x))
    return m.head(functional.relu(x).mean((2, 3)))


def gated(m, x):
    x = functional.relu(m.stem(x))
    gate = torch.sigmoid(m.up(functional.relu(m.down(functional.adaptive_avg_pool2d(x, 1)))))
    return m.head((gate * x).mean((2, 3)))


def dense(m, x):
    x = m.stem(x)
    x = torch.cat([x, m.one(functional.relu(x))], 1)
    x = torch.cat([x, m.two(functional.relu(x))], 1)
    return m.head(functional.relu(x).mean((2, 3)))


def shuffled(m, x):
    x = functional.relu(m.stem(x))
    one, two = x.chunk(2, 1)
    x = torch.cat([one, functional.relu(m.branch(two))], 1)
    b, c, h, w = x.shape
    x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
    return m.head(functional.relu(m.last(x)).mean((2, 3)))


def transformer(m, x):
    x = m.patches(x).flatten(2).transpose(1, 2)
    x = torch.cat([m.token.expand(x.shape[0], -1, -1), x], 1) + m.positions
    y = m.norm1(x)
    x = x + m.attention(y, y, y, need_weights=False)[0]
    x = x + m.narrow(functional.gelu(m.wide(m.norm2(x))))
    return m.head(x[:, 0])


def written_attention(m, x):
    b, t, _ = x.shape
    x = m.embed(x)
    q, k, v = m.qkv(x).view(b, t, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
    logits = q @ k.transpose(-2, -1) * 3**-0.5 + m.table[m.places].view(t, t, 2).permute(2, 0, 1)
    y = (logits.softmax(-1) @ v).transpose(1, 2).reshape(b, t, 6)
    return m.head((x + m.out(y)).mean(1))


def twice(m, x):
    x = functional.relu(m.first(x))
    return m.last(functional.relu(m.shared(functional.relu(m.shared(x)))))


def layer_scaled(m, x):
    x = m.stem(x)
    y = m.depth(x).permute(0, 2, 3, 1)
    y = m.narrow(functional.gelu(m.wide(m.norm(y)))).permute(0, 3, 1, 2)
    return m.head((x + m.gamma * y).mean((2, 3)))


def gated_linear(m, x):
    a, b = m.both(x).chunk(2, -1)
    return m.last(functional.silu(a) * b)


def halves(m, x):
    x = m.first(x)
    return m.last(torch.cat([functional.relu(x[:, :3]), torch.tanh(x[:, 3:])], 1))


def two_writers(m, x):
    return m.last(functional.relu(m.one(x)) + torch.tanh(m.two(x)))


class Table(Wired):
    """Attention with a table of relative positions, as buffers and parameters."""

    def __init__(self) -> None:
        super().__init__(
            written_attention,
            embed=nn.Linear(3, 5),
            qkv=nn.Linear(5, 18),
            out=nn.Linear(6, 5),
            head=nn.Linear(5, 2),
            table=nn.Parameter(torch.zeros(7, 2)),
        )
        places = torch.arange(4)
        self.register_buffer("places", (places[:, None] - places + 3).reshape(-1))


CASES: dict[str, Case] = {
    "perceptron": Case(
        chain(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)),
        (3,),
        (5, 4),
        ((5, "positive"), (4, "sign")),
    ),
    "convolution": Case(
        pooled(conv(2, 5), nn.ReLU(), conv(5, 4), nn.ReLU(), channels=4),
        (2, 6, 6),
        (5, 4),
        ((5, "positive"), (4, "positive")),
    ),
    "strided-dilated": Case(
        pooled(
            nn.Conv2d(2, 5, 3, stride=2, padding=1, bias=False), nn.LeakyReLU(), nn.Conv2d(5, 4, 2, dilation=2), channels=4
        ),
        (2, 9, 9),
        (5, 4),
        ((5, "positive"), (4, "any")),
    ),
    "one-dimensional": Case(
        chain(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)), (2, 6), (5,), ((5, "positive"),)
    ),
    "three-dimensional": Case(
        chain(nn.Conv3d(1, 4, 2), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(4, 3)),
        (1, 3, 3, 3),
        (4,),
        ((4, "positive"),),
    ),
    "depthwise": Case(
        pooled(conv(2, 5), nn.ReLU(), conv(5, 5, groups=5), nn.ReLU6(), conv(5, 4, 1), channels=4),
        (2, 6, 6),
        (5, 4),
        ((5, "positive"), (4, "any")),
    ),
    "grouped": Case(
        pooled(conv(2, 6), nn.ReLU(), conv(6, 9, groups=3), nn.ReLU(), conv(9, 4), channels=4),
        (2, 5, 5),
        ((3, 2), (3, 3), 3, 4),
        ((6, "positive"), (9, "positive"), (4, "any")),
    ),
    "batch-norm": Case(
        pooled(conv(2, 5), nn.BatchNorm2d(5), nn.ReLU(), conv(5, 4), nn.BatchNorm2d(4, affine=False), channels=4),
        (2, 5, 5),
        (5, 4),
        ((5, "any"), (5, "positive"), (4, "positive")),
    ),
    "layer-norm": Case(chain(nn.Linear(3, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2)), (3,), (6,), ()),
    "rms-norm": Case(
        chain(nn.Linear(3, 6), nn.RMSNorm(6, eps=1e-6), nn.ReLU(), nn.Linear(6, 2)), (3,), (6,), ((6, "positive"),)
    ),
    "group-norm": Case(pooled(conv(2, 6), nn.GroupNorm(3, 6), nn.SiLU(), channels=6), (2, 5, 5), ((3, 2), 3), ()),
    "max-pool-flatten": Case(
        chain(conv(2, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 4), nn.ReLU(), nn.Linear(4, 2)),
        (2, 6, 6),
        (5, 4),
        ((5, "positive"), (4, "positive")),
    ),
    "residual": Case(
        lambda: Wired(residual, stem=conv(2, 5), one=conv(5, 5), two=conv(5, 5), head=nn.Linear(5, 3)),
        (2, 5, 5),
        (5,),
        ((5, "positive"),),
    ),
    "gate": Case(
        lambda: Wired(gated, stem=conv(2, 5), down=conv(5, 3, 1), up=conv(3, 5, 1), head=nn.Linear(5, 2)),
        (2, 5, 5),
        (5, 3),
        ((5, "positive"), (3, "positive")),
    ),
    "gated-linear": Case(
        lambda: Wired(gated_linear, both=nn.Linear(3, 10), last=nn.Linear(5, 2)), (3,), (5,), ((5, "any"),)
    ),
    "dense": Case(
        lambda: Wired(dense, stem=conv(2, 4), one=conv(4, 3), two=conv(7, 3), head=nn.Linear(10, 2)),
        (2, 5, 5),
        (4, 3, 3),
        ((4, "positive"), (3, "positive"), (3, "positive")),
    ),
    "channel-shuffle": Case(
        lambda: Wired(shuffled, stem=conv(2, 6), branch=conv(3, 3), last=conv(6, 4), head=nn.Linear(4, 2)),
        (2, 5, 5),
        (3, 3, 3, 4),
        ((3, "positive"), (3, "positive"), (3, "positive"), (4, "positive")),
    ),
    "transformer": Case(
        lambda: Wired(
            transformer,
            patches=nn.Conv2d(2, 8, 2, 2),
            token=nn.Parameter(torch.zeros(1, 1, 8)),
            positions=nn.Parameter(torch.zeros(1, 5, 8)),
            norm1=nn.LayerNorm(8),
            attention=nn.MultiheadAttention(8, 2, batch_first=True),
            norm2=nn.LayerNorm(8),
            wide=nn.Linear(8, 6),
            narrow=nn.Linear(6, 8),
            head=nn.Linear(8, 3),
        ),
        (2, 4, 4),
        (8, (2, 4), (2, 4), 2, 6),
        ((8, "any"), (8, "any"), (8, "any")),
    ),
    "relative-positions": Case(Table, (4, 3), (5, 2, (2, 3), (2, 3)), ((5, "any"), (6, "any"))),
    "layer-scale": Case(
        lambda: Wired(
            layer_scaled,
            stem=conv(2, 5),
            depth=conv(5, 5, groups=5),
            norm=nn.LayerNorm(5),
            wide=nn.Linear(5, 6),
            narrow=nn.Linear(6, 5),
            gamma=nn.Parameter(torch.zeros(5, 1, 1)),
            head=nn.Linear(5, 2),
        ),
        (2, 5, 5),
        (5, 6),
        ((5, "any"), (5, "any"), (5, "any")),
    ),
    "used-twice": Case(
        lambda: Wired(twice, first=nn.Linear(3, 5), shared=nn.Linear(5, 5), last=nn.Linear(5, 2)),
        (3,),
        (5,),
        ((5, "positive"),),
    ),
    "read-differently": Case(
        lambda: Wired(halves, first=nn.Linear(3, 6), last=nn.Linear(6, 2)), (3,), (3, 3), ((3, "positive"), (3, "sign"))
    ),
    "two-writers": Case(
        lambda: Wired(two_writers, one=nn.Linear(3, 5), two=nn.Linear(3, 5), last=nn.Linear(5, 2)), (3,), (5,), ()
    ),
}

NETWORKS, EXAMPLES = 3, 4


def traced(name: str) -> tuple[nn.Module, Architecture]:
    """The case's module in float64, and its architecture."""
    case = CASES[name]
    module = case.module().double().eval()
    return module, Architecture.from_module(module, torch.zeros(1, *case.inputs, dtype=torch.float64))


def random_weights(architecture: Architecture, networks: int = NETWORKS) -> Weights:
    """N(0, 1) weights, statistics among them; variances between 0.5 and 1.5."""
    random = generator(0, "weights")
    weights = {
        name: torch.randn(networks, *shape, generator=random, dtype=torch.float64) for name, shape in architecture.shapes
    }
    for operation in architecture.operations:
        if operation.kind == "batch_norm":
            weights[operation.variance] = 0.5 + weights[operation.variance].sigmoid()
    return weights


def random_networks(architecture: Architecture, networks: int = NETWORKS) -> Networks:
    """As :func:`random_weights` draws them."""
    return Networks(architecture, random_weights(architecture, networks))


def random_inputs(architecture: Architecture) -> Tensor:
    """Examples with N(0, 1) entries."""
    return torch.randn(EXAMPLES, *architecture.inputs, generator=generator(0, "inputs"), dtype=torch.float64)


def change(architecture: Architecture, a: Weights, b: Weights) -> float:
    """Largest change of an output, relative to the largest output."""
    inputs = random_inputs(architecture)
    one, other = architecture.forward(a, inputs), architecture.forward(b, inputs)
    return float((one - other).abs().max() / one.abs().max())
