"""Linear assignment against brute force."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from wflib.rng import generator
from wflib.symmetry.assignment import solve_assignments


def total(gains: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return gains.gather(2, chosen.unsqueeze(2)).sum((1, 2))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_no_permutation_gains_more(size):
    gains = torch.randn(20, size, size, generator=generator(0, "gains", size), dtype=torch.float64)
    found = solve_assignments(gains)
    assert torch.equal(found.sort(1).values, torch.arange(size).expand(20, -1))
    every = torch.stack([total(gains, torch.tensor(p).expand(20, -1)) for p in permutations(range(size))])
    torch.testing.assert_close(total(gains, found), every.max(0).values, rtol=1e-10, atol=1e-10)
    if size > 1:
        assert bool((every.min(0).values < total(gains, found) - 1e-6).all())


def test_the_greedy_choice_is_not_enough():
    gains = torch.tensor([[[10.0, 9.0], [9.0, 0.0]]])
    assert solve_assignments(gains).tolist() == [[1, 0]]
    assert total(gains, torch.tensor([[0, 1]])) < total(gains, torch.tensor([[1, 0]]))


def test_no_problems_have_no_solutions():
    assert solve_assignments(torch.zeros(0, 3, 3)).shape == (0, 3)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (3,)])
def test_gains_that_are_not_square_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected gains \(problems, size, size\)"):
        solve_assignments(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gains_that_are_not_finite_are_refused(value):
    gains = torch.zeros(2, 3, 3)
    gains[1, 2, 0] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        solve_assignments(gains)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float32, torch.int64])
def test_gains_of_every_format_have_the_same_solution(dtype):
    gains = torch.randint(-8, 8, (20, 4, 4), generator=generator(0, "formats"))
    assert torch.equal(solve_assignments(gains.to(dtype)), solve_assignments(gains.double()))
