"""One frozen model per section of ``params.yaml``: types, ranges, and what goes together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AlignConfig",
    "CanonicalizeConfig",
    "EvaluateConfig",
    "FlowConfig",
    "SampleConfig",
    "Section",
    "Settings",
    "TrainingConfig",
    "VelocityConfig",
    "ZooConfig",
]

Count = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]


Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Time = Annotated[float, Field(ge=0, le=1, strict=True)]


class Section(BaseModel):
    """Settings that belong together: frozen, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ZooConfig(Section):
    """How base networks are trained."""

    seed: Seed
    network: Literal["mlp", "cnn", "resnet", "vit"] = Field(description="What kind of network; all but mlp take images.")
    widths: Annotated[list[Count], Field(min_length=1)] = Field(
        description="Neurons of each hidden layer; cnn: channels of each convolution; resnet: channels of each block; "
        "vit: features of a token, then hidden neurons of each block."
    )
    activation: Literal["relu", "leaky_relu", "tanh", "softsign", "gelu", "silu", "smooth_relu", "identity"]
    networks: Annotated[int, Field(ge=2, strict=True, description="Training runs, two at least: one may be held out.")]
    held_out: Annotated[float, Field(gt=0, lt=1, strict=True, description="Share of training runs that no flow sees.")]
    sampler: Literal["optimizer", "sgld", "hmc"] = Field(
        default="optimizer", description="Train networks, or draw them from the posterior by chains (needs wflib[bayes])."
    )
    optimizer: Literal["adam", "sgd"]
    learning_rate: Positive
    momentum: Fraction
    weight_decay: NonNegative
    batch_size: Count
    epochs: Count
    skip_epochs: Annotated[int, Field(ge=0, strict=True, description="Epochs before the first snapshot.")]
    snapshot_every: Count = Field(description="Iterations between two snapshots.")
    init: Literal["normal", "torch", "he", "glorot"] = Field(
        description="Deviation of initial weights: init_std for all, or of each tensor by its sizes."
    )
    init_std: Positive = Field(description="Standard deviation of initial weights with init: normal, the flows' prior too.")
    device: Device

    @model_validator(mode="after")
    def leaves_snapshots(self) -> ZooConfig:
        """Some epochs must be left after the skipped ones."""
        if self.skip_epochs >= self.epochs:
            raise ValueError(f"skip_epochs ({self.skip_epochs}) must be smaller than epochs ({self.epochs})")
        return self

    @model_validator(mode="after")
    def has_a_prior(self) -> ZooConfig:
        """A posterior needs a prior of positive deviations, N(0, init_std²)."""
        if self.sampler != "optimizer" and self.init != "normal":
            raise ValueError(f"sampler: {self.sampler} needs init: normal, the prior N(0, init_std²); got {self.init}")
        return self

    @model_validator(mode="after")
    def enough_widths(self) -> ZooConfig:
        """A transformer has features and at least one block."""
        if self.network == "vit" and len(self.widths) < 2:
            raise ValueError(f"network: vit needs widths of a token and of at least one block, got {self.widths}")
        return self


class AlignConfig(Section):
    """How networks are aligned to one reference."""

    seed: Seed
    method: Literal["none", "weight-matching", "activation-matching", "sinkhorn"]
    objective: Literal["l2", "midpoint", "random-point"] = Field(description="What sinkhorn makes small.")
    reference: Literal["first", "best", "medoid", "mean"] = Field(description="The network that others are brought to.")
    restarts: Count = Field(description="Starts of weight matching, whose answer sinkhorn starts from.")
    iterations: Count = Field(description="Steps of sinkhorn's descent.")


class CanonicalizeConfig(Section):
    """How scalings of neurons are removed."""

    norm: Literal["weights-and-bias", "weights"] = Field(
        description="What of a neuron's incoming weights has norm one: with the bias, or without it as in the thesis."
    )


class FlowConfig(Section):
    """Which flow is learned."""

    geometry: Literal["euclidean", "normalized", "geometric"]
    coupling: Literal["independent", "ot", "equivariant-ot", "initialization"]
    time_distribution: Literal["beta", "uniform"] = Field(description="t ~ Beta(1, 2) or uniform.")
    path_noise: NonNegative = Field(description="Standard deviation σ of noise added to x_t.")
    prediction: Literal["end-point", "velocity"] = Field(description="What the network predicts: x̂_1, or the velocity.")
    condition: Literal["none", "loss", "accuracy"] = Field(
        description="Figure of a network on training examples that samples can be asked for."
    )


class VelocityConfig(Section):
    """The network that predicts where a flow goes."""

    kind: Literal["neuron-tokens", "relational-transformer", "pna"]
    dimension: Annotated[int, Field(ge=4, strict=True, description="Features of a neuron.")]
    edge_dimension: Annotated[int, Field(ge=4, strict=True, description="Features of an edge (neuron-tokens).")]
    layers: Count
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

    @model_validator(mode="after")
    def heads_divide(self) -> VelocityConfig:
        """Every head gets the same number of features."""
        if self.dimension % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide dimension ({self.dimension})")
        return self


