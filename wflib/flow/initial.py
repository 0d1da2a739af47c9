"""Initial weights as draws from the prior, whatever distribution a zoo's training began with.

A zoo may say with which deviation its weights were drawn, but its own initial weights are what counts. Where they look like
N(0, prior_std²), as train-zoo's do, they are taken as they are. Where they do not (PyTorch's default, He's, Glorot's;
uniform, truncated, shifted), each tensor is mapped to normal scores, Φ⁻¹ of its entries' ranks over all networks: the
monotone map that makes any distribution of independent entries the prior's. Entries of one tensor that differ in their
means or deviations, or depend on each other (orthogonal matrices, pretrained weights with noise, networks of different
scales), are of another prior, and refused. A tensor that is the same for all networks, such as biases of zero, says nothing
about where training went and is drawn anew.

Where all weights begin as N(0, σ²), σ is all that a prior needs. Otherwise it has a mean and a deviation of each tensor:
those of the initial weights where there are any that vary, else those of the zoo's own networks.

Of initial weights that memory does not hold what they look like is judged by a random part of them, while the prior's
moments are those of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wflib.flow.coordinates import Coordinates
from wflib.flow.prior import Moments
from wflib.networks import Networks
from wflib.rng import generator, random_order
from wflib.zoo import AnyZoo, StoredNetworks, fits_memory
from wflib.zoo.base import at_a_time, networks_in_memory

__all__ = ["StandardInitial", "initialization_of", "standard_initial"]

ERRORS = 6
"""Standard errors that a measured moment may lie from the declared one: a zoo's few tensors hardly ever do."""
SAME_DEVIATION, SAME_MEAN, SAME_KURTOSIS = 0.02, 0.02, 0.2
"""What counts as the same however many entries there are; a uniform distribution has a kurtosis of 1.8 instead of 3."""
LEAST_SPREAD = 1e-3
"""Share of a tensor's mean that its deviation in the prior is at least: a prior has a density."""
SAME_START = 0.5
"""Share of a tensor's variance that must lie between networks; independent draws have all of it there."""


@dataclass(frozen=True)
class StandardInitial:
    """Initial networks whose weights over ``std`` are draws from N(0, 1).

    Attributes:
        networks: One for each trajectory.
        std: What to divide by.
        fresh: Names of tensors that must be drawn anew.
    """

    networks: Networks
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
    shuffled = random_order(len(values), random)
    order = shuffled[values[shuffled].argsort(stable=True)]
    levels = (torch.arange(len(values), dtype=torch.float64) + 0.5) / len(values)
    scores = torch.empty_like(values).scatter_(0, order, math.sqrt(2) * torch.erfinv(2 * levels - 1))
    return scores.view(tensor.shape).to(tensor.dtype)


def cube_root_score(ratio: Tensor, error: float) -> Tensor:
    """Standard score of a mean of squares over its expectation, of a given relative standard error (Wilson and Hilferty)."""
    return (ratio.pow(1 / 3) - (1 - error**2 / 9)) / (error / 3)


def require_standard(found: StandardInitial, distinct: int) -> None:
    """Refuse weights that are no independent draws from N(0, 1), entry by entry of each tensor, over networks.

    Each entry has the mean zero and the deviation one, and the mean square of a network's m entries varies by 2 / m.

    Args:
        found: What is to be draws.
        distinct: How many different networks there are.

    Raises:
        ValueError: Names the tensor and what is wrong with it.
    """
    for name, tensor in found.networks.weights.items():
        if name in found.fresh:
            continue
        squares = (values := tensor.double().flatten(1) / found.std).square()
        entries, error = values.shape[1], math.sqrt(2 / distinct)
        mean, square = values.mean(0).abs().max().item(), squares.mean(0)
        scores = torch.where(square.log().abs() / 2 > SAME_DEVIATION, cube_root_score(square, error).abs(), 0.0)
        spread = squares.mean(1).var(correction=0) * entries / 2
        score = cube_root_score(spread, math.sqrt((2 + 12 / entries) / distinct)).abs().item()
        wrong = ""
        if mean > max(SAME_MEAN, ERRORS / math.sqrt(distinct)):
            wrong = f"an entry whose mean over networks is {mean:.3g} of the prior's deviations"
        elif scores.max() > ERRORS:
            wrong = f"an entry that deviates by {square[scores.argmax()].sqrt().item():.3g} of the prior's deviations"
        elif abs(spread.item() - 1) > SAME_KURTOSIS and score > ERRORS:
            wrong = (
                f"entries that depend on each other (networks' mean squares vary {spread.item():.3g} times as they should)"
            )
        if wrong:
            raise ValueError(
                "flow.coupling: initialization expected initial weights distributed as the prior, with independent entries "
                f"that are alike in each tensor; found {name} with {wrong}; choose flow.coupling: independent or ot."
            )


def judged_by(initial: Networks | StoredNetworks) -> Networks:
    """All initial weights, or random networks of them, as many as memory shall hold."""
    count, dimension = len(initial), initial.architecture.dimension
    if fits_memory(count, dimension):
        return initial[:] if isinstance(initial, StoredNetworks) else initial
    order = torch.randperm(count, generator=generator(0, "flow", "judged-by"))
    return initial[order[: max(2, networks_in_memory(dimension))].sort().values]


