"""Generative models of networks, all used alike: ``fit(zoo, task, settings, generator)``, ``draw(networks, generator)``.

Flows are one of them; the others are what a flow must beat. A model of your own is one file with a class, and its name in
``METHODS``: settings, figures and tables know it then.

>>> import torch
>>> from wflib.architecture import mlp
>>> from wflib.networks import Networks
>>> from wflib.tasks import TASKS
>>> from wflib.zoo import zoo_from_networks
>>> zoo = zoo_from_networks(Networks.from_flat(mlp([30, 4, 2]), torch.randn(40, 134)))
>>> model = METHODS["gaussian-diagonal"].fit(zoo, TASKS["wdbc"]())
>>> len(model.draw(5, torch.Generator().manual_seed(0)))
5
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wflib.config import Section, Settings, SettingsError
from wflib.models.average import Average, Interpolation
from wflib.models.chains import ChainModel, Hamiltonian, HamiltonianGradient, Langevin
from wflib.models.dropout import Dropout
from wflib.models.flat_flow import FlatFlow
from wflib.models.flow import FlowModel
from wflib.models.gaussian import DiagonalGaussian, FullGaussian, LowRankGaussian, PrincipalComponents
from wflib.models.hyper_representation import HyperRepresentation
from wflib.models.kernel_density import KernelDensity
from wflib.models.laplace import LastLayerLaplace
from wflib.models.latent_diffusion import LatentDiffusion
from wflib.models.mean_field import MeanField
from wflib.models.mixture import GaussianMixture
from wflib.models.model import CoordinateModel, Evidence, GenerativeModel
from wflib.models.noise import Memorizer, TrainingNoise, noised, tensor_deviations
from wflib.models.polish import LEARNING_RATES, Polished, best_learning_rate, polish, trained_further
from wflib.models.swag import Swag
from wflib.models.training import FewSteps, TrainedAnew
from wflib.storage import ArtifactError, load_artifact

__all__ = [
    "LEARNING_RATES",
    "METHODS",
    "ChainModel",
    "CoordinateModel",
    "Evidence",
    "FlowModel",
    "GenerativeModel",
    "Polished",
    "best_learning_rate",
    "check_methods",
    "load_model",
    "method_settings",
    "noised",
    "polish",
    "tensor_deviations",
    "trained_further",
]

METHODS: dict[str, type[CoordinateModel]] = {
    method.name: method
    for method in (
        Average,
        Interpolation,
        DiagonalGaussian,
        LowRankGaussian,
        FullGaussian,
        PrincipalComponents,
        GaussianMixture,
        KernelDensity,
        TrainingNoise,
        Memorizer,
        FewSteps,
        TrainedAnew,
        FlatFlow,
        LatentDiffusion,
        HyperRepresentation,
        Swag,
        Dropout,
        MeanField,
        LastLayerLaplace,
        Langevin,
        HamiltonianGradient,
        Hamiltonian,
    )
}
"""Name → model, all but flows, which the pipeline trains in a stage of its own."""


def method_settings(chosen: Mapping[str, Mapping[str, Any]], name: str) -> Section:
    """Settings of a method: its own defaults, and what was chosen otherwise.

    Args:
        chosen: Method → settings, the section ``models``.
        name: Of the method.

    Raises:
        SettingsError: No such method, or settings that it has not or cannot take.
    """
    if name not in METHODS:
        raise SettingsError(f"models: {name}: no such model; allowed: {', '.join(METHODS)}.")
    try:
        return METHODS[name].Settings.model_validate(chosen.get(name) or {})
    except ValidationError as error:
        said = "; ".join(
            ": ".join([*filter(None, [".".join(map(str, item["loc"]))]), f"{item['msg']}, got {item['input']!r}"])
            for item in error.errors()
        )
        raise SettingsError(f"models.{name}: {said}; allowed: {', '.join(METHODS[name].Settings.model_fields)}.") from error


def check_methods(settings: Settings) -> None:
    """Refuse models that do not exist, and settings that they have not, wherever the pipeline's settings name them.

    Raises:
        SettingsError: Says which.
    """
    for name in settings.models:
        method_settings(settings.models, name)
    wanted = {"sample.from": [settings.sample.source], "evaluate.models": settings.evaluate.models}
    for where, names in wanted.items():
        allowed = ["flow", *METHODS] if where == "sample.from" else list(METHODS)
        if unknown := [name for name in names if name not in allowed]:
            raise SettingsError(f"{where}: {unknown[0]}: no such model; allowed: {', '.join(allowed)}.")


def load_model(path: str | Path) -> CoordinateModel:
    """Read what a model's ``save`` wrote; flows are read by :func:`wflib.flow.load_flow`.

    Raises:
        ArtifactError: The file is damaged, no model, or one of a method that is not known here.
    """
    tensors, metadata = load_artifact(path, "model", stage="sample")
    name = metadata.pop("method", None)
    if name not in METHODS:
        raise ArtifactError(f"{path}: expected a model of one of {', '.join(METHODS)}, found {name!r}; update wflib.")
    return METHODS[name].read(path, tensors, metadata)
