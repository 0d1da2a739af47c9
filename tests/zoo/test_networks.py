"""The section ``zoo`` says which network is trained, on examples in the shape that it takes."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.architecture.cases import Wired
from tests.zoo.test_training import recipe
from wflib.architecture import cnn, mlp, resnet, vit
from wflib.networks import Networks
from wflib.rng import generator, permutations, seed_of
from wflib.tasks import Dataset, Split
from wflib.zoo import load_zoo, network_for, save_zoo, train_zoo
from wflib.zoo.training import CACHED_ELEMENTS, networks_at_once

RANDOM = generator(0, "images")
IMAGES = torch.randn(30, 1, 4, 4, generator=RANDOM)
SPLIT = Split(IMAGES, (IMAGES[:, 0, 0].sum(-1) > 0).long())
DATA = Dataset("toy", "classification", 2, SPLIT, SPLIT, SPLIT)


def test_networks_are_those_that_the_recipe_names():
    expected = {
        ("mlp", (5,)): mlp([16, 5, 2]),
        ("cnn", (3, 4)): cnn((1, 4, 4), [3, 4], 2),
        ("cnn-batch-norm", (3, 4)): cnn((1, 4, 4), [3, 4], 2, norm="batch"),
        ("resnet", (3, 4)): resnet((1, 4, 4), [3, 4], 2),
        ("vit", (4, 5, 6)): vit((1, 4, 4), 4, [5, 6], 2, activation="relu"),
    }
    for (network, widths), architecture in expected.items():
        assert network_for(recipe(network=network, widths=list(widths)), DATA) == architecture
    mnist = Dataset("mnist", "classification", 2, *(Split(torch.zeros(2, 784), torch.zeros(2).long()),) * 3)
    assert network_for(recipe(network="cnn"), mnist).inputs == (1, 28, 28)
    ten = Dataset("mnist", "classification", 10, *(Split(torch.zeros(2, 784), torch.zeros(2).long()),) * 3)
    small = network_for(recipe(network="cnn-s", widths=[8, 6, 4, 20], activation="tanh"), ten)
    module, images = published(), torch.randn(3, 1, 28, 28, generator=generator(1, "images"))
    networks = Networks.from_state_dicts(small, [module.state_dict()])
    assert small.dimension == 2464
    torch.testing.assert_close(networks.forward(images)[0], module(images))
    assert network_for(recipe(), mnist).inputs == (784,)


def test_a_network_for_images_on_features_is_refused():
    flat = Dataset("table", "classification", 2, *(Split(IMAGES.flatten(1), SPLIT.targets),) * 3)
    for network in ("cnn", "resnet", "vit"):
        with pytest.raises(ValueError, match=r"table: expected images .*, found examples \(16,\); choose zoo.network: mlp"):
            network_for(recipe(network=network, widths=[4, 4]), flat)
    with pytest.raises(ValueError, match=r"cnn: convolution 3 .* leaves nothing of images \(1, 4, 4\)"):
        network_for(recipe(network="cnn", widths=[2, 2, 2]), DATA)


def published() -> nn.Module:
    """The small network of public zoos, with our names."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 8, 5), pool1=nn.MaxPool2d(2), act1=nn.Tanh(), conv2=nn.Conv2d(8, 6, 5),
            pool2=nn.MaxPool2d(2), act2=nn.Tanh(), conv3=nn.Conv2d(6, 4, 2), act3=nn.Tanh(), flat=nn.Flatten(),
            linear1=nn.Linear(36, 20), act4=nn.Tanh(), linear2=nn.Linear(20, 10),
        )
    )  # fmt: skip


def convolutional() -> nn.Module:
    return Wired(
        lambda m, x: m.linear1(torch.relu(functional.max_pool2d(m.conv1(x), 2)).flatten(1)),
        conv1=nn.Conv2d(1, 3, 3, padding=1),
        linear1=nn.Linear(12, 2),
    )


