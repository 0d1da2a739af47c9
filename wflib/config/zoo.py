"""Settings of zoos: how networks are trained or read, aligned, and made canonical."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wflib.config.base import DEVICE, Count, Device, Fraction, NonNegative, Positive, Section, Seed
from wflib.config.reading import ReadConfig

__all__ = ["AlignConfig", "CanonicalizeConfig", "ZooConfig"]


class ZooConfig(Section):
    """How base networks are trained, or where they come from."""

    source: Annotated[str, Field(min_length=1)] = Field(
        "train", description="train, or a file or folder of networks that others have trained."
    )
    format: Literal["auto", "modelzoo", "gpt", "small-cnn-zoo", "state-dicts", "inr", "wild-park", "hdf5", "wflib"] = Field(
        "auto", description="How they lie there; auto looks."
    )
    read: ReadConfig = Field(ReadConfig(), description="How others' networks are read and chosen.")
    seed: Seed = Field(description="Of initial weights, order of examples, and which runs are held out.")
    network: Literal["mlp", "cnn", "cnn-batch-norm", "cnn-s", "resnet", "vit"] = Field(
        description="What kind of network; all but mlp take images. cnn-s is the small one of public zoos, for MNIST."
    )
    widths: Annotated[list[Count], Field(min_length=1)] = Field(
        description="Neurons of each hidden layer; cnn, cnn-batch-norm: channels of each convolution; cnn-s: of its three, "
        "then hidden neurons; resnet: channels of each block; vit: features of a token, then hidden neurons of each block."
    )
    activation: Literal["relu", "leaky_relu", "tanh", "softsign", "gelu", "silu", "smooth_relu", "identity"] = Field(
        description="Of hidden neurons."
    )
    networks: Annotated[int, Field(ge=2, strict=True, description="Training runs, two at least: one may be held out.")]
    held_out: Annotated[float, Field(gt=0, lt=1, strict=True, description="Share of training runs that no flow sees.")]
    sampler: Literal["optimizer", "sgld", "hmc", "gaussian"] = Field(
        default="optimizer",
        description="Train networks, draw them from the posterior by chains (needs wflib[bayes]), or, for the task "
        "gaussian, from N(1, init_std²).",
    )
    optimizer: Literal["adam", "sgd"] = Field(description="Of the networks' training.")
    learning_rate: Positive = Field(description="Its step, the same all the time.")
    momentum: Fraction = Field(description="Of sgd; 0 with adam.")
    weight_decay: NonNegative = Field(description="Of L2 regularization, added to the gradient.")
    batch_size: Count = Field(description="Examples of a step.")
    epochs: Count = Field(description="Passes through the training examples.")
    skip_epochs: Annotated[int, Field(ge=0, strict=True, description="Epochs before the first snapshot.")]
    snapshot_every: Count = Field(description="Iterations between two snapshots.")
    early_snapshots: Annotated[int, Field(ge=0, strict=True)] = Field(
        0, description="Snapshots of each run before those, at equal distances: not networks to learn, but ways to them."
    )
    init: Literal["normal", "torch", "he", "glorot"] = Field(
        description="Deviation of initial weights: init_std for all, or of each tensor by its sizes."
    )
    init_std: Positive = Field(description="Standard deviation of initial weights with init: normal, the flows' prior too.")
    shard_networks: Count = Field(
        50_000, description="Most networks of one file; a zoo of more is a folder of several and need not fit the memory."
    )
    device: Device = DEVICE

    @model_validator(mode="after")
    def leaves_snapshots(self) -> ZooConfig:
        """Some epochs must be left after the skipped ones."""
        if self.skip_epochs >= self.epochs:
            raise ValueError(f"skip_epochs ({self.skip_epochs}) must be smaller than epochs ({self.epochs})")
        return self

    @model_validator(mode="after")
    def momentum_of_sgd(self) -> ZooConfig:
        """Adam has moments of its own."""
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"momentum ({self.momentum}) needs optimizer: sgd, got adam; choose momentum: 0.0")
        return self

    @model_validator(mode="after")
    def has_a_prior(self) -> ZooConfig:
        """A posterior needs a prior of positive deviations, N(0, init_std²)."""
        if self.sampler != "optimizer" and self.init != "normal":
            raise ValueError(f"sampler: {self.sampler} needs init: normal, the prior N(0, init_std²); got {self.init}")
        return self

    @model_validator(mode="after")
    def early_ones_of_training(self) -> ZooConfig:
        """Chains come from no initial weights, and nothing lies on the way to draws of a Gaussian."""
        if self.sampler != "optimizer" and self.early_snapshots:
            raise ValueError(f"early_snapshots ({self.early_snapshots}) need sampler: optimizer, got {self.sampler}")
        return self

    @model_validator(mode="after")
    def enough_widths(self) -> ZooConfig:
        """A transformer has features and at least one block, the small convolutional network three convolutions."""
        if self.network == "cnn-s" and len(self.widths) != 4:
            raise ValueError(f"network: cnn-s needs widths of three convolutions and one hidden layer, got {self.widths}")
        if self.network == "vit" and len(self.widths) < 2:
            raise ValueError(f"network: vit needs widths of a token and of at least one block, got {self.widths}")
        return self


class AlignConfig(Section):
    """How networks are aligned to one reference."""

    seed: Seed = Field(description="Of starts, and of the medoid's candidates.")
    method: Literal["none", "weight-matching", "activation-matching", "sinkhorn"] = Field(
        description="By weights; by what neurons answer to training inputs; by gradients of the objective."
    )
    objective: Literal["l2", "midpoint", "random-point"] = Field(description="What sinkhorn makes small.")
    reference: Literal["first", "best", "medoid", "mean"] = Field(description="The network that others are brought to.")
    restarts: Count = Field(description="Starts of weight matching, whose answer sinkhorn starts from.")
    iterations: Count = Field(description="Steps of sinkhorn's descent.")


class CanonicalizeConfig(Section):
    """How scalings of neurons are removed."""

    norm: Literal["weights-and-bias", "weights"] = Field(
        description="What of a neuron's incoming weights has norm one: with the bias, or without it as in the thesis."
    )
