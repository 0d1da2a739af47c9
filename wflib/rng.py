"""Random numbers: one explicit generator per purpose, derived from a seed by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["generator", "global_numbers_from"]


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


@contextmanager
def global_numbers_from(source: torch.Generator) -> Iterator[None]:
    """For packages that draw from torch's global generator: inside, a seed drawn from ``source`` decides what they draw.

    Outside, global numbers go on as if nothing had been drawn.

    Args:
        source: Advanced by one number.

    Yields:
        Nothing.
    """
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
