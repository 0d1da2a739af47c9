"""A denoising diffusion in the latent space of an autoencoder of flat weights."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn

from wflib.models.model import CoordinateModel, Evidence, standard_normal
from wflib.models.neural import (
    TimedPerceptron,
    TrainingSettings,
    build,
    perceptron,
    restore,
    standardization,
    tensors_of,
    train,
)

__all__ = ["LatentDiffusion"]

SIGNAL_LEFT = 0.01
"""The most of the data's variance that may be left where draws start from noise alone."""


def signal_shares(steps: int, low: float, high: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """β_t, linear from ``low`` to ``high``, and ᾱ_t = Π_{s ≤ t} (1 − β_s): (steps,) each."""
    beta = torch.linspace(low, high, steps, dtype=torch.float64)
    return beta.to(like), (1 - beta).cumprod(0).to(like)


class LatentDiffusion(CoordinateModel):
    """θ = mean + s dec(z), z from a diffusion that was trained on z_n = enc((θ_n − mean) / s).

    Autoencoder: min E ‖dec(enc(x + σ_x ξ) + σ_z ζ) − x‖². Diffusion: z_t = √ᾱ_t z + √(1 − ᾱ_t) ε, min E ‖ε̂(z_t, t) − ε‖².
    Drawn by z ← (z − β_t ε̂ / √(1 − ᾱ_t)) / √(1 − β_t) + √(β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t)) ξ from t = T down.

    The recipe of Wang et al., "Neural network diffusion" (p-diff, 2024).

    Kept: flat standardized weights; an autoencoder with noise on its input (0.001) and its latents (0.1), then a diffusion
    in the latents, trained after it: prediction of noise, 1,000 steps, β linear from 10⁻⁴ to 0.02.

    Not kept, or this module's own choice: perceptrons in place of stacks of one-dimensional convolutions, and their sizes;
    fewer steps of training, Adam at a rate that falls to zero, and a moving average of the denoiser; latents standardized
    before the diffusion; whole aligned networks of many runs, where theirs were parts of networks of one run.
    """

    name, label, colour = "latent-diffusion", "latent diffusion", "#E7298A"

    class Settings(TrainingSettings):
        """Autoencoder, diffusion, training of both."""

        latent: Annotated[int, Field(ge=1, strict=True, description="Dimension of the latent space.")] = 64
        width: Annotated[int, Field(ge=1, strict=True, description="Hidden neurons of each layer, two in each network.")] = (
            256
        )
        input_noise: Annotated[float, Field(ge=0, allow_inf_nan=False, description="σ_x.")] = 0.001
        latent_noise: Annotated[float, Field(ge=0, allow_inf_nan=False, description="σ_z.")] = 0.1
        autoencoder_steps: Annotated[int, Field(ge=0, strict=True)] = 5_000
        steps: Annotated[int, Field(ge=0, strict=True, description="Of training the diffusion.")] = 10_000
        ema_decay: Annotated[float, Field(ge=0, lt=1, description="Of the denoiser.")] = 0.999
        diffusion_steps: Annotated[int, Field(ge=2, strict=True, description="T.")] = 1_000
        beta: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=0, lt=1)]] = (1e-4, 0.02)

        @model_validator(mode="after")
        def noise_is_the_end(self) -> LatentDiffusion.Settings:
            """Refuse diffusions that end before they are noise, from which draws start."""
            left = signal_shares(self.diffusion_steps, *self.beta, torch.zeros(()))[1][-1].item()
            if left > SIGNAL_LEFT:
                raise ValueError(
                    f"diffusion_steps ({self.diffusion_steps}) and beta {self.beta} end at ᾱ_T = {left:.2g}, expected "
                    f"{SIGNAL_LEFT} at most; raise one of them"
                )
            return self

    settings: Settings

    @classmethod
    def networks(cls, settings: Settings, dimension: int) -> dict[str, nn.Module]:
        """Encoder, decoder and denoiser of flat vectors (batch, D)."""
        latent, hidden = settings.latent, [settings.width] * 2
        return {
            "encoder": perceptron([dimension, *hidden, latent]),
            "decoder": perceptron([latent, *hidden, dimension]),
            "denoiser": TimedPerceptron(latent, settings.width, 2),
        }

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        weights = evidence.space.encode(evidence.training.networks)
        mean, deviation = standardization(weights)
        x = (weights - mean) / deviation
        networks = build(lambda: nn.ModuleDict(cls.networks(settings, x.shape[1])), x, generator)
        encoder, decoder, denoiser = (networks[name] for name in ("encoder", "decoder", "denoiser"))

        def reconstruction(x: Tensor) -> Tensor:
            z = encoder(x + settings.input_noise * standard_normal(len(x), x, generator))
            found: Tensor = decoder(z + settings.latent_noise * standard_normal(len(z), z, generator))
            return (found - x).square().mean()

        train(nn.ModuleList([encoder, decoder]), reconstruction, x, settings.autoencoder_steps, settings, generator)
        with torch.no_grad():
            z = encoder(x)
        centre, width = standardization(z)
        share = signal_shares(settings.diffusion_steps, *settings.beta, z)[1]

        def noise_error(z: Tensor) -> Tensor:
            t = torch.randint(len(share), (len(z),), generator=generator, device=generator.device).to(z.device)
            noise, kept = standard_normal(len(z), z, generator), share[t, None]
            found: Tensor = denoiser(kept.sqrt() * z + (1 - kept).sqrt() * noise, t / len(share))
            return (found - noise).square().mean()

        train(denoiser, noise_error, (z - centre) / width, settings.steps, settings, generator, settings.ema_decay)
        state = {"mean": mean, "deviation": deviation, "centre": centre, "width": width}
        return state | tensors_of(decoder, "decoder") | tensors_of(denoiser, "denoiser")

    @torch.no_grad()
    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, centre = self.state["mean"], self.state["centre"]
        decoder = restore(lambda: self.networks(self.settings, len(mean))["decoder"], self.state, "decoder")
        denoiser = restore(lambda: self.networks(self.settings, len(mean))["denoiser"], self.state, "denoiser")
        beta, share = signal_shares(self.settings.diffusion_steps, *self.settings.beta, centre)
        before = torch.cat([torch.ones_like(share[:1]), share[:-1]])
        spread = (beta * (1 - before) / (1 - share)).sqrt()  # of z_{t−1} given z_t and z; none at the last step
        z = standard_normal(networks, centre, generator)
        for t in reversed(range(len(beta))):
            noise = denoiser(z, z.new_full((networks,), t / len(beta)))
            z = (z - beta[t] / (1 - share[t]).sqrt() * noise) / (1 - beta[t]).sqrt()
            z = z + spread[t] * standard_normal(networks, z, generator)
        drawn: Tensor = decoder(centre + self.state["width"] * z)
        return mean + self.state["deviation"] * drawn
