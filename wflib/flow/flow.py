"""A flow: coordinates, geometry, prior and a trained prediction of x_1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture
from wflib.config import FlowConfig, FlowSections, VelocityConfig, require_start_from_prior
from wflib.flow.conditioning import Condition
from wflib.flow.coordinates import Coordinates, input_basis
from wflib.flow.geometry import build_geometry
from wflib.flow.initial import initialization_of
from wflib.flow.loss_gradient import LossGradient
from wflib.flow.prior import Moments, Prior, build_prior
from wflib.manifold import require_connected
from wflib.rng import generator
from wflib.symmetry import pool
from wflib.tasks import Split
from wflib.velocity import Preconditioner, build_velocity
from wflib.zoo import AnyZoo

__all__ = ["Flow", "flow_for_zoo"]

EXAMPLES = ("loss_gradient.inputs", "loss_gradient.targets")
"""Names in a flow's state of the examples that its network sees the gradient on."""
LATEST_TIME = 0.999
"""Velocities divide by 1 − t; solvers that ask at t = 1 get the one of this time."""


class Flow(nn.Module):
    """A generative model of networks: an ordinary differential equation from a prior to a zoo.

    Args:
        config: Geometry, coupling and path.
        velocity_config: The network that predicts.
        coordinates: What the flow's flat vectors mean.
        initialization: What the prior is made of: the deviation σ of initial weights N(0, σ²), or mean and deviation of each
            tensor of the coordinates.
        metadata: Task and provenance, JSON-serializable.
        jumps: Whether predictions also depend on the length of the step to be made, as a distilled flow's do.
        examples: The task's training examples whose loss' gradient the network sees, inputs in the axes of the coordinates;
            for networks that see one.

    Attributes:
        precision: What the velocity network computes in: ``float32``, or ``bfloat16``, which processors that know it take
            half the time for. Everything else, and what is added up on the way, is in single precision.

    Raises:
        ValueError: Coordinates, prior or examples do not go with the configuration.
    """

    places: Tensor

    def __init__(
        self,
        config: FlowConfig,
        velocity_config: VelocityConfig,
        coordinates: Coordinates,
        initialization: float | Moments,
        metadata: dict[str, Any] | None = None,
        jumps: bool = False,
        examples: Split | None = None,
    ) -> None:
        super().__init__()
        if coordinates.architecture.canonical != (config.geometry != "euclidean"):
            expected = "ordinary" if config.geometry == "euclidean" else "canonical"
            raise ValueError(
                f"Flow: geometry {config.geometry} works on {expected} networks; the coordinates are not of such."
            )
        require_start_from_prior(config, velocity_config)
        require_connected(coordinates.architecture)
        if (examples is None) == (velocity_config.gradient_examples > 0):
            expected = "no examples" if examples is not None else "the task's training examples"
            raise ValueError(f"Flow: velocity.gradient_examples: {velocity_config.gradient_examples} needs {expected}.")
        self.config, self.velocity_config = config, velocity_config
        self.coordinates, self.initialization, self.metadata = coordinates, initialization, dict(metadata or {})
        self.geometry = build_geometry(config.geometry, coordinates.manifold)
        architecture = coordinates.architecture
        plain = velocity_config.preconditioning == "none"
        self.preconditioner = Preconditioner(architecture, velocity_config.identities, config.path != "straight", plain)
        seen, places = coordinates.leading(velocity_config.directions)
        self.register_buffer("places", places, persistent=False)
        self.jumps, self.precision = jumps, "float32"
        self.condition = Condition(config.condition) if config.condition != "none" else None
        self.loss_gradient = (
            None if examples is None else LossGradient(coordinates, self.geometry, examples, velocity_config.directions)
        )
        scalars, fields = (self.condition is not None) + jumps, int(examples is not None)
        self.network = build_velocity(velocity_config, seen, scalars, fields)
        self._prior = build_prior(self.geometry.manifold, architecture, initialization)

    @property
    def device(self) -> torch.device:
        """Where the flow computes."""
        return self.preconditioner.index.device

    @property
    def prior(self) -> Prior:
        """The prior, on the flow's device."""
        return self._prior.to(self.device)

    @property
    def start(self) -> Prior:
        """Where x_t begins: the prior, blurred by path noise where there is any."""
        return self.prior.blurred(self.config.path_noise)

    @property
    def examples(self) -> Split | None:
        """Training examples whose loss' gradient the network sees, if it does."""
        return None if self.loss_gradient is None else self.loss_gradient.examples

    @property
    def architecture(self) -> Architecture:
        """Architecture of the coordinates."""
        return self.coordinates.architecture

    def predict(
        self, x_t: Tensor, t: Tensor, condition: Tensor | None = None, span: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The prediction x̂_1 ≈ E[x_1 | x_t] and the scale of what it leaves open.

        Args:
            x_t: (batch, D).
            t: (batch,), below one.
            condition: Figure that x_1 shall have, NaN for any, (batch,); None for any.
            span: Length of the step to be made, (batch,), which a distilled flow needs.

        Returns:
            x̂_1 projected where x_1 must lie, and o(t), both (batch, D).

        Raises:
            ValueError: A condition for a flow that has none, or no span for a distilled one.
        """
        if self.config.prediction == "velocity":
            displacement, scale = self.displacement(x_t, t, condition, span)
            return self.geometry.project_prediction(self.geometry.step(x_t, displacement)), scale
        model, residual, scale = self.regress(x_t, t, condition, span)
        return self.geometry.project_prediction(model + residual), scale

    def displacement(
        self, x_t: Tensor, t: Tensor, condition: Tensor | None = None, span: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(1 − t) u_t, the tangent vector at x_t towards x̂_1, and o(t), both (batch, D); arguments of :meth:`predict`."""
        geometry = self.geometry
        model, residual, scale = self.regress(x_t, t, condition, span)
        if self.config.prediction == "velocity":
            return geometry.tangent(x_t, model + residual - x_t), scale
        return geometry.displacement(x_t, geometry.project_prediction(model + residual)), scale

    def regress(
        self, x_t: Tensor, t: Tensor, condition: Tensor | None, span: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The preconditioner's Gaussian model of x_1, what the network adds to it, and o(t); nothing projected."""
        coefficients = self.preconditioner(t)
        centred = x_t - coefficients.centre
        seen, scalars = (centred * coefficients.input_scale)[:, self.places], self.scalars(t, condition, span)
        gradient = None if self.loss_gradient is None else self.loss_gradient(x_t).unsqueeze(1)
        coarse = self.precision == "bfloat16" or torch.is_autocast_enabled(x_t.device.type)
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=coarse):
            found = self.network(seen, t, scalars, gradient).to(x_t.dtype)
        field = torch.zeros_like(x_t).index_copy(1, self.places, found)
        return self.preconditioner.model(centred, coefficients), coefficients.output_scale * field, coefficients.output_scale

    def scalars(self, t: Tensor, condition: Tensor | None, span: Tensor | None) -> Tensor | None:
        """What the network sees besides x_t and t, (batch, scalars), or None."""
        if condition is not None and self.condition is None:
            raise ValueError("This flow has no condition; train one with flow.condition: loss, accuracy or step.")
        if self.jumps and span is None:
            raise ValueError(
                "A distilled flow knows jumps, not a velocity: draw from it with solver euler, without guidance at the "
                "end point, and take likelihoods and diffusions from the flow it was distilled from."
            )
        columns = []
        if self.condition is not None:
            columns.append(torch.full_like(t, math.nan) if condition is None else self.condition(condition))
        if self.jumps:
            columns.append(span)
        return torch.stack(columns, 1) if columns else None

    def velocity(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None, span: Tensor | None = None) -> Tensor:
        """u_t = displacement(x_t, x̂_1) / (1 − t), (batch, D); arguments of :meth:`predict`."""
        t = t.clamp_max(LATEST_TIME)
        return self.displacement(x_t, t, condition, span)[0] / (1 - t[:, None])

    def with_examples(self, examples: Split) -> Flow:
        """The same flow where its network sees the loss' gradient on other examples, such as another task's.

        Args:
            examples: In the shape that networks take, of as many classes as they know; any number.

        Returns:
            A new flow with copies of the parameters.

        Raises:
            ValueError: Its network sees no gradient, or the networks do not take such examples.
        """
        if self.loss_gradient is None:
            raise ValueError("with_examples: this flow sees no loss; train one with velocity.gradient_examples above 0.")
        seen = Split(self.coordinates.rotate_inputs(examples.inputs), examples.targets).to(self.device)
        return self._like(self.coordinates, seen)

    def with_widths(self, widths: Mapping[str, int]) -> Flow:
        """The same flow for networks of other hidden widths, without retraining.

        The velocity network's parameters do not depend on widths. The preconditioner's statistics move with the prior: what
        lies on a sphere in R^d scales with 1/√d, biases of normalized layers with the norms of initial weights, and the log
        output scale shifts as its prior does. Where the prior has moments that were measured of each tensor, these stay.
        Decoded networks have the shares of :func:`~wflib.flow.coordinates.shares_of_neurons`, so that wider ones are as sure
        of themselves as those that were learned from.

        Args:
            widths: Neurons of hidden groups, for example ``{"hidden1": 32}``; groups that are not named keep theirs. What
                other kinds of networks can change says :func:`wflib.architecture.widths.with_widths`.

        Returns:
            A new flow with copies of the parameters.

        Raises:
            ValueError: A name is no hidden group, a width is below one or one that the networks cannot have, or the velocity
                network knows neurons by their identities.
        """
        if self.velocity_config.identities:
            raise ValueError("with_widths: a flow with velocity.identities: true has one width; train it without them.")
        if min(widths.values(), default=1) < 1:
            raise ValueError(f"with_widths: expected at least one neuron, got {dict(widths)}.")
        other = self._like(self.coordinates.with_widths(widths), self.examples)
        (mean, width, fresh), (new_mean, new_width, _) = (
            [
                pool(value.double(), flow.preconditioner.index)
                for value in (flow.start.mean, flow.start.width, flow.start.fresh)
            ]
            for flow in (self, other)
        )
        ratio = torch.where(fresh > 0, 1.0, new_width / width)
        other.preconditioner.move(new_mean - mean, ratio)
        return other

    def _like(self, coordinates: Coordinates, examples: Split | None) -> Flow:
        """A flow on these coordinates that sees these examples, with copies of all else."""
        other = Flow(
            self.config, self.velocity_config, coordinates, self.initialization, self.metadata, self.jumps, examples
        ).to(self.preconditioner.mean_0)
        seen = {name: value for name, value in other.state_dict().items() if name in EXAMPLES}
        other.load_state_dict(self.state_dict() | seen)
        return other.train(self.training)


def flow_for_zoo(settings: FlowSections, zoo: AnyZoo, train: Split) -> Flow:
    """An untrained flow on a zoo's coordinates, its parameters drawn from ``training.seed``.

    Args:
        settings: Sections ``flow``, ``velocity`` and ``training``, and the task's name.
        zoo: Of the form the geometry works on.
        train: The task's training part: the second moment of its inputs is the basis ``data``, and ``gradient_examples`` are
            drawn from it.

    Returns:
        The flow; ``metadata["initialization_from"]`` says what the prior was measured from, unless declared.
    """
    seed, count, examples = settings.training.seed, settings.velocity.gradient_examples, None
    basis = input_basis(train.inputs)[0] if settings.velocity.basis == "data" else None
    coordinates = Coordinates(zoo.architecture, basis)
    if count:
        chosen = train.some(count, generator(seed, "flow", "gradient"))
        examples = Split(coordinates.rotate_inputs(chosen.inputs), chosen.targets)
    torch.manual_seed(seed)
    initialization, measured = initialization_of(zoo, coordinates)
    metadata = {"task": settings.task, "seed": seed} | ({"initialization_from": measured} if measured else {})
    return Flow(settings.flow, settings.velocity, coordinates, initialization, metadata, examples=examples)
