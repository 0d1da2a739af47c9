"""A kernel density in the latent space of an autoencoder over tokens of weights."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn

from wflib.models.model import CoordinateModel, Evidence
from wflib.models.neural import TrainingSettings, build, restore, standardization, tensors_of, train
from wflib.models.noise import tensor_deviations
from wflib.networks import network_losses

__all__ = ["HyperRepresentation", "TokenAutoencoder"]


def token_transformer(inputs: int, outputs: int, tokens: int, width: int, layers: int, heads: int) -> nn.Sequential:
    """(batch, tokens, inputs) → (batch, tokens, outputs): learned positions, then layers of attention."""
    layer = [nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True) for _ in range(layers)]
    return nn.Sequential(nn.Linear(inputs, width), Positions(tokens, width), *layer, nn.Linear(width, outputs))


class Positions(nn.Module):
    """Adds to each token features (tokens, width) of its place."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.features = nn.Parameter(0.02 * torch.randn(tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) → the same."""
        return x + self.features


class TokenAutoencoder(nn.Module):
    """Flat vectors (batch, D) ↔ latents (batch, tokens, latent); tokens are slices of one length, the last filled with 0."""

    def __init__(self, dimension: int, token: int, latent: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.dimension, self.token, self.tokens = dimension, token, math.ceil(dimension / token)
        self.encoder = token_transformer(token, latent, self.tokens, width, layers, heads)
        self.decoder = token_transformer(latent, token, self.tokens, width, layers, heads)

    def encode(self, x: Tensor) -> Tensor:
        """(batch, D) → (batch, tokens, latent)."""
        filled = nn.functional.pad(x, (0, self.tokens * self.token - self.dimension))
        found: Tensor = self.encoder(filled.unflatten(1, (self.tokens, self.token)))
        return found

    def decode(self, z: Tensor) -> Tensor:
        """(batch, tokens, latent) → (batch, D)."""
        filled: Tensor = self.decoder(z)
        return filled.flatten(1)[:, : self.dimension]


class HyperRepresentation(CoordinateModel):
    """θ = mean + s dec(a_n + h w ε): kernels in latent space around the best training networks, a_n = enc((θ_n − mean) / s).

    min E ‖dec(enc(x)) − x‖²; s is one deviation per tensor; w are the deviations of the best ones' latents, h is Scott's
    n^(−1/5) of one dimension for 0.

    The recipe of Schürholt et al., "Hyper-representations as generative models" (2022), on tokens as in Schürholt, Mahoney
    and Borth, "Towards scalable and versatile weight space learning" (SANE, 2024).

    Kept: weights cut into tokens of one length with features of their place, a transformer from tokens to latents and one
    back, trained on reconstruction; kernels around the best 30 % by their loss on validation examples, for each latent
    dimension by itself (``independent: dimensions``), or for each token or whole networks at a time.

    Not kept, or this module's own choice: no contrastive term, no masked or permuted copies of weights, no windows of tokens
    (networks here are small), tokens cut from the flat vector, not row by row; sizes, Adam at a rate that falls to zero.
    """

    name, label, colour = "hyper-representation", "hyper-representation", "#7570B3"

    class Settings(TrainingSettings):
        """Tokens, autoencoder, training, density."""

        token: Annotated[int, Field(ge=1, strict=True, description="Weights of a token.")] = 32
        latent: Annotated[int, Field(ge=1, strict=True, description="Latents of a token.")] = 8
        width: Annotated[int, Field(ge=1, strict=True)] = 64
        layers: Annotated[int, Field(ge=1, strict=True, description="Of the encoder, and of the decoder.")] = 2
        heads: Annotated[int, Field(ge=1, strict=True)] = 4
        steps: Annotated[int, Field(ge=0, strict=True)] = 2_000
        best: Annotated[
            float, Field(gt=0, le=1, description="Share of training networks that have a kernel, two at least.")
        ] = 0.3
        bandwidth: Annotated[float, Field(ge=0, description="h, relative to the deviations; 0 for Scott's rule.")] = 0.0
        independent: Literal["dimensions", "tokens", "networks"] = Field(
            default="dimensions", description="What is drawn around a training network of its own."
        )

        @model_validator(mode="after")
        def heads_share_the_width(self) -> HyperRepresentation.Settings:
            """Refuse a width that heads cannot share."""
            if self.width % self.heads:
                raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
            return self

    settings: Settings

    @classmethod
    def autoencoder(cls, settings: Settings, dimension: int) -> TokenAutoencoder:
        """The network between flat vectors (batch, D) and latents."""
        sizes = (settings.token, settings.latent, settings.width, settings.layers, settings.heads)
        return TokenAutoencoder(dimension, *sizes)

    @classmethod
    def needs_examples(cls, settings: Settings) -> bool:
        return settings.best < 1

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        weights = evidence.space.encode(evidence.training.networks)
        mean, deviation = standardization(weights, tensor_deviations(evidence.space.architecture, weights))
        x = (weights - mean) / deviation
        network = build(lambda: cls.autoencoder(settings, x.shape[1]), x, generator)

        def loss(x: Tensor) -> Tensor:
            return (network.decode(network.encode(x)) - x).square().mean()

        train(network, loss, x, settings.steps, settings, generator)
        losses = network_losses(evidence.training.networks, evidence.validation, chunk=256)
        best = losses.argsort()[: max(2, math.ceil(settings.best * len(x)))]
        with torch.no_grad():
            latents = torch.cat([network.encode(part) for part in x[best].split(1024)])
        width = (settings.bandwidth or len(best) ** -0.2) * latents.std(0, correction=0)
        state = {"mean": mean, "deviation": deviation, "latents": latents, "width": width}
        return state | tensors_of(network, "autoencoder")

    @torch.no_grad()
    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, latents, device = self.state["mean"], self.state["latents"], generator.device
        tokens, size = latents.shape[1:]
        shape = {"dimensions": (tokens, size), "tokens": (tokens, 1), "networks": (1, 1)}[self.settings.independent]
        chosen = torch.randint(len(latents), (networks, *shape), generator=generator, device=device).to(latents.device)
        noise = torch.randn((networks, tokens, size), generator=generator, dtype=latents.dtype, device=device)
        z = latents.gather(0, chosen.expand(networks, tokens, size)) + self.state["width"] * noise.to(latents.device)
        network = restore(lambda: self.autoencoder(self.settings, len(mean)), self.state, "autoencoder")
        return mean + self.state["deviation"] * network.decode(z)
