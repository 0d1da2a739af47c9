"""Random numbers: one explicit generator per purpose, derived from a seed by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["generator", "global_numbers_from", "permutations", "random_order", "seed_of"]

SPACING = 0x9E3779B97F4A7C15 - 2**64
"""Between neighbours of a stream before they are scrambled, of 64 bits: splitmix64's."""
ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
NUMBERS_AT_ONCE = 2**15
"""Of permutations, so that what they are made of stays in a cache."""


def seed_of(seed: int, *names: str | int) -> int:
    """A number from 0 below 2^63 that depends on the seed and the names only."""
    digest = hashlib.sha256("/".join([str(seed), *map(str, names)]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


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
    return torch.Generator(device=device).manual_seed(seed_of(seed, *names))


def random_order(count: int, generator: torch.Generator) -> Tensor:
    """A random order of so many things, int64 on the CPU, from a generator of any device."""
    return torch.randperm(count, generator=generator, device=generator.device).cpu()


def scrambled(numbers: Tensor) -> Tensor:
    """splitmix64's function of 64 bits (Steele, Lea and Flood 2014), in place."""
    for shift, factor in ROUNDS:
        numbers ^= (numbers >> shift).bitwise_and_(2 ** (64 - shift) - 1)
        numbers *= factor
    numbers ^= (numbers >> 31).bitwise_and_(2**33 - 1)
    return numbers


def permutations(seed: int, rows: Tensor, length: int) -> Tensor:
    """A random permutation for each row number, which depends on seed and number alone: any share of rows gets its own.

    Example i of row r has the key s(s(seed + r G) + i G), with splitmix64's function s and spacing G, whose last bits are
    replaced by i; keys are sorted as signed numbers. Two are alike but for i with a probability below length / 2^63.

    Args:
        seed: From :func:`seed_of`.
        rows: Their numbers, int64, (rows,), on the device where permutations are made; they are the same on all.
        length: How many things are permuted.

    Returns:
        int64, (rows, length).
    """
    bits = max(1, (length - 1).bit_length())
    index = torch.arange(length, device=rows.device)
    spaced, starts = index * SPACING, scrambled(rows * SPACING + seed)
    found = torch.empty(len(rows), length, dtype=torch.int64, device=rows.device)
    some = max(1, NUMBERS_AT_ONCE // length) if rows.device.type == "cpu" else max(1, len(rows))
    for keys, start in zip(found.split(some), starts.split(some), strict=True):
        scrambled(torch.add(start.unsqueeze(1), spaced, out=keys)).bitwise_right_shift_(bits).bitwise_left_shift_(bits)
        keys |= index
        if keys.device.type == "cpu":
            keys.numpy().sort(1)  # by the processor's vectors, as torch's is not
        else:
            keys.copy_(keys.sort(1).values)
        keys &= 2**bits - 1
    return found


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
