"""Which of many networks hold NaN or infinity, and the sentence that refuses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wflib.networks.names import listed

__all__ = ["LEAVE_OUT", "broken_networks", "finite_networks", "raised", "require_finite", "told"]

LEAVE_OUT = "leave those networks out with wflib.networks.finite_networks"
"""What to do about them."""
CHUNK = 1024
"""Networks that are looked at together: looking at all at once would take as much memory as they do."""


def raised(tensor: Tensor) -> Tensor:
    """Numbers of eight bits, with which torch does not compute, in the shortest precision that holds all of them exactly."""
    if not tensor.is_floating_point() or tensor.dtype.itemsize > 1:
        return tensor
    return tensor.to(torch.float32 if tensor.dtype == torch.float8_e8m0fnu else torch.float16)


def finite_networks(weights: Mapping[str, Tensor]) -> Tensor:
    """Which networks hold neither NaN nor infinity; ``weights[name][finite_networks(weights)]`` leaves the others out.

    Args:
        weights: Tensors of shape (networks, *shape).

    Returns:
        (networks,) bool.
    """
    return torch.stack(
        [
            torch.cat([raised(part).isfinite().unsqueeze(-1).flatten(1).all(1) for part in tensor.split(CHUNK)])
            for tensor in weights.values()
        ]
    ).all(0)


def broken_networks(weights: Mapping[str, Tensor]) -> dict[int, list[str]]:
    """Networks with NaN or infinity → names of the tensors that hold it."""
    found: dict[int, list[str]] = {}
    for name, tensor in weights.items():
        for index in (~finite_networks({name: tensor})).nonzero().flatten().tolist():
            found.setdefault(index, []).append(name)
    return dict(sorted(found.items()))


def told(broken: Mapping[int, list[str]], names: Sequence[str] | None = None) -> str:
    """Networks, by number or by name, and their tensors for a sentence."""
    return listed(f"{names[index] if names else index} ({listed(tensors, 3)})" for index, tensors in broken.items())


def require_finite(weights: Mapping[str, Tensor], who: str, remedy: str, names: Sequence[str] | None = None) -> None:
    """Refuse NaN and infinity by the networks that hold them.

    Args:
        weights: Tensors of shape (networks, *shape).
        who: Who asks, the sentence's beginning.
        remedy: Its end.
        names: What networks are called; None for their numbers.

    Raises:
        ValueError: Some network is not finite; names networks and tensors.
    """
    if broken := broken_networks(weights):
        count = len(next(iter(weights.values())))
        raise ValueError(
            f"{who}: expected finite numbers, found NaN or infinity in {len(broken)} of {count} networks: "
            f"{told(broken, names)}; {remedy}."
        )