def normed() -> nn.Module:
    def run(m, x):
        x = torch.relu(functional.max_pool2d(m.norm1(m.conv1(x)), 2))
        return m.linear1(torch.relu(m.norm2(m.conv2(x))).mean((2, 3)))

    return Wired(
        run,
        conv1=nn.Conv2d(1, 3, 3, padding=1, bias=False),
        norm1=nn.BatchNorm2d(3),
        conv2=nn.Conv2d(3, 4, 3, padding=1, bias=False),
        norm2=nn.BatchNorm2d(4),
        linear1=nn.Linear(4, 2),
    )


@pytest.mark.parametrize("optimizer", [{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1}])
@pytest.mark.parametrize(
    ("module", "architecture"),
    [
        (convolutional, cnn((1, 4, 4), [3], 2)),
        (normed, cnn((1, 4, 4), [3, 4], 2, norm="batch", pools=[2, 1], head="mean")),
    ],
    ids=["plain", "batch norm"],
)
def test_a_network_in_a_zoo_is_a_module_alone_in_training_mode(module, architecture, optimizer, tmp_path):
    config = recipe(networks=3, snapshot_every=1, init="he", **optimizer)
    zoo = train_zoo(architecture, DATA, config)
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    assert torch.equal(load_zoo(tmp_path / "zoo.safetensors", "trained").networks.flat, zoo.networks.flat)
    assert zoo.metadata["init"] == "he"
    assert zoo.init_std is None
    seeds = [seed_of(config.seed, "zoo", "shuffle", epoch) for epoch in range(config.epochs)]
    orders = [permutations(seed, torch.arange(3), 30) for seed in seeds]
    for network in range(3):
        alone = module().train()
        alone.load_state_dict({name: tensor[network] for name, tensor in zoo.initial.weights.items()}, strict=False)
        options = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        descent = (
            torch.optim.Adam(alone.parameters(), **options)
            if config.optimizer == "adam"
            else torch.optim.SGD(alone.parameters(), momentum=config.momentum, **options)
        )
        for order in orders:
            for chosen in order[network].split(8)[:3]:
                descent.zero_grad()
                functional.cross_entropy(alone(IMAGES[chosen]), SPLIT.targets[chosen]).backward()
                descent.step()
        last = zoo.last_snapshots
        for name, tensor in last.weights.items():
            torch.testing.assert_close(tensor[network], alone.state_dict()[name], rtol=1e-3, atol=1e-4)
        evaluated = alone.eval()(IMAGES)
        ours = architecture.forward(last[network : network + 1].weights, IMAGES)[0]
        torch.testing.assert_close(ours, evaluated, rtol=1e-3, atol=1e-3)
    for name in architecture.statistics:
        assert not torch.equal(zoo.initial.weights[name][0], zoo.weights[name][0])
        assert not torch.allclose(last.weights[name][0], last.weights[name][1])


def test_networks_are_trained_in_parts_that_fit_a_cache():
    sizes = {"features": (mlp([16, 500, 2]), 16), "channels": (cnn((1, 4, 4), [3, 4], 2), 3 * 4 * 4)}
    for architecture, numbers in sizes.values():
        assert networks_at_once(architecture, 8) == CACHED_ELEMENTS // (8 * numbers)
    assert networks_at_once(mlp([16, 2]), 10**9) == 1


def test_networks_of_every_kind_learn_images():
    for network, widths in (("mlp", [5]), ("cnn", [4]), ("resnet", [4, 4]), ("vit", [4, 6])):
        config = recipe(network=network, widths=widths, init="torch", epochs=20, skip_epochs=19)
        architecture = network_for(config, DATA)
        data = DATA.for_networks(architecture, "here")
        zoo = train_zoo(architecture, data, config)
        outputs = architecture.forward(zoo.last_snapshots.weights, data.train.inputs)
        assert float((outputs.argmax(-1) == data.train.targets).float().mean()) > 0.8
