"""Settings of flows and of the networks that predict where they go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wflib.config.base import Count, Fraction, NonNegative, Section

__all__ = ["FlowConfig", "VelocityConfig", "require_start_from_prior"]


class FlowConfig(Section):
    """Which flow is learned."""

    geometry: Literal["euclidean", "normalized", "geometric"] = Field(
        description="Flat space; flat space of canonical weights, put back to norm one at the end; the product of spheres."
    )
    coupling: Literal["independent", "ot", "equivariant-ot", "initialization"] = Field(
        description="Which x_0 goes to which x_1: any; by transport in a batch; so modulo permutations; own initial weights."
    )
    renewal: Fraction = Field(
        description="Share of initial weights' variance drawn anew at every use of a pair (initialization): 0 for none; "
        "near 1, pairs are independent. Of few trajectories a flow else learns the beginnings by heart."
    )
    time_distribution: Literal["beta", "uniform"] = Field(description="t ~ Beta(1, 2) or uniform.")
    path: Literal["straight", "training"] = Field(
        "straight",
        description="x_t goes straight from x_0 to x_1, or from x_0 through the early snapshots of the run of x_1.",
    )
    path_noise: NonNegative = Field(
        description="Deviation σ of noise that moves both ends of a path: prior and samples are blurred by it."
    )
    prediction: Literal["end-point", "velocity"] = Field(description="What the network predicts: x̂_1, or the velocity.")
    condition: Literal["none", "loss", "accuracy", "step"] = Field(
        description="Figure that samples can be asked for: on training examples, or of the steps that a network was trained."
    )

    @model_validator(mode="after")
    def velocity_of_a_bent_path(self) -> FlowConfig:
        """Where a bent path ends does not say where it goes, and path noise moves ends only."""
        if self.path == "training" and (self.prediction, self.path_noise) != ("velocity", 0):
            raise ValueError(
                f"path: training needs prediction: velocity and path_noise: 0, got {self.prediction} and {self.path_noise}"
            )
        return self


class VelocityConfig(Section):
    """The network that predicts where a flow goes."""

    kind: Literal["neuron-tokens", "relational-transformer", "pna"] = Field(
        description="Attention between neurons; attention along edges, which have features; sums along edges."
    )
    dimension: Annotated[int, Field(ge=4, strict=True, description="Features of a neuron.")]
    edge_dimension: Annotated[int, Field(ge=4, strict=True, description="Features of an edge (neuron-tokens).")]
    layers: Count = Field(description="Rounds of messages.")
    heads: Count = Field(description="Attention heads, or towers of pna.")
    identities: Annotated[bool, Field(strict=True)] = Field(
        description="Whether hidden neurons have embeddings and statistics of their own, which breaks permutation symmetry."
    )
    basis: Literal["none", "data"] = Field(description="Axes of first-layer weights: inputs, or their second moment's.")
    directions: Annotated[int, Field(ge=0, strict=True)] = Field(
        description="Leading input directions that the network sees and predicts; 0 for all. Others stay Gaussian."
    )
    gradient_examples: Annotated[int, Field(ge=0, strict=True)] = Field(
        description="Training examples whose loss' gradient at x_t the network sees beside x_t, all at most; 0 for none."
    )
    preconditioning: Literal["gaussian", "none"] = Field(
        default="gaussian",
        description="What the network adds to: a Gaussian model's prediction, in its units; none: it predicts x_1.",
    )

    @model_validator(mode="after")
    def heads_divide(self) -> VelocityConfig:
        """Every head gets the same number of features."""
        if self.dimension % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide dimension ({self.dimension})")
        return self

    @model_validator(mode="after")
    def all_are_predicted(self) -> VelocityConfig:
        """Directions that the network does not predict are the Gaussian model's."""
        if self.preconditioning == "none" and self.directions:
            raise ValueError(
                f"preconditioning: none needs directions: 0, got {self.directions}; others would be predicted as 0"
            )
        return self


def require_start_from_prior(flow: FlowConfig, velocity: VelocityConfig) -> None:
    """Refuse couplings whose x_0 is no draw from the prior for a network that knows neurons by identity.

    Two couplings order the neurons of x_0 by x_1. Modulo permutations x_0 is still a draw from the prior, which is all that
    an equivariant network sees. With one random order for both ends x_0 would be a draw for every network, but the zoo would
    not be aligned any more, and identities would say nothing.

    Raises:
        ValueError: Names both settings and what to choose instead.
    """
    ordered = {
        "equivariant-ot": "permutes the neurons of the prior's draws to match each network's",
        "initialization": "permutes the neurons of each network's initial weights as alignment did those of the network",
    }
    if velocity.identities and flow.coupling in ordered:
        raise ValueError(
            f"flow.coupling: {flow.coupling} {ordered[flow.coupling]}, which velocity.identities: true would see: x_0 is "
            "then no draw from the prior; choose flow.coupling: independent or ot, or velocity.identities: false"
        )
