"""A tiny zoo and flows on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wflib.architecture import mlp
from wflib.config import FlowConfig, TrainingConfig, VelocityConfig, ZooConfig
from wflib.flow import Coordinates, Flow
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo, train_zoo
from wflib.zoo import canonical_zoo as canonicalized


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    random = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        inputs = torch.randn(count, 5, generator=random)
        return Split(inputs, (inputs[:, 0] + inputs[:, 1] > 0).long())

    return Dataset("toy", "classification", 2, split(64), split(16), split(16))


@pytest.fixture(scope="session")
def zoo(dataset) -> Zoo:
    config = ZooConfig(
        seed=0,
        network="mlp",
        widths=[4, 3],
        activation="relu",
        networks=20,
        held_out=0.2,
        optimizer="adam",
        learning_rate=0.01,
        momentum=0.0,
        weight_decay=0.0,
        batch_size=16,
        epochs=4,
        skip_epochs=1,
        snapshot_every=4,
        init="normal",
        init_std=0.5,
        device="cpu",
    )
    trained = train_zoo(mlp([5, 4, 3, 2]), dataset, config)
    permutations = random_permutations(trained.architecture, len(trained), torch.Generator().manual_seed(1))
    networks = permute(trained.networks, permutations)
    return replace(trained, networks=networks, permutations=permutations, form="aligned")


@pytest.fixture(scope="session")
def canonical_zoo(zoo) -> Zoo:
    return canonicalized(zoo)


@pytest.fixture
def make_flow(zoo, canonical_zoo, dataset):
    """(geometry, settings) → an untrained flow and the zoo it works on."""

    def make(
        geometry: str = "euclidean",
        basis=None,
        kind: str = "neuron-tokens",
        identities: bool = False,
        directions: int = 0,
        gradient_examples: int = 0,
        preconditioning: str = "gaussian",
        **settings,
    ) -> tuple[Flow, Zoo]:
        config = FlowConfig(
            **{
                "geometry": geometry,
                "coupling": "independent",
                "time_distribution": "beta",
                "path_noise": 0.0,
                "renewal": 0.0,
                "prediction": "end-point",
                "condition": "none",
                **settings,
            }
        )
        velocity = VelocityConfig(
            kind=kind,
            dimension=8,
            edge_dimension=4,
            layers=1,
            heads=2,
            basis="none" if basis is None else "data",
            directions=directions,
            gradient_examples=gradient_examples,
            preconditioning=preconditioning,
            identities=identities,
        )
        source = zoo if geometry == "euclidean" else canonical_zoo
        coordinates, examples = Coordinates(source.architecture, basis), None
        if gradient_examples:
            inputs = coordinates.rotate_inputs(dataset.train.inputs[:gradient_examples])
            examples = Split(inputs, dataset.train.targets[:gradient_examples])
        torch.manual_seed(0)
        return Flow(config, velocity, coordinates, 0.5, examples=examples), source

    return make


@pytest.fixture
def training_config():
    """Settings → a short training run."""

    def make(**settings) -> TrainingConfig:
        return TrainingConfig(
            **{
                "seed": 0,
                "iterations": 12,
                "batch_size": 8,
                "optimizer": "adamw",
                "learning_rate": 0.01,
                "warmup": 2,
                "gradient_clip": 1.0,
                "ema_decay": 0.9,
                "loss": "standardized",
                "distance": "tangent",
                "condition_dropout": 0.2,
                "function_floor": 0.1,
                "distillation_iterations": 0,
                "precision": "float32",
                "compile": False,
                "validate_every": 6,
                "checkpoint_every": 4,
                "device": "cpu",
                **settings,
            }
        )

    return make


@pytest.fixture
def randomized():
    """Give every parameter of a module a random value: zero-initialized outputs would hide what they should show."""

    def randomize(module: torch.nn.Module) -> torch.nn.Module:
        random = generator(0, "randomized")
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
        return module

    return randomize
