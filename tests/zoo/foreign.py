"""Small folders of exactly the shapes in which others publish their zoos, and the plain modules that their networks are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

RUNS = ("NN_tune_trainable_00000_0", "NN_tune_trainable_00001_1", "NN_tune_trainable_00002_2", "NN_tune_trainable_00010_3")


class ListOfModules(nn.Module):
    """ModelZoos: everything in one list; with dropout, other places."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.module_list:
            x = part(x)
        return x


def cnn_small(channels: int = 1, act: Callable = nn.Tanh, dropout: bool = False) -> nn.Module:
    drop = [nn.Dropout(0.1)] if dropout else []
    return ListOfModules(
        nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), act(), *drop, nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), act(), *drop,
        nn.Conv2d(6, 4, 2), act(), nn.Flatten(), *drop, nn.Linear(36, 20), act(), *drop, nn.Linear(20, 10),
    )  # fmt: skip


def cnn_large() -> nn.Module:
    def block(*sizes: int) -> list[nn.Module]:
        return [nn.Conv2d(*sizes, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(0.1)]

    return ListOfModules(
        *block(3, 16), *block(16, 32), *block(32, 15), nn.Flatten(), nn.Linear(60, 20), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(20, 10),
    )  # fmt: skip


class GPTPerceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, 10), nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.relu(self.fc1(x)))


class GPTConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.relu(self.conv2(functional.relu(self.conv1(x)))).mean((2, 3)))


class Sines(nn.Module):
    """DWSNets' (``seq``) or NFN's (``net``) representation of a signal."""

    def __init__(self, outputs: int = 1, nfn: bool = False) -> None:
        super().__init__()
        layers = [nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, outputs)]
        self.nfn = nfn
        if nfn:
            self.net = nn.ModuleList([nn.ModuleDict({"linear": layers[0]}), nn.ModuleDict({"linear": layers[1]}), layers[2]])
        else:
            self.seq = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.nfn:
            return self.net[2](torch.sin(30 * self.net[1]["linear"](torch.sin(30 * self.net[0]["linear"](x)))))
        return self.seq[2](torch.sin(30 * self.seq[1](torch.sin(30 * self.seq[0](x))))) + 0.5


WILD = {
    "n_layers": 4, "n_classes": 10, "channels": [3, 4, 8, 4, 16], "kernel_size": [3, 5, 3, 3], "stride": [1] * 4,
    "padding": [1, 2, 1, 1], "residual": [-1, -1, 0, 1], "activation": ["relu", "tanh", "gelu", "leaky_relu"],
}  # fmt: skip


class Wild(nn.Module):
    def __init__(self, config: dict = WILD) -> None:
        super().__init__()
        self.config, sizes = config, zip(config["kernel_size"], config["stride"], config["padding"], strict=True)
        ends = zip(config["channels"], config["channels"][1:], strict=False)
        self.layers = nn.ModuleList(nn.Conv2d(*end, *size) for end, size in zip(ends, sizes, strict=True))
        self.fc = nn.Linear(config["channels"][-1], config["n_classes"])

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if (source := self.config["residual"][index]) >= 0:
                count = min(x.shape[1], outputs[source].shape[1])
                x = torch.cat([x[:, :count] + outputs[source][:, :count], x[:, count:]], 1)
            x = getattr(functional, self.config["activation"][index])(x)
            outputs.append(x)
        return self.fc(x.mean((2, 3)))


class SmallCNN(nn.Module):
    """Unterthiner's network, in torch's order of axes."""

    def __init__(self, act: Callable = functional.relu) -> None:
        super().__init__()
        self.act = act
        self.layers = nn.ModuleList(
            [nn.Conv2d(1, 16, 3, 2), nn.Conv2d(16, 16, 3, 2), nn.Conv2d(16, 16, 3, 2), nn.Linear(16, 10)]
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:3]:
            x = self.act(layer(x))
        return self.layers[3](x.mean((2, 3)))


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make().eval()


