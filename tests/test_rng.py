"""Random streams depend on the seed and the names, and on nothing else."""

from __future__ import annotations

import ast
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch

from tests.generators import complaints, draws_elsewhere
from wflib.rng import generator, permutations, seed_of


def draws(*key: int | str) -> torch.Tensor:
    return torch.rand(64, generator=generator(*key), dtype=torch.float64)


@pytest.mark.parametrize("key", [(0,), (0, "zoo"), (7, "flow", "batches"), (2**31 - 1, "flow", 3)])
def test_the_same_key_gives_the_same_numbers(key):
    first = draws(*key)
    torch.manual_seed(1)
    torch.rand(5)
    generator(key[0], "another consumer")
    assert torch.equal(draws(*key), first)


def test_other_keys_give_other_numbers():
    keys = [
        (0,),
        (1,),
        (0, "a"),
        (0, "b"),
        (1, "a"),
        (0, "a", "b"),
        (0, "b", "a"),
        (0, "ab"),
        (0, "a", 0),
        (0, "a", 1),
        (10, "a"),
    ]
    for one, other in combinations(keys, 2):
        assert not torch.equal(draws(*one), draws(*other)), (one, other)


def test_streams_of_two_names_are_uncorrelated():
    a, b = (torch.randn(20_000, generator=generator(0, name), dtype=torch.float64) for name in "ab")
    assert abs(float((a * b).mean())) < 4 / 20_000**0.5
    assert abs(float((a * a).mean())) > 4 / 20_000**0.5


def test_global_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    draws(0, "a")
    assert torch.equal(torch.rand(4), expected)


def test_numbers_stay_the_same_over_versions():
    # Golden numbers, drawn with torch 2.13.0 on the CPU: a change of them would silently change every result.
    drawn = torch.randint(0, 1_000_000, (3,), generator=generator(0, "zoo", "init"))
    assert drawn.tolist() == [372001, 259895, 207909]


@pytest.mark.parametrize("length", [1, 2, 3, 64, 65, 40_000])
def test_rows_are_permutations_that_depend_on_their_number_alone(length):
    found = permutations(5, torch.arange(6), length)
    assert torch.equal(found.sort(1).values, torch.arange(length).expand(6, -1))
    assert torch.equal(permutations(5, torch.tensor([4, 1]), length), found[[4, 1]])
    assert length < 64 or not any(torch.equal(one, other) for one, other in combinations(found, 2))
    assert length < 64 or not torch.equal(permutations(6, torch.arange(6), length), found)


def test_permutations_are_uniform():
    """Of all 24 of four things, and of where each of 455 lies; expected deviations are those of independent draws."""
    rows = 24_000
    codes = permutations(seed_of(0, "orders"), torch.arange(rows), 4) @ torch.tensor([64, 16, 4, 1])
    counts = codes.unique(return_counts=True)[1].double()
    assert len(counts) == 24
    assert float(((counts - rows / 24) ** 2 / (rows / 24)).sum()) < 50  # chi-square of 23 degrees: 1 in 1,000 is above 49.7
    places = permutations(seed_of(0, "places"), torch.arange(2000), 455).argsort(1).double()
    scores = (places.mean(0) - 227) / ((455**2 - 1) / 12 / 2000) ** 0.5
    assert float(scores.square().mean()) == pytest.approx(1, abs=0.3)
    follows = torch.corrcoef(places[:, :40].t()).fill_diagonal_(0)
    assert float(follows.abs().max()) < 0.12


def test_successive_rows_and_seeds_are_unrelated():
    for orders in (
        permutations(9, torch.arange(400), 455),
        torch.cat([permutations(seed, torch.arange(1), 455) for seed in range(400)]),
    ):
        ranks = orders.argsort(1).double()
        follows = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairwise(ranks)])
        assert float((follows * 455**0.5).square().mean()) == pytest.approx(1, abs=0.3)


def test_who_is_given_a_generator_draws_where_it_is():
    assert complaints(Path(__file__).resolve().parents[1] / "wflib") == []


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("torch.rand(3, generator=random)", 1),
        ("[torch.randperm(3, generator=random) for _ in range(2)]", 1),
        ("torch.randint(3, (2,), generator=random).to(x.device)", 1),
        ("torch.randn(3, generator=random, device=random.device)", 0),
        ("torch.randperm(3, generator=generator(0, 'own'))", 0),
        ("torch.rand(3)", 0),
    ],
)
def test_the_law_on_generators_finds_what_breaks_it(call, found):
    for body in (f"    return {call}", f"    def inner():\n        return {call}\n    return inner()"):
        source = f"def draw(x: Tensor, random: torch.Generator | None) -> Tensor:\n{body}"
        assert len(list(draws_elsewhere(ast.parse(source)))) == found
    assert not list(draws_elsewhere(ast.parse(f"def draw(seed: int):\n    random = generator(seed)\n    return {call}")))
