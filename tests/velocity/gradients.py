"""Which parameters a field feels."""

from __future__ import annotations

import torch


def unfelt(model: torch.nn.Module, x: torch.Tensor, t: torch.Tensor) -> list[str]:
    """Parameters of which some part has no gradient but rounding, in float64; a part leads to one output feature.

    Adam gives every part the same step, however small its gradient: rounding alone would drive these, differently on every
    machine and number of processes.
    """
    random = torch.Generator().manual_seed(3)
    (model(x, t) * torch.randn(x.shape, generator=random, dtype=x.dtype)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    largest = max(gradient.abs().max() for gradient in gradients.values() if gradient is not None)
    return [
        name
        for name, gradient in gradients.items()
        if gradient is None or bool((gradient.reshape(len(gradient), -1).abs().amax(1) < 1e-13 * largest).any())
    ]
