"""One frozen model per section of ``params.yaml``: types, ranges, and what goes together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from wflib.config.base import DEVICE, Count, Device, Finite, Fraction, NonNegative, Positive, Section, Seed, Time
from wflib.config.data import DataConfig
from wflib.config.flow import FlowConfig, VelocityConfig, require_start_from_prior
from wflib.config.zoo import AlignConfig, CanonicalizeConfig, ZooConfig

__all__ = [
    "EvaluateConfig",
    "FlowSections",
    "SampleConfig",
    "Settings",
    "TrainingConfig",
]


class TrainingConfig(Section):
    """How a flow is trained."""

    seed: Seed = Field(description="Of the network's first weights, and of pairs and times.")
    iterations: Count = Field(description="Steps of the optimizer.")
    batch_size: Annotated[int, Field(ge=2, strict=True)] = Field(description="Networks of a step.")
    optimizer: Literal["adamw", "muon"] = Field(
        description="AdamW for all parameters, or Muon for the matrices of the network's layers and AdamW for the others."
    )
    learning_rate: Positive = Field(description="Its largest value.")
    warmup: Annotated[int, Field(ge=0, strict=True, description="Iterations of linear warm-up before cosine decay.")]
    gradient_clip: Positive = Field(description="Largest norm of a step's gradient.")
    ema_decay: Fraction = Field(description="Of the running average of the network's weights, which is what draws.")
    loss: Literal["standardized", "function", "gauss-newton", "mean-squared"] = Field(
        description="Squared error in the Gaussian model's units; weighted by what a network's function feels of each "
        "coordinate, or of the error itself (gauss-newton); mean-squared: plain, as published."
    )
    distance: Literal["tangent", "geodesic"] = Field(
        description="Error of x̂_1: difference of logarithms at x_t, or logarithm at x̂_1; they differ for geometric only."
    )
    condition_dropout: Fraction = Field(description="Share of training pairs that are not told their condition.")
    function_floor: Annotated[float, Field(gt=0, le=1, strict=True)] = Field(
        description="Weight that every coordinate keeps in loss: function or gauss-newton."
    )
    distillation_iterations: Annotated[int, Field(ge=0, strict=True)] = Field(
        description="Optimizer steps of a student that draws in one to four jumps, after the flow's own; 0 for no student."
    )
    precision: Literal["float32", "bfloat16"] = Field(description="What the velocity network computes in while training.")
    compile: Annotated[bool, Field(strict=True, description="Compile layers (and kernels): a minute, then faster.")]
    validate_every: Count = Field(description="Iterations between two validation losses, on held-out networks.")
    checkpoint_every: Count = Field(description="Iterations between two checkpoints, from which a killed run goes on.")
    device: Device = DEVICE


class SampleConfig(Section):
    """How networks are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    seed: Seed = Field(description="Of the draws.")
    source: str = Field(alias="from", description="flow, or another model of wflib.models to draw from in its place.")
    networks: Annotated[int, Field(ge=2, strict=True)] = Field(description="Networks to draw.")
    solver: Literal["euler", "multistep", "heun", "rk4", "dopri5"] = Field(
        description="K steps are K, K, 2K, 4K evaluations; adaptive."
    )
    steps: Count = Field(description="Steps from t = 0 to t = 1, K.")
    last_step: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        description="Length of the last step, which lands on x̂_1 and leaves out the end of the way; 0 for equal steps."
    )
    precision: Literal["float32", "bfloat16"] = Field(description="What the velocity network computes in while drawing.")
    jumps: Literal[0, 1, 2, 4] = Field(description="Jumps of the flow's distilled student, in place of steps; 0 for steps.")
    noise: NonNegative = Field(description="Deviation of noise added before each step.")
    noise_interval: Annotated[list[Time], Field(min_length=2, max_length=2)] = Field(
        description="Times between which that noise is added."
    )
    diffusion: NonNegative = Field(description="Strength η of diffusion that keeps the marginals; euler, euclidean only.")
    diffusion_schedule: Literal["constant", "rising", "falling"] = Field(
        description="g²(t) = η σ_0² times 1, t, or 1 − t, σ_0 the prior's deviations."
    )
    condition: Finite | Literal["zoo"] | None = Field(
        description="Wished-for figure, for flows with a condition; zoo as the zoo has them; null: so for steps, else any."
    )
    condition_strength: NonNegative = Field(description="Classifier-free guidance w: v = (1 + w) v_asked − w v_any.")
    guidance: NonNegative = Field(description="Strength λ of descent along task gradients while sampling.")
    guidance_point: Literal["x_t", "end-point"] = Field(description="Where the loss is taken: at x_t, or at x̂_1.")
    guidance_schedule: Literal["constant", "rising", "falling"] = Field(description="λ(t): λ, λ t, or λ (1 − t).")
    guidance_batch: Count = Field(description="Training examples of each guidance gradient.")
    polish_steps: Annotated[int, Field(ge=0, strict=True)] = Field(
        description="Adam steps on training examples after drawing, from whatever model."
    )
    polish_learning_rate: Positive | Literal["auto"] = Field(
        description="Of those steps; auto for the best on validation examples."
    )
    polish_examples: Count = Field(description="Training examples of each of those steps, drawn anew for it; all at most.")
    device: Device = DEVICE

    @model_validator(mode="after")
    def one_noise(self) -> SampleConfig:
        """Noise and diffusion are two ways to the same end, and go with solvers that make steps of their own."""
        if self.noise > 0 and self.diffusion > 0:
            raise ValueError(f"noise ({self.noise}) and diffusion ({self.diffusion}) exclude each other; set one to 0")
        if self.diffusion > 0 and self.solver != "euler":
            raise ValueError(f"diffusion ({self.diffusion}) needs solver euler, got {self.solver}")
        if self.diffusion > 0 and self.condition_strength > 0:
            raise ValueError(
                f"diffusion ({self.diffusion}) keeps the marginals of a flow, and condition_strength "
                f"({self.condition_strength}) makes a field that has none; set one to 0"
            )
        if self.noise > 0 and self.solver in ("dopri5", "multistep"):
            raise ValueError(f"noise ({self.noise}) disturbs what {self.solver} goes by; choose solver euler, heun or rk4")
        if self.last_step > 0 and (self.noise > 0 or self.diffusion > 0 or self.solver == "dopri5"):
            raise ValueError(
                f"last_step ({self.last_step}) goes with neither noise, diffusion nor dopri5; set it to 0.0, or change these"
            )
        if self.noise_interval[0] > self.noise_interval[1]:
            raise ValueError(f"noise_interval ({self.noise_interval}) must name the earlier time first")
        return self

    @model_validator(mode="after")
    def only_of_a_flow(self) -> SampleConfig:
        """What steers a flow on its way steers nothing else."""
        given = {
            "guidance": self.guidance > 0,
            "noise": self.noise > 0,
            "diffusion": self.diffusion > 0,
            "condition": self.condition is not None,
            "jumps": self.jumps > 0,
        }
        if self.source != "flow" and (found := [name for name, chosen in given.items() if chosen]):
            raise ValueError(
                f"from: {self.source} has no way to be steered on; leave out {', '.join(found)}, or draw from flow"
            )
        return self

    @model_validator(mode="after")
    def a_velocity_where_one_is_needed(self) -> SampleConfig:
        """A distilled student knows jumps alone."""
        wrong = {
            f"solver {self.solver} (choose euler)": self.solver != "euler",
            f"diffusion {self.diffusion} (choose 0.0)": self.diffusion > 0,
            f"last_step {self.last_step} (choose 0.0)": self.last_step > 0,
            "guidance_point end-point (choose x_t)": self.guidance > 0 and self.guidance_point == "end-point",
        }
        if self.jumps > 0 and (found := [what for what, given in wrong.items() if given]):
            raise ValueError(f"jumps ({self.jumps}) do not go with {', '.join(found)}; or set jumps to 0")
        return self

    @property
    def by_steps(self) -> dict[str, Any]:
        """Arguments of :func:`wflib.flow.sample` for any number of steps, such as curves have; Euler's where steps adapt."""
        return {"solver": "euler" if self.solver == "dopri5" else self.solver, "last_step": self.last_step}


