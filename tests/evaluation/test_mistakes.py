"""Mistakes packed eight a byte are the same mistakes."""

from __future__ import annotations

import pytest
import torch

from tests.cases import random_networks
from wflib.architecture import mlp
from wflib.evaluation import largest_error_overlap, mistakes, training_mistakes
from wflib.rng import generator
from wflib.tasks import Split

NETWORKS = random_networks(mlp([3, 5, 2]), 21).to(torch.float32)
RANDOM = generator(0, "mistakes")
SPLIT = Split(torch.randn(13, 3, generator=RANDOM), torch.randint(2, (13,), generator=RANDOM))


@pytest.mark.parametrize("own", [False, True])
def test_packed_mistakes_overlap_like_others(monkeypatch, own):
    plain = training_mistakes(NETWORKS, SPLIT)
    monkeypatch.setattr(mistakes, "UNPACKED", 21 * 13 - 1)
    packed = training_mistakes(NETWORKS, SPLIT, chunk=4)
    assert isinstance(packed, mistakes.PackedMistakes)
    assert packed.packed.shape == (21, 2)
    assert len(packed) == 21
    assert torch.equal(packed[3:17], plain[3:17])
    assert plain.any()
    assert not plain.all()
    runs = torch.arange(21) // 3
    clusters = (runs, runs) if own else (None, None)
    assert torch.equal(
        largest_error_overlap(plain, packed.to(plain.device), *clusters), largest_error_overlap(plain, plain, *clusters)
    )
