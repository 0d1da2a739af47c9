"""Optimizers of velocity networks.

- ``adamw``: AdamW (Loshchilov and Hutter 2019) for all parameters.
- ``muon``: Muon (Jordan et al. 2024) for the matrices of the network's layers, AdamW for all others. A matrix M moves by
  the orthogonal factor of its momentum, U Vᵀ of U S Vᵀ, so that every direction it has gradients in is learned equally
  fast; steps are scaled to the root mean square of AdamW's (Liu et al. 2025), for which learning rates then hold alike.
"""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from wflib.config import TrainingConfig

__all__ = ["build_optimizers"]

WEIGHT_DECAY = 0.01
ORTHOGONALIZATION_STEPS = 4
"""Of Newton and Schulz, for U Vᵀ; five are usual, a third dearer and no better here."""


def build_optimizers(network: nn.Module, config: TrainingConfig) -> list[Optimizer]:
    """The optimizers that together step every parameter of a velocity network once.

    Args:
        network: Its ``layers`` hold the matrices that Muon takes; inputs, outputs, embeddings, biases and norms are AdamW's.
        config: Section ``training``: ``optimizer`` and ``learning_rate``.
    """
    muon = config.optimizer == "muon"
    matrices = [weight for weight in network.get_submodule("layers").parameters() if weight.ndim == 2] if muon else []
    taken = set(map(id, matrices))
    others = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    optimizers: list[Optimizer] = [
        AdamW(others, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY, fused=True)
    ]
    if matrices:
        rate, steps = config.learning_rate, ORTHOGONALIZATION_STEPS
        optimizers.append(Muon(matrices, rate, WEIGHT_DECAY, ns_steps=steps, adjust_lr_fn="match_rms_adamw"))
    return optimizers