def standard_initial(zoo: AnyZoo, initialization: float | Moments) -> StandardInitial:
    """Initial weights as draws from N(0, 1): as they are, over the prior's σ, or by normal scores of each tensor.

    Args:
        zoo: With initial weights.
        initialization: What the prior is made of: σ, or each tensor's moments.

    Returns:
        The networks, what to divide their weights by, and which tensors to draw anew.

    Raises:
        ValueError: No initial weights, the same ones for all networks, or ones of another prior.
    """
    if zoo.initial is None:
        raise ValueError(
            "flow.coupling: initialization needs a zoo with initial weights, this one has none; "
            "choose flow.coupling: independent or ot."
        )
    judged = judged_by(zoo.initial)
    initial = judged.weights
    same = frozenset(name for name, tensor in initial.items() if not differs_between_networks(tensor))
    if len(same) == len(initial):
        name, tensor = next(iter(initial.items()))
        values = tensor.double().flatten(1)
        between = values.var(0, correction=int(len(values) > 1)).mean().sqrt().item()
        raise ValueError(
            "flow.coupling: initialization expected networks with initial weights of their own, distributed as the prior; "
            f"found {len(values)} of nearly the same: {name} deviates by {between:.3g} between networks, by "
            f"{values.std(correction=0).item():.3g} between all its entries; choose flow.coupling: independent."
        )
    distinct = len(torch.unique(judged.flat.sum(1)))
    one_deviation = initialization if isinstance(initialization, float) and not same else None
    if one_deviation is not None and all(is_normal(tensor, one_deviation) for tensor in initial.values()):
        found = StandardInitial(judged, one_deviation, same)
        require_standard(found, distinct)
        return replace(found, networks=zoo.initial)
    if len(judged) < len(zoo.initial):
        raise ValueError(
            "flow.coupling: initialization expected initial weights that are draws from one N(0, σ²), or at most "
            f"{len(judged)} networks of others, whose weights are ranked together; found {len(zoo.initial)}; choose "
            "flow.coupling: independent or ot."
        )
    random = generator(0, "flow", "initial")
    scores = {name: tensor if name in same else normal_scores(tensor, random) for name, tensor in initial.items()}
    found = StandardInitial(judged.with_weights(scores), 1.0, same)
    require_standard(found, distinct)
    return found


def initialization_of(zoo: AnyZoo, coordinates: Coordinates) -> tuple[float | Moments, str | None]:
    """What a flow's prior is made of, and what it was measured from.

    The declared σ of N(0, σ²), unless the zoo's own initial weights say otherwise; else the σ that they have, where it is
    one for all; else moments of each tensor of the coordinates. Nothing was measured where the declared one counts.

    Args:
        zoo: Networks, with or without initial weights.
        coordinates: Of the flow that learns them.

    Raises:
        ValueError: All weights are zero.
    """
    declared = zoo.init_std
    if zoo.initial is None:
        return (declared, None) if declared is not None else (moments_of(zoo, coordinates), "weights")
    judged = judged_by(zoo.initial)
    flat = judged.flat.double()
    measured = flat.square().mean().sqrt().item()
    agreed = declared if declared is not None and same_deviation(measured, declared, flat.numel()) else None
    if all(is_normal(tensor, measured if agreed is None else agreed) for tensor in judged.weights.values()):
        return (measured, "initial weights") if agreed is None else (agreed, None)
    return moments_of(zoo, coordinates), "initial weights" if measured > 0 else "weights"


def moments_of(zoo: AnyZoo, coordinates: Coordinates) -> Moments:
    """Mean and deviation of each tensor of the coordinates, at the beginning of training where networks differ there.

    Of all networks, however many: part by part.

    Raises:
        ValueError: All weights are zero.
    """
    zoo = zoo.counted_part
    weights, varying = pooled_moments(coordinates, (part.networks for part in zoo.chunks())), set[str | None]()
    if not any(bool(tensor.any()) for part in zoo.chunks() for tensor in part.weights.values()):
        raise ValueError("flow: expected a zoo with weights other than zero, to choose the prior's width by; found none.")
    if zoo.initial is not None:
        varying = {name for name, tensor in judged_by(zoo.initial).weights.items() if differs_between_networks(tensor)}
        varying = varying - set(zoo.architecture.statistics) | ({zoo.architecture.log_scale} if varying else set())
        count = at_a_time(len(zoo.initial), zoo.architecture.dimension)
        start = pooled_moments(coordinates, (zoo.initial[at : at + count] for at in range(0, len(zoo.initial), count)))
    found = {}
    for name, moments in weights.items():
        mean, variance = start[name] if name in varying else moments
        found[name] = (mean, max(math.sqrt(variance), LEAST_SPREAD * abs(mean), LEAST_SPREAD**2))
    return found


def pooled_moments(coordinates: Coordinates, parts: Iterable[Networks]) -> Moments:
    """Mean and variance of each tensor of the coordinates over all parts, in double precision.

    Of parts of n_i entries with means m_i and variances v_i: m = Σ n_i m_i / n, v = Σ n_i (v_i + (m_i − m)²) / n.
    """
    entries: list[int] = []
    found: dict[str, list[tuple[float, float]]] = {}
    for part in parts:
        entries.append(len(part))
        for name, tensor in coordinates.chart.unflatten(coordinates.encode(part)).items():
            values = tensor.double()
            found.setdefault(name, []).append((values.mean().item(), values.var(correction=0).item()))
    shares = [count / sum(entries) for count in entries]
    moments = {}
    for name, each in found.items():
        mean = sum(share * m for share, (m, _) in zip(shares, each, strict=True))
        moments[name] = (mean, sum(share * (v + (m - mean) ** 2) for share, (m, v) in zip(shares, each, strict=True)))
    return moments