class EvaluateConfig(Section):
    """What drawn networks are compared with, and how finely."""

    seed: Seed = Field(description="Of all that is chosen by chance.")
    zoo_networks: Annotated[int, Field(ge=2, strict=True, description="Zoo networks evaluated beside the samples.")]
    novelty_networks: Annotated[
        int, Field(ge=0, strict=True, description="Networks of each set whose nearest training network is looked for.")
    ]
    barrier_networks: Annotated[int, Field(ge=2, strict=True, description="Last snapshots in the barrier matrices.")]
    calibration_bins: Count = Field(description="Bins of confidence in calibration errors.")
    models: list[str] = Field(description="Simpler models that samples are compared with, by their names in wflib.models.")
    steps: Annotated[list[Count], Field(min_length=1)] = Field(description="Numbers of steps compared in the report.")
    guidance: Annotated[list[NonNegative], Field(min_length=1)] = Field(description="Guidance strengths compared.")
    curve_networks: Annotated[int, Field(ge=2, strict=True, description="Networks per point of that comparison.")]
    device: Device = DEVICE


class FlowSections(Section):
    """The sections that make a flow."""

    task: str
    flow: FlowConfig
    velocity: VelocityConfig
    training: TrainingConfig


class Settings(FlowSections):
    """All sections, presets and overrides merged."""

    data: DataConfig
    zoo: ZooConfig
    align: AlignConfig
    canonicalize: CanonicalizeConfig
    sample: SampleConfig
    evaluate: EvaluateConfig
    models: dict[str, dict[str, Any]] = Field(
        description="Settings of single models where they are not their own defaults, such as training-noise: {noise: 0.1}."
    )

    @model_validator(mode="after")
    def start_seen_as_the_prior(self) -> Settings:
        """A network that tells neurons apart sees the order of x_0's."""
        require_start_from_prior(self.flow, self.velocity)
        return self

    @model_validator(mode="after")
    def what_bent_paths_are_for(self) -> Settings:
        """They need snapshots, and where x_t goes does not say where it ends."""
        guided = self.sample.guidance_point == "end-point" and max(self.sample.guidance, *self.evaluate.guidance) > 0
        wrong = {
            "zoo.early_snapshots: 0 (choose 10)": self.zoo.source == "train" and self.zoo.early_snapshots == 0,
            "training.loss: gauss-newton (choose function)": self.training.loss == "gauss-newton",
            "sample.guidance_point: end-point (choose x_t)": guided,
        }
        if self.flow.path == "training" and (found := [what for what, given in wrong.items() if given]):
            raise ValueError(f"flow.path: training does not go with {'; '.join(found)}")
        return self

    @model_validator(mode="after")
    def distance_of_an_end_point(self) -> Settings:
        """Only a prediction of the end point has a distance to x_1 of its own."""
        if self.flow.prediction == "velocity" and self.training.distance == "geodesic":
            raise ValueError(
                "training.distance: geodesic needs flow.prediction: end-point, got velocity; "
                "set flow.prediction to end-point or training.distance to tangent"
            )
        return self

    @model_validator(mode="after")
    def a_student_to_jump(self) -> Settings:
        """Students are distilled after training."""
        if self.sample.jumps > 0 and self.training.distillation_iterations == 0:
            raise ValueError(
                f"sample.jumps: {self.sample.jumps} needs a student; set training.distillation_iterations above 0, such as "
                "2000, or sample.jumps to 0"
            )
        return self

    @model_validator(mode="after")
    def draws_that_the_flow_allows(self) -> Settings:
        """What stands in the way of a draw is known before a zoo and a flow are trained for it."""
        flow, sample = self.flow, self.sample
        scored = (flow.geometry, flow.coupling, flow.path, flow.path_noise) == ("euclidean", "independent", "straight", 0)
        wrong = {
            f"sample.condition: {sample.condition} needs flow.condition: loss, accuracy or step, got none": (
                sample.condition is not None and flow.condition == "none"
            ),
            "sample.solver: dopri5 would leave the manifold of flow.geometry: geometric; choose rk4, heun or euler": (
                sample.solver == "dopri5" and flow.geometry == "geometric"
            ),
            f"sample.diffusion: {sample.diffusion} needs flow.geometry: euclidean, flow.coupling: independent, flow.path: "
            "straight and flow.path_noise: 0; change them, or set it to 0.0": sample.diffusion > 0 and not scored,
        }
        if found := [what for what, given in wrong.items() if given]:
            raise ValueError("; ".join(found))
        return self

    @model_validator(mode="after")
    def what_needs_examples(self) -> Settings:
        """Some tasks have no examples, and networks drawn in their stead are of one task only."""
        if (self.zoo.sampler == "gaussian") != (self.task == "gaussian"):
            raise ValueError(f"task: {self.task} and zoo.sampler: {self.zoo.sampler}: gaussian needs gaussian; change one")
        if self.task not in ("none", "gaussian"):
            return self
        method, objective = self.align.method, self.align.objective
        wrong = {
            "align.method: activation-matching (choose weight-matching)": method == "activation-matching",
            f"align.objective: {objective} (choose l2)": method == "sinkhorn" and objective != "l2",
            "align.reference: best (choose first, medoid or mean)": self.align.reference == "best",
            f"training.loss: {self.training.loss} (choose standardized)": self.training.loss in ("function", "gauss-newton"),
            "velocity.basis: data (choose none)": self.velocity.basis == "data",
            "velocity.gradient_examples above 0 (choose 0)": self.velocity.gradient_examples > 0,
            f"flow.condition: {self.flow.condition} (choose none or step)": self.flow.condition in ("loss", "accuracy"),
            "sample.guidance above 0 (choose 0.0)": self.sample.guidance > 0,
            "sample.polish_steps above 0 (choose 0)": self.sample.polish_steps > 0,
            "evaluate.guidance above 0 (choose [0.0])": max(self.evaluate.guidance) > 0,
        }
        if found := [what for what, given in wrong.items() if given]:
            raise ValueError(f"task: {self.task} has no examples, which these need: {'; '.join(found)}")
        return self