def modelzoo(
    folder: Path, make: Callable[[], nn.Module] = cnn_small, kind: str = "CNN", nlin: str = "tanh",
    epochs: tuple[int, ...] = (0, 5, 10), digits: int = 6, **settings: object,
) -> dict[str, nn.Module]:  # fmt: skip
    """Four models; returns every network by its name in a collection."""
    made = {}
    for number, run in enumerate(RUNS):
        home = folder / run
        home.mkdir(parents=True)
        (home / "params.json").write_text(json.dumps({"model::type": kind, "model::nlin": nlin, **settings}))
        lines = []
        for epoch in range(1, max(epochs) + 1):
            losses = dict.fromkeys(("test_loss", "validation_loss"), 2.0 - epoch / 10)
            lines.append({"training_iteration": epoch, "test_acc": epoch / 20 + number / 100, "train_acc": 0.5, **losses})
        (home / "result.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
        for epoch in epochs:
            place = home / f"checkpoint_{epoch:0{digits}d}"
            place.mkdir()
            network = made[f"{run}@{epoch}"] = seeded(make, 100 * number + epoch)
            torch.save(network.state_dict(), place / "checkpoints")
            torch.save(torch.optim.Adam(network.parameters()).state_dict(), place / "optimizer")
    (folder / "config.json").write_text("{}")
    return made


def gpt(
    folder: Path, make: Callable[[], nn.Module] = GPTPerceptron, runs: int = 4, checkpoints: int = 3, fused: bool = False
) -> dict[str, nn.Module]:
    import lmdb

    made, names = {}, [f"{run:06d}" for run in range(runs)]
    for group in [names] if fused else [[name] for name in names]:
        home, said = folder / "_".join(group), {}
        home.mkdir(parents=True)
        with lmdb.open(str(home), map_size=2**26) as database, database.begin(write=True) as transaction:
            for run in group:
                said[run] = {"checkpoints": {}, "metadata": {"optimal_test_loss": 0.1}}
                for place in range(checkpoints):
                    key = f"{run}/ep{place:03d}_it{40 * place:05d}.pt"
                    network = made[f"{run}@{place}"] = seeded(make, 100 * int(run) + place)
                    parts = list(network.state_dict().values())
                    transaction.put(key.encode(), torch.cat([p.flatten() for p in parts]).numpy().astype("<f4").tobytes())
                    transaction.put(f"{key}_arch".encode(), np.array([p.numel() for p in parts], "<f4").tobytes())
                    figures = {
                        "avg_train_loss": 1.0 - 0.1 * place,
                        "avg_test_loss": 1.0 - 0.1 * place,
                        "avg_test_err": 50.0 - 10 * place,
                    }
                    said[run]["checkpoints"][key] = figures
        (home / "runs.json").write_text(json.dumps(said if fused else said[group[0]]))
        (home / "DONE.txt").write_text("")
    return made


def small_cnn_zoo(folder: Path, activations: tuple[str, ...] = ("relu",), runs: int = 4) -> dict[str, nn.Module]:
    folder.mkdir(parents=True)
    made, rows, table = (
        {},
        [],
        ["step,test_accuracy,test_loss,train_accuracy,train_loss,config.activation,config.l2,modeldir"],
    )
    for run in range(runs):
        for step in (0, 20, 86):
            activation = activations[run % len(activations)]
            network = made[f"/models/{run}@{step}"] = seeded(
                lambda name=activation: SmallCNN(getattr(functional, name)), 100 * run + step
            )
            flat = []
            for layer in network.layers:
                axes = (2, 3, 1, 0) if layer.weight.ndim == 4 else (1, 0)
                flat += [layer.bias.flatten(), layer.weight.permute(axes).flatten()]
            rows.append(torch.cat(flat).detach().numpy())
            table.append(f"{step},{0.1 + step / 200},{2 - step / 100},0.5,1.0,{activation},0.001,/models/{run}")
    np.save(folder / "weights.npy", np.stack(rows).astype("float32"))
    sizes = {"conv2d": (3, 3, 1, 16), "conv2d_1": (3, 3, 16, 16), "conv2d_2": (3, 3, 16, 16), "dense": (16, 10)}
    lines, start = ["varname,start_idx,end_idx,shape"], 0
    for name, shape in sizes.items():
        for part, size in (("bias:0", shape[-1:]), ("kernel:0", shape)):
            end = start + int(np.prod(size))
            text = str(size).replace('"', "")
            lines.append(f'sequential/{name}/{part},{start},{end},"{text}"')
            start = end
    (folder / "layout.csv").write_text("\n".join(lines) + "\n")
    (folder / "metrics.csv.gz").write_bytes(gzip.compress("\n".join(table).encode()))
    return made


def inr(folder: Path, nfn: bool = False, outputs: int = 1, count: int = 6) -> dict[str, nn.Module]:
    made = {}
    for number in range(count):
        label = number % 3
        name = f"fashion_{label}s/net{number}" if nfn else f"mnist_png_training_{label}_{number}/sub/model_final"
        network = made[name] = seeded(lambda: Sines(outputs, nfn), number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), folder / f"{name}.pth")
    return made


def wild_park(folder: Path, configs: tuple[dict, ...] = (WILD,), runs: int = 4) -> dict[str, nn.Module]:
    made = {}
    for run in range(runs):
        config = configs[run % len(configs)]
        for step in (1, 3):
            place = folder / f"run_{run}" / f"checkpoint_{step:06d}"
            place.mkdir(parents=True)
            network = made[f"run_{run}@{step}"] = seeded(lambda config=config: Wild(config), 100 * run + step)
            content = {"model": network.state_dict(), "optimizer": {}, "config": config, "iteration": step}
            torch.save(content | {"last_result": {"test/acc": 0.3 + 0.1 * step}}, place / "checkpoint.pt")
    return made


class Perceptron(nn.Module):
    """DeepWeightFlow's: fc1, fc2, fc3."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.count = len(sizes) - 1
        for index, pair in enumerate(pairwise(sizes), 1):
            setattr(self, f"fc{index}", nn.Linear(*pair))

    def forward(self, x: Tensor) -> Tensor:
        for index in range(1, self.count):
            x = functional.relu(getattr(self, f"fc{index}")(x))
        return getattr(self, f"fc{self.count}")(x)


def mnist_perceptron(sizes: tuple[int, ...] = (784, 32, 32, 10)) -> nn.Module:
    return Perceptron(sizes)


def state_dicts(
    folder: Path, make: Callable[[], nn.Module] = mnist_perceptron, count: int = 6, name: str = "mlp_seed{}.pt"
) -> dict[str, nn.Module]:
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for number in range(count):
        file = folder / name.format(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        network = made[Path(name.format(number)).with_suffix("").as_posix()] = seeded(make, number)
        torch.save(network.state_dict(), file)
    return made


def hdf5(path: Path, turned: bool, sizes: tuple[int, ...] = (784, 16, 10), count: int = 6) -> dict[str, nn.Module]:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    made, rows = {}, []
    for number in range(count):
        network = made[str(number)] = seeded(lambda: mnist_perceptron(sizes), number)
        state = network.state_dict()
        weights = [t.T if turned else t for t in state.values() if t.ndim == 2]
        rows.append(torch.cat([t.flatten() for t in (*weights, *(t for t in state.values() if t.ndim == 1))]).numpy())
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset", data=np.stack(rows).astype("float32"))
    return made
