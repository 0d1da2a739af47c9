"""The gradient of the task's training loss at x_t, which a velocity network may see beside x_t.

Networks of a zoo have followed this gradient from their initial weights, so where they end depends on it; from the weights
alone a velocity network would have to work out what the data say. It turns with permutations of hidden neurons exactly as
weights do.

Likelihoods integrate the divergence of a flow's velocity, which counts its changes only where it is continuous. The gradient
of a network with kinks jumps wherever an example crosses one, so it is taken of the same network with a smooth function in
the place of ReLUs and leaky ones; and it is scaled by a root that does not vanish with it, as a tensor of one number would
otherwise be seen as a sign. Other kinks (max pooling, absolute values, ReLU6, clamps) stay what they are, as networks were
trained with them: flows that see such gradients (:attr:`LossGradient.kinks`) draw networks, but have no likelihoods.

Batch norms go by moments of the examples, as they did while networks were trained: at points between networks, the running
statistics are those of none. Running statistics have no gradient then; in its place they show how far they are from those of
the examples, where training moves them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch._C._functorch import TransformType

from wflib.architecture import kinks, with_activations
from wflib.flow.coordinates import Coordinates
from wflib.flow.geometry import Geometry
from wflib.networks import batch_losses
from wflib.tasks import Split
from wflib.zoo.compiled_training import compiled_gradients, kernels_gain

__all__ = ["LossGradient"]

SMOOTH = {"relu": "smooth_relu", "leaky_relu": "smooth_relu"}
SOFTNESS = 0.1


def transforms() -> list[TransformType]:
    """Transforms of ``torch.func`` that are at work."""
    return [transform.key() for transform in torch._C._functorch.get_interpreter_stack() or ()]


class CompiledGradient(torch.autograd.Function):
    """g of a :class:`LossGradient` at x (batch, D), by kernels; its derivatives by torch."""

    apply: ClassVar[Callable[[Tensor, LossGradient], Tensor]]

    @staticmethod
    def forward(x: Tensor, field: LossGradient) -> Tensor:
        """By torch where none takes the examples, or none can be compiled."""
        found = compiled_gradients(field.smooth, x, field.examples)
        return field.by_torch(x) if found is None else found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, LossGradient], output: Tensor) -> None:
        """Where it is taken."""
        x, ctx.field = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Hᵀ v; in the precision of x, wherever a caller of backward stands."""
        with torch.autocast(gradient.device.type, enabled=False):
            pull = torch.func.vjp(ctx.field.by_torch, *ctx.saved_tensors)[1]
            return pull(gradient)[0], None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, field: None) -> Tensor:
        """H v."""
        change: Tensor = torch.func.jvp(ctx.field.by_torch, ctx.saved_tensors, (tangent,))[1]
        return change

    @staticmethod
    def vmap(info: Any, axes: tuple[int, None], x: Tensor, field: LossGradient) -> tuple[Tensor, int]:
        """Networks are each by itself, so that one more axis is more of them."""
        x = x.movedim(axes[0], 0)
        return CompiledGradient.apply(x.flatten(0, 1), field).unflatten(0, x.shape[:2]), 0


class LossGradient(nn.Module):
    """g_b / √(mean g_b² + c_b²) of every tensor b, P_x of g = ∇_x L(x), c_b a tenth of the tensor's usual size.

    Of running statistics s, g = s − found, where found are those of the examples; see the module.

    Examples and usual sizes are part of the state, so that a flow's file needs no dataset.

    Args:
        coordinates: What x is.
        geometry: Gives P_x, the projection on tangent vectors.
        examples: Training examples that L is the mean loss of, inputs in the axes of the coordinates.
        directions: Leading input directions whose weights' gradients are wanted; 0 for all.

    Attributes:
        kinks: Operations of the networks at which g jumps, see :func:`wflib.architecture.kinks`; none if it is continuous.

    Raises:
        ValueError: No examples, or examples that do not fit the coordinates.
    """

    places: Tensor
    inputs: Tensor
    targets: Tensor
    sizes: Tensor

    def __init__(self, coordinates: Coordinates, geometry: Geometry, examples: Split, directions: int = 0) -> None:
        super().__init__()
        architecture, shape, targets = coordinates.chart, tuple(examples.inputs.shape), len(examples.targets)
        if shape != (targets, *architecture.inputs) or not targets:
            expected = ", ".join(map(str, architecture.inputs))
            raise ValueError(
                f"Shape mismatch: expected examples with inputs (examples, {expected}), got {shape} and {targets} targets."
            )
        self.smooth, self.geometry = with_activations(architecture, SMOOTH), geometry
        self.kinks = kinks(self.smooth)
        part, places = coordinates.leading(directions)
        self.tensors = tuple(part.slices.values())
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("inputs", examples.inputs.clone())
        self.register_buffer("targets", examples.targets.clone())
        self.register_buffer("sizes", torch.ones(len(self.tensors)))

    @property
    def examples(self) -> Split:
        """Training examples, inputs in the axes of the coordinates."""
        return Split(self.inputs, self.targets)

    def gradients(self, x: Tensor) -> list[Tensor]:
        """P_x g of every tensor that is wanted, (batch, weights) each; differentiable."""
        with torch.autocast(x.device.type, enabled=False):
            found = CompiledGradient.apply(x, self) if self.for_kernels(x) else self.by_torch(x)
            found = self.geometry.tangent(x, found)[:, self.places]
        return [found[:, where] for where in self.tensors]

    def for_kernels(self, x: Tensor) -> bool:
        """Whether kernels are asked.

        A ``jvp`` within another is torch's, where functions that state their own lose the outer one.
        """
        known = x.device.type == "cpu" and x.dtype == torch.float32 and kernels_gain(self.smooth)
        return known and transforms().count(TransformType.Jvp) < 2

    def by_torch(self, x: Tensor) -> Tensor:
        """g at x (batch, D)."""
        architecture = self.smooth

        def total(point: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            losses, found = batch_losses(architecture, architecture.unflatten(point), self.examples)
            return losses.sum(), found

        gradient: Tensor
        gradient, found = torch.func.grad(total, has_aux=True)(x)
        if not found:
            return gradient
        here = architecture.unflatten(x)
        off = {name: here[name] - there for name, there in found.items()}
        return architecture.flatten(architecture.unflatten(gradient) | off)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Measure each tensor's usual size, the root mean square over points x (batch, D) of training."""
        self.sizes.copy_(torch.stack([part.square().mean().sqrt() for part in self.gradients(x)]))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate it at x (batch, D), of the weights that are wanted (batch, ≤ D); differentiable."""
        floors = (SOFTNESS * self.sizes).square().clamp_min(torch.finfo(x.dtype).tiny)
        parts = zip(self.gradients(x), floors, strict=True)
        return torch.cat([part * (part.square().mean(1, keepdim=True) + floor).rsqrt() for part, floor in parts], 1)