class TrainingConfig(Section):
    """How a flow is trained."""

    seed: Seed
    iterations: Count
    batch_size: Annotated[int, Field(ge=2, strict=True)]
    optimizer: Literal["adamw", "muon"] = Field(
        description="AdamW for all parameters, or Muon for the matrices of the network's layers and AdamW for the others."
    )
    learning_rate: Positive
    warmup: Annotated[int, Field(ge=0, strict=True, description="Iterations of linear warm-up before cosine decay.")]
    gradient_clip: Positive
    ema_decay: Fraction
    loss: Literal["standardized", "function", "gauss-newton", "mean-squared"]
    distance: Literal["tangent", "geodesic"] = Field(
        description="Error of x̂_1: difference of logarithms at x_t, or logarithm at x̂_1; they differ for geometric only."
    )
    condition_dropout: Fraction = Field(description="Share of training pairs that are not told their condition.")
    function_floor: Annotated[float, Field(gt=0, le=1, strict=True)] = Field(
        description="Weight that every coordinate keeps in loss: function or gauss-newton."
    )
    precision: Literal["float32", "bfloat16"]
    compile: Annotated[bool, Field(strict=True, description="Compile layers (and kernels): a minute, then faster.")]
    validate_every: Count
    checkpoint_every: Count
    device: Device


class SampleConfig(Section):
    """How networks are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    seed: Seed
    source: str = Field(alias="from", description="flow, or another model of wflib.models to draw from in its place.")
    networks: Annotated[int, Field(ge=2, strict=True)]
    solver: Literal["euler", "heun", "rk4", "dopri5"] = Field(description="K steps are K, 2K, 4K evaluations; adaptive.")
    steps: Count = Field(description="Steps from t = 0 to t = 1, K.")
    noise: NonNegative = Field(description="Deviation of noise added before each step.")
    noise_interval: Annotated[list[Time], Field(min_length=2, max_length=2)] = Field(
        description="Times between which that noise is added."
    )
    diffusion: NonNegative = Field(description="Strength η of diffusion that keeps the marginals; euler, euclidean only.")
    condition: Finite | None = Field(description="Wished-for figure, for flows with a condition; null for any.")
    condition_strength: NonNegative = Field(description="Classifier-free guidance w: v = (1 + w) v_asked − w v_any.")
    guidance: NonNegative = Field(description="Strength λ of descent along task gradients while sampling.")
    guidance_point: Literal["x_t", "end-point"] = Field(description="Where the loss is taken: at x_t, or at x̂_1.")
    guidance_schedule: Literal["constant", "rising", "falling"] = Field(description="λ(t): λ, λ t, or λ (1 − t).")
    guidance_batch: Count = Field(description="Training examples of each guidance gradient.")
    device: Device

    @model_validator(mode="after")
    def one_noise(self) -> SampleConfig:
        """Noise and diffusion are two ways to the same end, and go with solvers that make steps of their own."""
        if self.noise > 0 and self.diffusion > 0:
            raise ValueError(f"noise ({self.noise}) and diffusion ({self.diffusion}) exclude each other; set one to 0")
        if self.diffusion > 0 and self.solver != "euler":
            raise ValueError(f"diffusion ({self.diffusion}) needs solver euler, got {self.solver}")
        if self.noise > 0 and self.solver == "dopri5":
            raise ValueError(f"noise ({self.noise}) needs steps of fixed length; choose solver euler, heun or rk4")
        if self.noise_interval[0] > self.noise_interval[1]:
            raise ValueError(f"noise_interval ({self.noise_interval}) must name the earlier time first")
        return self


class EvaluateConfig(Section):
    """What drawn networks are compared with, and how finely."""

    seed: Seed
    zoo_networks: Annotated[int, Field(ge=2, strict=True, description="Zoo networks evaluated beside the samples.")]
    barrier_networks: Annotated[int, Field(ge=2, strict=True, description="Last snapshots in the barrier matrices.")]
    calibration_bins: Count
    models: list[str] = Field(description="Simpler models that samples are compared with, by their names in wflib.models.")
    steps: Annotated[list[Count], Field(min_length=1)] = Field(description="Euler steps compared in the report.")
    guidance: Annotated[list[NonNegative], Field(min_length=1)] = Field(description="Guidance strengths compared.")
    curve_networks: Annotated[int, Field(ge=2, strict=True, description="Networks per point of that comparison.")]
    device: Device


class Settings(Section):
    """All sections, presets and overrides merged."""

    task: str
    zoo: ZooConfig
    align: AlignConfig
    canonicalize: CanonicalizeConfig
    flow: FlowConfig
    velocity: VelocityConfig
    training: TrainingConfig
    sample: SampleConfig
    evaluate: EvaluateConfig
    models: dict[str, dict[str, Any]] = Field(
        description="Settings of single models where they are not their own defaults, such as training-noise: {noise: 0.1}."
    )

    @model_validator(mode="after")
    def distance_of_an_end_point(self) -> Settings:
        """Only a prediction of the end point has a distance to x_1 of its own."""
        if self.flow.prediction == "velocity" and self.training.distance == "geodesic":
            raise ValueError(
                "training.distance: geodesic needs flow.prediction: end-point, got velocity; "
                "set flow.prediction to end-point or training.distance to tangent"
            )
        return self
