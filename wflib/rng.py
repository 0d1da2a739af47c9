"""Random numbers: one explicit generator per purpose, derived from a seed by name."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["generator"]


def generator(seed: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator whose stream depends on the seed and the names only.

    Streams of different names are independent, so adding a consumer never shifts the numbers of another one.

    Args:
        seed: The seed of the stage.
        *names: What the numbers are for, for example ``("flow", "batches")``.
        device: Where the numbers are drawn.

    Returns:
        A freshly seeded generator.

    Example:
        >>> bool(torch.rand((), generator=generator(0, "a")) == torch.rand((), generator=generator(0, "a")))
        True
    """
    digest = hashlib.sha256("/".join([str(seed), *map(str, names)]).encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
