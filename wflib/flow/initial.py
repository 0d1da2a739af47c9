"""Initial weights as draws from the prior, whatever distribution a zoo's training began with.

A zoo may say with which deviation its weights were drawn, but its own initial weights are what counts. Where they look like
N(0, prior_std²), as train-zoo's do, they are taken as they are. Where they do not (PyTorch's default, He's, Glorot's;
uniform, truncated, shifted), each tensor is mapped to normal scores, Φ⁻¹ of its entries' ranks over all networks: the
monotone map that makes any distribution of independent entries the prior's. A tensor that is the same for all networks, such
as biases of zero, says nothing about where training went and is drawn anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.architecture import Weights
from wflib.rng import generator
from wflib.symmetry import decanonicalize
from wflib.zoo import Zoo

__all__ = ["StandardInitial", "prior_std_of", "standard_initial"]

ERRORS = 6
"""Standard errors that a measured moment may lie from the declared one: a zoo's few tensors hardly ever do."""
SAME_DEVIATION, SAME_MEAN, SAME_KURTOSIS = 0.02, 0.02, 0.2
"""What counts as the same however many entries there are; a uniform distribution has a kurtosis of 1.8 instead of 3."""
SAME_START = 0.5
"""Share of a tensor's variance that must lie between networks; independent draws have all of it there."""


@dataclass(frozen=True)
class StandardInitial:
    """Initial weights that ``weights / std`` turns into draws from N(0, 1).

    Attributes:
        weights: Tensors (trajectories, *shape).
        std: What to divide by.
        fresh: Names of tensors that must be drawn anew.
    """

    weights: Weights
    std: float
    fresh: frozenset[str]


def same_deviation(measured: float, declared: float, entries: int) -> bool:
    """Whether two deviations agree within the sampling error of the first."""
    if not measured > 0:
        return False
    return abs(math.log(measured / declared)) <= max(SAME_DEVIATION, ERRORS / math.sqrt(2 * entries))


def is_normal(tensor: Tensor, std: float) -> bool:
    """Whether entries look like independent draws from N(0, std²), by mean, deviation and kurtosis."""
    values = tensor.double()
    count, deviation = values.numel(), values.std(correction=0).item()
    if not same_deviation(deviation, std, count):
        return False
    kurtosis = (values - values.mean()).pow(4).mean().item() / deviation**4
    centred = abs(values.mean().item()) <= deviation * max(SAME_MEAN, ERRORS / math.sqrt(count))
    return centred and abs(kurtosis - 3) <= max(SAME_KURTOSIS, ERRORS * math.sqrt(24 / count))


def differs_between_networks(tensor: Tensor) -> bool:
    """Whether the networks' tensors are draws of their own, rather than one draw, with or without noise, for all.

    The share of variance that lies between networks is compared with ``SAME_START``, or with what few networks of few
    entries may have by chance.
    """
    values = tensor.double().flatten(1)
    networks, entries = values.shape
    total = values.var(correction=0).item()
    if networks < 2 or not total > 1e-12 * values.square().mean().item():
        return False
    between = values.var(0).mean().item()
    chance = ERRORS * math.sqrt(2 / ((networks - 1) * entries))
    return between > total * min(SAME_START, math.exp(-chance))


def normal_scores(tensor: Tensor, random: torch.Generator) -> Tensor:
    """Φ⁻¹((rank − 1/2) / entries), ties in random order: entries of any distribution as those of N(0, 1)."""
    values = tensor.double().flatten()
    shuffled = torch.randperm(len(values), generator=random)
    order = shuffled[values[shuffled].argsort(stable=True)]
    levels = (torch.arange(len(values), dtype=torch.float64) + 0.5) / len(values)
    scores = torch.empty_like(values).scatter_(0, order, math.sqrt(2) * torch.erfinv(2 * levels - 1))
    return scores.view(tensor.shape).to(tensor.dtype)


def standard_initial(zoo: Zoo, prior_std: float) -> StandardInitial:
    """Initial weights as draws from N(0, 1): as they are, over ``prior_std``, or by normal scores of each tensor.

    Args:
        zoo: With initial weights.
        prior_std: Deviation that the prior is made of.

    Returns:
        The weights, what to divide them by, and which tensors to draw anew.

    Raises:
        ValueError: No initial weights, or the same ones for all networks.
    """
    if zoo.initial is None:
        raise ValueError(
            "flow.coupling: initialization needs a zoo with initial weights, this one has none; "
            "choose flow.coupling: independent or ot."
        )
    same = frozenset(name for name, tensor in zoo.initial.items() if not differs_between_networks(tensor))
    if len(same) == len(zoo.initial):
        name, tensor = next(iter(zoo.initial.items()))
        values = tensor.double().flatten(1)
        between = values.var(0, correction=int(len(values) > 1)).mean().sqrt().item()
        raise ValueError(
            "flow.coupling: initialization expected networks with initial weights of their own, distributed as the prior; "
            f"found {len(values)} of nearly the same: {name} deviates by {between:.3g} between networks, by "
            f"{values.std(correction=0).item():.3g} between all its entries; choose flow.coupling: independent."
        )
    if all(name not in same and is_normal(tensor, prior_std) for name, tensor in zoo.initial.items()):
        return StandardInitial(zoo.initial, prior_std, same)
    random = generator(0, "flow", "initial")
    scores = {name: tensor if name in same else normal_scores(tensor, random) for name, tensor in zoo.initial.items()}
    return StandardInitial(scores, 1.0, same)


def prior_std_of(zoo: Zoo) -> tuple[float, str | None]:
    """Deviation of the initial weights that a flow's prior is made of, and what it was measured from.

    What the zoo declares, unless its own initial weights deviate otherwise; else their root mean square; else that of all
    its networks' weights, as ordinary networks. None was measured where the declared one counts.

    Raises:
        ValueError: All weights are zero.
    """
    declared = zoo.init_std
    if zoo.initial is not None:
        flat = zoo.initial_architecture.flatten(zoo.initial)
        measured = flat.double().square().mean().sqrt().item()
        if declared is not None and same_deviation(measured, declared, flat.numel()):
            return declared, None
        if measured > 0:
            return measured, "initial weights"
    elif declared is not None:
        return declared, None
    architecture, weights = zoo.architecture, zoo.weights
    if zoo.form == "canonical":
        architecture, weights = decanonicalize(architecture, weights, zoo.record)
    measured = architecture.flatten(weights).double().square().mean().sqrt().item()
    if not measured > 0:
        raise ValueError("flow: expected a zoo with weights other than zero, to choose the prior's width by; found none.")
    return measured, "weights"
