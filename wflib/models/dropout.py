"""Monte-Carlo dropout: networks trained with dropped hidden neurons, and drawn with some dropped."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from wflib.architecture import Architecture, Weights, is_perceptron
from wflib.models.model import Evidence, one_of
from wflib.models.training import RecipeSettings, TrainedByRecipe
from wflib.networks import Networks, batch_losses
from wflib.zoo import initialize, minibatches
from wflib.zoo.training import build_optimizer

__all__ = ["Dropout", "with_dropped_neurons"]


def with_dropped_neurons(networks: Networks, rate: float, generator: Generator) -> Weights:
    """Weights of perceptrons some of whose hidden neurons are dropped, those of each network at random.

    The outgoing weights of a dropped neuron are zero, of the others they are divided by 1 − p, so that the expected input of
    the next layer stays what it is.

    Args:
        networks: Perceptrons.
        rate: p, the probability of dropping a neuron.
        generator: Draws which.

    Returns:
        Tensors (networks, *shape), differentiable in the weights.
    """
    architecture, found = networks.architecture, dict(networks.weights)
    for layer in architecture.layers[1:]:
        weight = found[layer.weight]
        shape = (len(networks), 1, weight.shape[2])
        kept = torch.rand(shape, generator=generator, device=generator.device) >= rate
        found[layer.weight] = weight * (kept.to(weight) / (1 - rate))
    return found


class Dropout(TrainedByRecipe):
    """A network trained by the zoo's recipe with dropout, with other neurons dropped in each draw (Gal & Ghahramani 2016).

    Neurons are dropped for a whole mini-batch, which leaves the objective what it is, the expected loss of networks with
    dropped neurons. There are several such networks; a draw is made of a random one.
    """

    name, label, colour = "mc-dropout", "MC dropout", "#BBBBBB"

    class Settings(RecipeSettings):
        """Networks, and how many neurons are dropped."""

        runs: Annotated[int, Field(ge=1, strict=True, description="Networks trained.")] = 16
        rate: Annotated[float, Field(ge=0, lt=1, description="p, of all hidden neurons.")] = 0.1

    settings: Settings

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        ordinary, recipe, train = evidence.space.architecture.ordinary_form(), settings.known_recipe, evidence.train
        require_hidden_neurons(ordinary)
        start = initialize(ordinary, settings.runs, recipe.init_std, generator, recipe.init).to(train.inputs.device)
        networks = start.map(lambda tensor: tensor.clone().requires_grad_())
        optimizer = build_optimizer(recipe, list(networks.weights.values()))
        batches = minibatches(train, settings.runs, recipe.batch_size, generator)
        for _ in range(recipe.epochs * max(1, len(train.targets) // recipe.batch_size)):
            loss, _ = batch_losses(ordinary, with_dropped_neurons(networks, settings.rate, generator), next(batches))
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
        if not bool(torch.isfinite(networks.flat).all()):
            raise ValueError(f"mc-dropout: a network diverged; lower zoo.learning_rate ({recipe.learning_rate}).")
        return {"trained": networks.flat.detach()}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        trained, ordinary = self.state["trained"], self.space.architecture.ordinary_form()
        chosen = Networks.from_flat(ordinary, trained[one_of(trained, networks, generator)])
        dropped = with_dropped_neurons(chosen, self.settings.rate, generator)
        return self.space.encode(chosen.with_weights(dropped))


def require_hidden_neurons(architecture: Architecture) -> None:
    """Refuse networks whose neurons cannot be dropped by their outgoing weights.

    Raises:
        ValueError: No perceptron, or one without hidden neurons.
    """
    if not is_perceptron(architecture):
        raise ValueError(
            "mc-dropout: expected a perceptron, whose hidden neurons are dropped by their outgoing weights; got another "
            "network: choose swag or mean-field."
        )
    if len(architecture.layers) < 2:
        raise ValueError("mc-dropout: expected hidden neurons to drop, got a network without any; choose mean-field.")
