"""Zoos of networks that were trained elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wflib.networks import Networks
from wflib.rng import generator
from wflib.zoo.zoo import Zoo

__all__ = ["held_out_runs", "zoo_from_networks"]


def zoo_from_networks(
    networks: Networks,
    trajectory: Tensor | None = None,
    step: Tensor | None = None,
    held_out: float | Tensor = 0.1,
    *,
    initial: Networks | None = None,
    init_std: float | None = None,
    seed: int = 0,
    metadata: Mapping[str, Any] | None = None,
) -> Zoo:
    """A zoo, as train-zoo would make it, of networks of your own.

    Written by :func:`~wflib.zoo.save_zoo` as ``data/zoo/trained.safetensors`` it is what ``align`` and later stages take.
    Without ``initial`` flows need ``flow.coupling: independent``, ``ot`` or ``equivariant-ot``.

    Args:
        networks: From ``Networks.from_state_dicts`` or ``Networks.load``, which leave diverged networks out when asked to;
            brought to float32.
        trajectory: Training run of each network, (networks,) integers from 0 on; None where each network has its own, as the
            checkpoints of a single run must have, too: whole trajectories are held out. Without one, a warning says which
            networks are copies of others, and where names look like snapshots of fewer runs.
        step: When in its run each network was taken, (networks,) integers; None for the order given.
        held_out: Share of trajectories that no flow sees, between 0 and 1, at least one and never all, drawn by the seed; or
            which networks, (networks,) bool, whole trajectories.
        initial: What training started from, one network for each trajectory: that of trajectory r at index r.
        init_std: Standard deviation that initial weights were drawn with, if they were from one normal distribution; it is
            measured where ``initial`` says otherwise.
        seed: Of the choice of held-out trajectories.
        metadata: Further facts for the file, JSON-serializable.

    Returns:
        The zoo, of form ``trained``.

    Raises:
        ValueError: Labels do not fit the networks, or one trajectory alone.

    Example:
        >>> from wflib.architecture import mlp
        >>> architecture = mlp([3, 4, 2])
        >>> states = [architecture.module().state_dict() for _ in range(20)]
        >>> zoo = zoo_from_networks(Networks.from_state_dicts(architecture, states))
        >>> len(zoo.training_part), len(zoo.held_out_part)
        (18, 2)
    """
    if not isinstance(metadata, Mapping | None):
        raise ValueError(f"zoo_from_networks: metadata expected a mapping, got {metadata!r}.")
    networks, facts = as_float32("networks", networks), {"provenance": "zoo_from_networks", **(metadata or {})}
    if not len(networks):
        raise ValueError("zoo_from_networks: networks expected at least two, got none.")
    if trajectory is None:
        warn_of_runs_that_are_none(networks)
        trajectory = torch.arange(len(networks))
    trajectory = labels("trajectory", trajectory, len(networks))
    step = order_in(trajectory) if step is None else labels("step", step, len(networks))
    if isinstance(held_out, Real):
        held_out = held_out_runs(trajectory, held_out, seed)
    else:
        held_out = as_tensor("held_out", held_out, f"a share between 0 and 1, or ({len(networks)},) bools")
    if init_std is not None:
        facts["init_std"] = init_std
    zoo = Zoo(
        networks=networks,
        trajectory=trajectory,
        step=step,
        held_out=held_out,
        form="trained",
        initial=None if initial is None else as_float32("initial", initial),
        metadata=facts,
    )
    zoo.require_both_parts("zoo_from_networks")
    return zoo


def warn_of_runs_that_are_none(networks: Networks) -> None:
    """Say, as :func:`wflib.zoo.read` does, what hardly is a run of its own: copies, and names like those of snapshots."""
    from wflib.zoo.sources.leaving_out import copies, copies_text, fingerprints  # these import this module
    from wflib.zoo.sources.state_dicts import doubts

    runs = networks.names or tuple(str(place) for place in range(len(networks)))
    rows = pd.DataFrame({"run": runs, "step": 0, "initial": False})
    for doubt in doubts(networks.names or (), networks.names or ()):
        warnings.warn(
            f"zoo_from_networks: {doubt.partition(' Say zoo.read')[0]} Say by trajectory= which run each is of "
            "(trajectory=torch.arange(len(networks)) where each is one), or let wflib.zoo.read take them by a pattern.",
            stacklevel=3,
        )
    if found := copies(rows, fingerprints(networks.weights)):
        warnings.warn(f"zoo_from_networks: {copies_text([one.removesuffix(' 0') for one in found])}", stacklevel=3)


def as_float32(name: str, networks: Networks) -> Networks:
    """Detached networks on the CPU."""
    if not isinstance(networks, Networks):
        raise ValueError(
            f"zoo_from_networks: {name} expected Networks, got a {type(networks).__name__}; Networks.from_state_dicts makes "
            "them of state dicts."
        )
    return networks.map(lambda tensor: tensor.detach().cpu().float())


def as_tensor(name: str, given: Any, expected: str) -> Tensor:
    """A tensor on the CPU of what came as one, as a list, as an array or as a column of a table, in its order."""
    try:
        return given.cpu() if isinstance(given, Tensor) else torch.as_tensor(np.array(given, order="C"))
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"zoo_from_networks: {name} expected {expected}, got a {type(given).__name__} that holds others."
        ) from error


def labels(name: str, given: Tensor, networks: int) -> Tensor:
    """Integers, one for each network."""
    expected = f"({networks},) integers, one for each network"
    found = as_tensor(name, given, expected)
    if found.shape != (networks,) or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"zoo_from_networks: {name} expected {expected}, got {tuple(found.shape)} {found.dtype}.")
    return found.long()


def order_in(trajectory: Tensor) -> Tensor:
    """How many networks of the same trajectory come before each."""
    order = torch.argsort(trajectory, stable=True)
    counts = torch.unique_consecutive(trajectory[order], return_counts=True)[1]
    place = torch.cat([torch.arange(count) for count in counts.tolist()])
    return torch.empty_like(place).scatter_(0, order, place)


def held_out_runs(trajectory: Tensor, share: float, seed: int) -> Tensor:
    """Which networks are of the share of trajectories that is held out, (networks,) bool."""
    runs = torch.unique(trajectory)
    if not 0 < share < 1:
        raise ValueError(f"zoo_from_networks: held_out expected a share between 0 and 1, or a bool tensor, got {share}.")
    if len(runs) < 2:
        raise ValueError(
            f"zoo_from_networks: expected at least two trajectories, of which one can be held out whole, got {len(runs)}; "
            "leave trajectory out to count every network as one of its own."
        )
    count = min(max(1, round(len(runs) * share)), len(runs) - 1)
    chosen = runs[torch.randperm(len(runs), generator=generator(seed, "zoo", "held-out"))[:count]]
    return torch.isin(trajectory, chosen)
